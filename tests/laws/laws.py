"""The laws that every mixer keeps, each a function that raises `AssertionError` where a mixer breaks it.

They take a mixer and concrete arrays, so that the same function serves every registered mixer, hand-made variants, and the
deliberately broken mixers that show that each law can fail.
"""

import functools
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
import safetensors.numpy

import dualform
from dualform.mixers import AbstractMixer, registry

EXACT = 1e-10  # relative, in float64: two orders of summation of up to some hundred terms of mixed sign
ROUNDING = 1e-12  # relative, in float64: the same sums, where only the compiler may choose another order
# Relative to float64 with the same (rounded) weights and inputs, over 4,096 tokens. Sums are kept in float32 in both cases;
# bfloat16 adds the rounding of the output to 8 bits, 2^-9 at most for each entry.
BOUNDS = {"float32": 1e-5, "bfloat16": 2.0**-8}
D = 4
TIME = 6
"""Tokens of a short sequence: one length for most laws, so that few programs are compiled."""


@functools.cache
def make(name: str, d: int = D, seed: int = 0, dtype: Any = None) -> AbstractMixer:
    """The registered mixer `name`, of width d, with the weights of `seed`; the same object at every call."""
    return registry()[name](d, key=jr.key(seed), dtype=dtype)


@functools.cache
def sequence(seed: int, time: int, d: int = D) -> jax.Array:
    """Standard normal tokens, (time, d)."""
    return jr.normal(jr.key(seed), (time, d))


def some_state(mixer: AbstractMixer, seed: int) -> Any:
    """The state that another sequence of `TIME` tokens has left."""
    return call(mixer, sequence(seed + 1000, TIME, mixer.d_in))[1]


@eqx.filter_jit
def _call(mixer, x, state, start, mask):
    return mixer(x, state, start=start, mask=mask)


def call(mixer: Any, x, state=None, start=None, mask=None) -> tuple[jax.Array, Any]:
    """The parallel form of a mixer or a model.

    A flag that is given brings the other along, and a state is always given: few programs.
    """
    return _call(mixer, x, mixer.init_state() if state is None else state, *_both(len(x), start, mask))


def _both(time: int, start, mask) -> tuple[Any, Any]:
    """Both flags as arrays where one is given: no document begins, and every token is there; else none."""
    if start is None and mask is None:
        return None, None
    given = lambda flags, default: jnp.full(time, default) if flags is None else jnp.asarray(flags)
    return given(start, False), given(mask, True)


@eqx.filter_jit
def _step(mixer, x_t, state, start, mask):
    return mixer.step(x_t, state, start=start, mask=mask)


@eqx.filter_jit
def _dual_form(mixer, x, state, start, mask):
    return dualform.dual_form(mixer, x, state, start=start, mask=mask)


def step_by_step(mixer: AbstractMixer, x, state=None, start=None, mask=None) -> tuple[np.ndarray, Any]:
    """The recurrent form: one token after the other."""
    state, outputs = mixer.init_state() if state is None else state, []
    start, mask = _both(len(x), start, mask)
    flag = lambda flags, t: None if flags is None else jnp.asarray(flags[t])
    for t in range(len(x)):
        y_t, state = _step(mixer, x[t], state, flag(start, t), flag(mask, t))
        outputs.append(np.asarray(y_t))
    return np.stack(outputs), state


def check_close(found: Any, expected: Any, tolerance: float, what: str) -> None:
    """Same structure, shapes and dtypes, all finite, and a relative error (Euclidean, leaf by leaf) within `tolerance`."""
    assert jtu.tree_structure(found) == jtu.tree_structure(expected), f"{what}: another structure"
    for a, b in zip(jtu.tree_leaves(found), jtu.tree_leaves(expected), strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape, f"{what}: {a.dtype}{a.shape} against {b.dtype}{b.shape}"
        a, b = (np.asarray(v).astype(np.complex128 if np.iscomplexobj(v) else np.float64) for v in (a, b))
        assert np.isfinite(a).all() and np.isfinite(b).all(), f"{what}: not finite"
        error = float(np.linalg.norm((a - b).ravel())) / (float(np.linalg.norm(b.ravel())) or 1.0)
        assert error <= tolerance, f"{what}: relative error {error:.1e}, more than {tolerance:.0e}"


def check_same_bits(found: Any, expected: Any, what: str) -> None:
    """The same structure, and in every leaf the same dtype, shape and bytes."""
    assert jtu.tree_structure(found) == jtu.tree_structure(expected), f"{what}: another structure"
    for a, b in zip(jtu.tree_leaves(found), jtu.tree_leaves(expected), strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape, f"{what}: {a.dtype}{a.shape} against {b.dtype}{b.shape}"
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes(), f"{what}: not the same to the bit"


def steps_give_the_parallel_form(mixer: AbstractMixer, x, split: int) -> None:
    """Law 1: the step loop gives the parallel form, also after a prefill of the first `split` tokens; so does a second call."""
    y, state = call(mixer, x)
    check_close(step_by_step(mixer, x), (np.asarray(y), state), EXACT, "steps from the first token")
    if 0 < split < len(x):
        y_before, carried = call(mixer, x[:split])
        check_close((y_before, carried), (y[:split], step_by_step(mixer, x[:split])[1]), EXACT, "prefill")
        check_close(
            step_by_step(mixer, x[split:], carried), (np.asarray(y[split:]), state), EXACT, "steps after a prefill"
        )
        check_close(call(mixer, x[split:], carried), (y[split:], state), EXACT, "a second call")


def nothing_comes_from_the_future(mixer: AbstractMixer, x, t: int, seed: int) -> None:
    """Law 3: changing x[t] and all after it changes no output before t, and does change the one at t."""
    other = x.at[t:].set(jr.normal(jr.key(seed + 2000), x[t:].shape))
    y, y_other = call(mixer, x)[0], call(mixer, other)[0]
    if t > 0:
        check_close(y_other[:t], y[:t], ROUNDING, f"outputs before a change at {t}")
    assert bool(jnp.any(y_other[t] != y[t])), f"the output at {t} does not depend on its own token"


def contributions_sum_to_the_output(mixer: AbstractMixer, x, state=None, start=None, mask=None) -> None:
    """Law 4: contributions and bias sum to the output; what cannot contribute is exactly 0; shares sum to 1 - the bias's."""
    y, _ = call(mixer, x, state, start, mask)
    form = _dual_form(mixer, x, mixer.init_state() if state is None else state, *_both(len(x), start, mask))
    check_close(form.y, y, ROUNDING, "the dual form's own output")
    check_close(form.contributions.sum(1) + form.bias, y, EXACT, "the sum of contributions and bias")
    assert float(form.residual) <= EXACT, f"residual {float(form.residual):.1e}"
    seen = _may_take(len(x), start, mask)
    assert not np.asarray(form.contributions)[~seen].any(), "a token takes from one that it cannot see"
    assert not np.asarray(form.weights)[:, ~seen].any(), "a weight lies where nothing can be seen"
    power = jnp.sum(y * y, axis=-1)
    bias_share = jnp.sum(form.bias * y, axis=-1)
    check_close(form.aggregate()[0].sum(-1) * power, power - bias_share, EXACT, "the rows of aggregate()")


def _may_take(time: int, start, mask) -> np.ndarray:
    """(t, s): True where s <= t, both are there, and no document begins in between; token by token, as one would say it."""
    here = lambda s: mask is None or bool(mask[s])
    begins = lambda s: start is not None and bool(start[s]) and here(s)
    return np.array(
        [
            [s <= t and here(s) and here(t) and not any(begins(u) for u in range(s + 1, t + 1)) for s in range(time)]
            for t in range(time)
        ]
    )


def absent_tokens_change_nothing(mixer: AbstractMixer, x, state, mask) -> None:
    """Law 5a: where mask is False, NaN or not, nothing is read and nothing moves; the rest is as if the gaps were not there."""
    holes = jnp.where(mask[:, None], x, jnp.nan)
    y, final = call(mixer, holes, state, None, mask)
    assert not np.asarray(y)[~mask].any(), "an absent token has an output that is not 0"
    if not mask.any():
        return check_same_bits(final, state, "the state after absent tokens only")
    y_kept, final_kept = step_by_step(mixer, x[mask], state)
    check_close((np.asarray(y)[mask], final), (y_kept, final_kept), EXACT, "the tokens that are there")
    check_close(
        step_by_step(mixer, holes, state, None, mask), (np.asarray(y), final), EXACT, "steps over absent tokens"
    )
    last = int(np.flatnonzero(mask)[-1])
    through = call(mixer, holes, state, None, mask & (np.arange(len(x)) <= last))[1]
    check_same_bits(through, final, "the state through absent tokens at the end")


def _score(mixer, x, state, start, mask, weight):
    y, final = mixer(x, state, start=start, mask=mask)
    powers = [jnp.sum(weight * y * y), *(jnp.sum(jnp.abs(leaf) ** 2) for leaf in jtu.tree_leaves(final))]
    return sum(power.astype(float) for power in powers), (y, final)


@eqx.filter_jit
def _values_and_gradients(mixer, x, state, start, mask, weight):
    start, mask = _both(len(x), start, mask)
    score = lambda args: _score(args[0], args[1], args[2], start, mask, weight)
    (_, values), gradients = eqx.filter_value_and_grad(score, has_aux=True)((mixer, x, state))
    return values, gradients


def gradients(mixer: AbstractMixer, x, state=None, start=None, mask=None, weight=None) -> Any:
    """Of the mixer, x and the state: the gradient of the summed squares of the outputs, weighted, and of the last state."""
    weight = jnp.ones((len(x), 1), x.dtype) if weight is None else weight
    return _values_and_gradients(mixer, x, mixer.init_state() if state is None else state, start, mask, weight)[1]


@eqx.filter_jit
def _gradients_of_two_calls(mixer, x, state, split):
    """The gradients of `_score` through two calls, the second of which goes on from the first one's state."""

    def score(args):
        mixer, x, state = args
        y_before, carried = mixer(x[:split], state)
        y_after, final = mixer(x[split:], carried)
        y = jnp.concatenate([y_before, y_after])
        powers = [jnp.sum(y * y), *(jnp.sum(jnp.abs(leaf) ** 2) for leaf in jtu.tree_leaves(final))]
        return sum(power.astype(float) for power in powers)

    return eqx.filter_grad(score)((mixer, x, state))


def gradients_pass_through_the_state(mixer: AbstractMixer, x, state, split: int) -> None:
    """Law 1b: of weights, tokens and first state, the gradients through a carried state are those of one call."""
    expected = gradients(mixer, x, state, *_both(len(x), jnp.zeros(len(x), bool), None))
    check_close(_gradients_of_two_calls(mixer, x, state, split), expected, EXACT, "gradients through a carried state")


def absent_tokens_leave_no_gradient(mixer: AbstractMixer, x, state, mask) -> None:
    """Law 5b: NaN in an absent token reaches no gradient, and an absent token gets a gradient of exactly 0."""
    holes = jnp.where(mask[:, None], x, jnp.nan)
    found = gradients(mixer, holes, state, *_both(len(x), None, mask))
    expected = gradients(mixer, x, state, *_both(len(x), None, mask))
    check_close(found, expected, ROUNDING, "gradients with NaN in absent tokens")
    assert not np.asarray(found[1])[~mask].any(), "an absent token has a gradient"


def packed_documents_stay_apart(mixer: AbstractMixer, x, state, start) -> None:
    """Law 5c: documents packed by `start` give what each gives alone, and pass no gradient to one another."""
    y, final = call(mixer, x, state, start)
    final_alone, edges = None, [0, *[t for t in range(1, len(x)) if start[t]], len(x)]
    for left, right in zip(edges[:-1], edges[1:], strict=True):
        first = state if left == 0 and not start[0] else None
        y_alone, final_alone = step_by_step(mixer, x[left:right], first)
        check_close(np.asarray(y[left:right]), y_alone, EXACT, f"the document from {left} to {right}")
    check_close(final, final_alone, EXACT, "the state after the last document")
    check_close(step_by_step(mixer, x, state, start), (np.asarray(y), final), EXACT, "steps over packed documents")
    if len(edges) > 2:
        last = edges[-2]
        weight = (jnp.arange(len(x)) >= last)[:, None].astype(x.dtype)
        gradient = gradients(mixer, x, state, *_both(len(x), start, None), weight)
        assert not np.asarray(gradient[1])[:last].any(), "a document passes a gradient to the one before it"


def a_start_at_an_absent_token_is_ignored(mixer: AbstractMixer, x, state, start, mask) -> None:
    """Law 5d: `start` where there is no token changes nothing."""
    check_same_bits(
        call(mixer, x, state, start, mask), call(mixer, x, state, start & mask, mask), "a start at an absent token"
    )


@eqx.filter_jit
def _batched(mixer, x, start, mask):
    return jax.vmap(lambda x, start, mask: mixer(x, start=start, mask=mask))(x, start, mask)


def batching_is_a_loop(mixer: AbstractMixer, x, start, mask) -> None:
    """Law 5e: vmap over sequences, (batch, time, d) with their own flags, gives what a loop gives."""
    batched = _batched(mixer, x, start, mask)
    alone = [call(mixer, *each, mask=m) for *each, m in zip(x, [None] * len(x), start, mask, strict=True)]
    check_close(batched, jtu.tree_map(lambda *leaves: jnp.stack(leaves), *alone), EXACT, "vmap over sequences")


@eqx.filter_jit
def _ensemble(mixers, x):
    return eqx.filter_vmap(lambda mixer: mixer(x))(mixers)


def an_ensemble_is_a_loop(mixers: list[AbstractMixer], x) -> None:
    """Law 5f: eqx.filter_vmap over mixers of one kind (a sweep over seeds) gives what a loop over them gives."""
    stack = lambda trees: jtu.tree_map(lambda *leaves: jnp.stack(leaves), *trees)
    check_close(_ensemble(stack(mixers), x), stack([call(m, x) for m in mixers]), EXACT, "vmap over mixers")


def cast(tree: Any, dtype: Any) -> Any:
    """Every floating-point leaf in `dtype`."""
    return jtu.tree_map(lambda a: a.astype(dtype) if eqx.is_inexact_array(a) else a, tree)


def low_precision_stays_close(mixer: AbstractMixer, x, dtype: str) -> None:
    """Law 6a: float32 and bfloat16 stay within `BOUNDS` of float64; outputs keep x's dtype, states float32 or wider."""
    rounded = cast((mixer, x), jnp.dtype(dtype))
    exact = call(*cast(rounded, jnp.float64))
    y, state = call(*rounded)
    assert y.dtype == jnp.dtype(dtype), f"the output is {y.dtype} where x is {dtype}"
    for leaf in jtu.tree_leaves(state):
        counts = jnp.issubdtype(leaf.dtype, jnp.integer) or leaf.dtype == bool
        assert counts or leaf.dtype in (jnp.float32, jnp.complex64), (
            f"the state is {leaf.dtype} where weights and x are {dtype}"
        )
    check_close(cast((y, state), jnp.float64), exact, BOUNDS[dtype], f"{dtype} over {len(x)} tokens")


def long_sequences_do_not_drift(mixer: AbstractMixer, x) -> None:
    """Law 6c: in float32 the last outputs and the state of a very long sequence are still those of float64."""
    rounded = cast((mixer, x), jnp.float32)
    y, state = call(*rounded)
    y_exact, exact = call(*cast(rounded, jnp.float64))
    found, expected = (y[-1000:], state), (y_exact[-1000:], exact)
    # Twice the bound: a decay's own rounding, the same at every step, is also remembered, for as long as the decay does.
    check_close(cast(found, jnp.float64), expected, 2 * BOUNDS["float32"], f"float32 after {len(x)} tokens")


def extremes_stay_finite(mixer: AbstractMixer, x) -> None:
    """Law 6b: no NaN and no overflow in outputs, state and gradients, in the dtype of the mixer."""
    flags = _both(len(x), jnp.zeros(len(x), bool), None)
    everything = _values_and_gradients(mixer, x, mixer.init_state(), *flags, jnp.ones((len(x), 1), x.dtype))
    for leaf in jtu.tree_leaves(everything):
        assert np.isfinite(np.asarray(leaf).astype(np.float64)).all(), "an output, a state or a gradient is not finite"


def a_state_survives_the_disk(mixer: AbstractMixer, x, split: int, folder: Path) -> None:
    """Law 7: a state written as safetensors and read back is the same to the bit, and goes on as if never written."""
    _, state = call(mixer, x[:split])
    leaves, tree = jtu.tree_flatten(state)
    for leaf in leaves:
        assert isinstance(leaf.dtype, np.dtype), f"the state holds a {leaf.dtype}, which is no plain array"
    safetensors.numpy.save_file(
        {str(i): np.asarray(leaf) for i, leaf in enumerate(leaves)}, folder / "state.safetensors"
    )
    stored = safetensors.numpy.load_file(folder / "state.safetensors")
    restored = tree.unflatten([jnp.asarray(stored[str(i)]) for i in range(len(leaves))])
    check_same_bits(restored, state, "the state read back")
    (y, final), (y_whole, final_whole) = call(mixer, x[split:], restored), call(mixer, x)
    check_close((y, final), (y_whole[split:], final_whole), EXACT, "going on from the file")
