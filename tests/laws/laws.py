"""The laws that every mixer keeps, each a function that raises `AssertionError` where a mixer breaks it.

They take a mixer and concrete arrays, one call or many at once (`programs.cases`), so that the same function serves every
registered mixer, hand-made variants, and the deliberately broken mixers that show that each law can fail.
"""

import functools
from collections.abc import Sequence
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
from dualform.maps import AttentionMap, attention_of
from dualform.mixers import AbstractMixer, registry
from dualform.mixers.registration import class_of
from tests.laws import programs
from tests.laws.programs import Cases, ask, cases
from tests.tiers import tiers

EXACT = 1e-10  # relative, in float64: two orders of summation of up to some hundred terms of mixed sign
ROUNDING = 1e-12  # relative, in float64: the same sums, where only the compiler may choose another order
# Relative to float64 with the same (rounded) weights and inputs, over 4,096 tokens. Sums are kept in float32 in both cases;
# bfloat16 adds the rounding of the output to 8 bits, 2^-9 at most for each entry.
BOUNDS = {"float32": 1e-5, "bfloat16": 2.0**-8}
D = 4
TIME = 6
"""Tokens of a short sequence: one length for most laws, so that few programs are compiled."""
LONG = 150
"""Tokens of a long one: more than two chunks of any recurrence."""


KINDS = ("linear_attention", "gla", "delta_rule", "mamba", "softmax_attention", "gated_rnn", "lstm", "wave_rnn")
"""Mixers of every kind of mechanism: kept sums with and without gates, delta rules, scans, softmax, cells, a wave."""


def registered(*quick: str) -> list[Any]:
    """All registered mixers, for `parametrize`; only these are asked by the README's command, the thorough tier takes all.

    A mixer of another package's, which has no sibling here, is always asked.
    """
    others = (name for name, make in registry().items() if not class_of(make).__module__.startswith("dualform."))
    return tiers(registry(), *quick, *others)


@functools.cache
def make(name: str, d: int = D, seed: int = 0, dtype: Any = None) -> AbstractMixer:
    """The registered mixer `name`, of width d, with the weights of `seed`; the same object at every call."""
    return registry()[name](d, key=jr.key(seed), dtype=dtype)


@functools.cache
def sequence(seed: int, time: int, d: int = D) -> jax.Array:
    """Standard normal tokens, (time, d)."""
    return jr.normal(jr.key(seed), (time, d))


READ_A_TEXT = ("cross_attention", "position_aware_cross_attention")
"""Mixers that write at a token whose last channel is 0 or below, of a text, and read at the others, at frames."""


def text_first(name: str, x: Any) -> jax.Array:
    """The tokens, (..., time, d); of a mixer that reads a text the first third are text, and the others frames."""
    if name not in READ_A_TEXT:
        return x
    time = x.shape[-2]
    sign = np.where(np.arange(time) < time // 3, -1.0, 1.0)
    return jnp.concatenate([x[..., :-1], (sign * abs(x[..., -1]))[..., None]], axis=-1)


def some_state(mixer: AbstractMixer, seed: int) -> Any:
    """The state that another sequence of `TIME` tokens has left."""
    return call(mixer, sequence(seed + 1000, TIME, mixer.d_in))[1]


@functools.cache
def table(name: str) -> Cases:
    """`table_of` the registered mixer `name`."""
    return table_of([make(name, seed=seed) for seed in range(3)])


def table_of(mixers: Sequence[AbstractMixer]) -> Cases:
    """64 calls of three mixers of one kind after another sequence: every mask of six tokens, each with another `start`.

    Weights of three seeds, tokens of eight; also every `start` comes once.
    """
    x = np.stack([sequence(row % 8, TIME) for row in range(64)])
    bits = (np.arange(64)[:, None] >> np.arange(TIME)) % 2 == 1
    asked = cases([mixers[row % 3] for row in range(64)], x, None, bits[np.arange(64) * 37 % 64], bits)
    left = ask(programs.call, alone(asked)._replace(x=np.roll(x, 1, axis=0)))[1]
    return asked._replace(state=left)


def alone(asked: Cases) -> Cases:
    """These calls without flags: no document begins, and every token is there."""
    return asked._replace(start=np.zeros_like(asked.start), mask=np.ones_like(asked.mask))


@eqx.filter_jit
def _call(mixer, x, state, start, mask):
    return mixer(x, state, start=start, mask=mask)


def attention(mixer, x, state=None, start=None, mask=None) -> AttentionMap:
    """A mixer's frozen map that has scalar maps of its own: what is written, the memory, and how it is read."""
    own = attention_of(mixer.frozen(x, state, start, mask).map)
    assert own is not None, f"a {type(mixer).__name__} has no attention maps"
    return own


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
    first = lambda tree: jtu.tree_map(lambda leaf: np.asarray(leaf)[None], tree)
    check_each_close(first(found), first(expected), tolerance, what)


def check_each_close(found: Any, expected: Any, tolerance: float, what: str) -> None:
    """What `check_close` asks, of each entry of every leaf's first axis by itself."""
    assert jtu.tree_structure(found) == jtu.tree_structure(expected), f"{what}: another structure"
    for a, b in zip(jtu.tree_leaves(found), jtu.tree_leaves(expected), strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape, f"{what}: {a.dtype}{a.shape} against {b.dtype}{b.shape}"
        a, b = (np.asarray(v) for v in (a, b))
        wide = np.complex128 if np.iscomplexobj(a) else np.float64
        a, b = (v.astype(wide).reshape(len(v), -1) for v in (a, b))
        assert np.isfinite(a).all() and np.isfinite(b).all(), f"{what}: not finite"
        size = np.linalg.norm(b, axis=1)
        errors = np.linalg.norm(a - b, axis=1) / np.where(size == 0, 1.0, size)
        worst = int(errors.argmax()) if len(errors) else 0
        assert not len(errors) or errors[worst] <= tolerance, (
            f"{what}: relative error {errors[worst]:.1e}, more than {tolerance:.0e}, in case {worst} of {len(errors)}"
        )


def check_same_bits(found: Any, expected: Any, what: str) -> None:
    """The same structure, and in every leaf the same dtype, shape and bytes."""
    assert jtu.tree_structure(found) == jtu.tree_structure(expected), f"{what}: another structure"
    for a, b in zip(jtu.tree_leaves(found), jtu.tree_leaves(expected), strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape, f"{what}: {a.dtype}{a.shape} against {b.dtype}{b.shape}"
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes(), f"{what}: not the same to the bit"


def _pick(tree: Any, rows: Any) -> Any:
    """The answers to these cases."""
    return jtu.tree_map(lambda leaf: leaf[rows], tree)


def _only(y: Any, tokens: Any) -> Any:
    """Outputs at these tokens (case, time), and zeros elsewhere: cases of several lengths in one array."""
    return np.where(np.asarray(tokens)[:, :, None], y, np.zeros_like(y))


def _times(asked: Cases) -> np.ndarray:
    return np.broadcast_to(np.arange(asked.x.shape[1]), asked.x.shape[:2])


def _asked(mixer: Any, *given: Any) -> Cases:
    """The calls that a law is asked about: already gathered, or a mixer with what it is called with."""
    return mixer if isinstance(mixer, Cases) else cases(mixer, *given)


def steps_give_the_parallel_form(mixer: Any, x, split: Any, state=None, start=None, mask=None) -> None:
    """Law 1: the step loop gives the parallel form, also after a prefill of the first `split` tokens; so does a second call.

    `split` is one number, or one for each case; the tokens of the other part are absent.
    """
    asked = _asked(mixer, x, state, start, mask)
    y, final = ask(programs.call, asked)
    y_steps, states = ask(programs.steps, asked)
    check_each_close(y_steps, y, EXACT, "steps from the first token")
    check_each_close(_pick(states, np.s_[:, -1]), final, EXACT, "the state after steps from the first token")
    count = np.arange(len(asked.x))
    split = np.broadcast_to(np.asarray(split), len(count))
    before = _times(asked) < split[:, None]
    y_before, carried = ask(programs.call, asked._replace(mask=asked.mask & before))
    check_each_close(y_before, _only(y, before), EXACT, "prefill")
    check_each_close(carried, _pick(states, (count, split - 1)), EXACT, "the state after a prefill")
    rest = asked._replace(state=carried, mask=asked.mask & ~before)
    y_rest, states_rest = ask(programs.steps, rest)
    expected = _only(y, ~before), final
    check_each_close((y_rest, _pick(states_rest, np.s_[:, -1])), expected, EXACT, "steps after a prefill")
    check_each_close(ask(programs.call, rest), expected, EXACT, "a second call")


def long_steps_give_the_parallel_form(mixer: Any, x, calls: int) -> None:
    """Law 1, without flags: `calls` calls, each of all of x, with the state carried on, give what a scan of steps gives."""
    asked = cases(mixer, x)
    parallel, recurrent = asked, asked
    for i in range(calls):
        (y, state), (y_steps, state_steps) = ask(programs.plain_call, parallel), ask(programs.plain_steps, recurrent)
        check_each_close((y_steps, state_steps), (y, state), EXACT, f"a scan of steps, call {i}")
        parallel, recurrent = asked._replace(state=state), asked._replace(state=state_steps)


def nothing_comes_from_the_future(
    mixer: Any, x, t: Any, seed: int, question: Any = programs.call, without: Any = None
) -> None:
    """Law 3: changing x[t] and all after it changes no output before t, and does change the one at t.

    `t` is one number, or one for each case. `without(asked)`, (case, time), says of which outputs the equations say that they are
    the same whatever their own token is; none is, unless it is given.
    """
    asked = _asked(mixer, x)
    t = np.broadcast_to(np.asarray(t), len(asked.x))
    before = _times(asked) < t[:, None]
    other = np.random.default_rng(seed + 2000).normal(size=asked.x.shape).astype(asked.x.dtype)
    y, _ = ask(question, asked)
    y_other, _ = ask(question, asked._replace(x=np.where(before[:, :, None], asked.x, other)))
    check_each_close(_only(y_other, before), _only(y, before), ROUNDING, "outputs before a change")
    rows = np.arange(len(t))
    here = asked.mask[rows, t]
    if without is not None:
        here = here & ~without(asked)[rows, t]
    moved = (y_other[rows, t] != y[rows, t]).any(axis=1)
    assert moved[here].all(), f"the output at {t[here][~moved[here]]} does not depend on its own token"


def contributions_sum_to_the_output(
    mixer: Any, x=None, state=None, start=None, mask=None, question: Any = programs.dual_form
) -> None:
    """Law 4: contributions and bias sum to the output; what cannot contribute is exactly 0; shares sum to 1 - the bias's."""
    asked = _asked(mixer, x, state, start, mask)
    y, _ = ask(programs.call, asked)
    y_form, contributions, bias, weights, residuals, shares = ask(question, asked)
    check_each_close(y_form, y, ROUNDING, "the dual form's own output")
    check_each_close(contributions.sum(2) + bias, y, EXACT, "the sum of contributions and bias")
    assert residuals.max() <= EXACT, f"residual {residuals[:, 0].max():.1e}, of the map {residuals[:, 1].max():.1e}"
    seen = np.stack([_may_take(*flags) for flags in zip(asked.start, asked.mask, strict=True)])
    assert not contributions[~seen].any(), "a token takes from one that it cannot see"
    assert not np.moveaxis(weights, 1, -1)[~seen].any(), "a weight lies where nothing can be seen"
    power = np.sum(y * y, axis=-1)
    bias_share = np.sum(bias * y, axis=-1)
    check_each_close(shares.sum(-1) * power, power - bias_share, EXACT, "the rows of aggregate()")


def _may_take(start, mask) -> np.ndarray:
    """Which tokens may take from which, written as the sentence says it: both are there, in one document, none from later."""
    time = len(start)
    begins = lambda s: start[s] and mask[s]
    return np.array(
        [
            [s <= t and mask[s] and mask[t] and not any(begins(u) for u in range(s + 1, t + 1)) for s in range(time)]
            for t in range(time)
        ]
    )


def _holes(asked: Cases) -> Cases:
    """These calls with NaN in every token that is absent."""
    return asked._replace(x=np.where(asked.mask[:, :, None], asked.x, np.nan))


def _moved_up(asked: Cases) -> tuple[Cases, np.ndarray]:
    """These calls without their gaps, the tokens that are there moved to the front; and where each token comes from."""
    order = np.argsort(~asked.mask, axis=1, kind="stable")
    there = _times(asked) < asked.mask.sum(1)[:, None]
    return asked._replace(x=np.take_along_axis(asked.x, order[:, :, None], 1), mask=there), order


def absent_tokens_change_nothing(mixer: Any, x=None, state=None, mask=None) -> None:
    """Law 5a: where mask is False, NaN or not, nothing is read and nothing moves; the rest is as if the gaps were not there."""
    asked = _asked(mixer, x, state, None, mask)
    assert not asked.start.any(), "this law takes one document"
    holes, count = _holes(asked), np.arange(len(asked.x))
    y, final = ask(programs.call, holes)
    assert not y[~asked.mask].any(), "an absent token has an output that is not 0"
    none = np.flatnonzero(~asked.mask.any(1))
    check_same_bits(_pick(final, none), _pick(asked.state, none), "the state after absent tokens only")
    kept, order = _moved_up(asked)
    y_kept, states_kept = ask(programs.steps, kept)
    y_up = _only(np.take_along_axis(y, order[:, :, None], 1), kept.mask)
    check_each_close(_only(y_kept, kept.mask), y_up, EXACT, "the tokens that are there")
    last = np.maximum(asked.mask.sum(1) - 1, 0)
    check_each_close(_pick(states_kept, (count, last)), final, EXACT, "the state after the tokens that are there")
    y_steps, states = ask(programs.steps, holes)
    check_each_close((y_steps, _pick(states, np.s_[:, -1])), (y, final), EXACT, "steps over absent tokens")
    at_end = asked.x.shape[1] - 1 - np.argmax(asked.mask[:, ::-1], axis=1)
    some = np.flatnonzero(asked.mask.any(1))
    at_last = _pick(states, (some, at_end[some]))
    check_same_bits(_pick(states, (some, -1)), at_last, "the state through absent tokens at the end, by steps")
    there = _times(asked) <= at_end[:, None]
    through = ask(programs.call, holes._replace(mask=asked.mask & there))[1]
    check_same_bits(through, final, "the state through absent tokens at the end")


def _cotangents(asked: Cases, seed: int = 0) -> tuple[Any, Any]:
    """Random cotangents of outputs and of the last state; None for what has no gradient."""
    random = np.random.default_rng(seed)
    normal = lambda a: random.normal(size=a.shape) + (1j * random.normal(size=a.shape) if np.iscomplexobj(a) else 0.0)
    draw = lambda a: normal(a).astype(a.dtype) if jnp.issubdtype(a.dtype, jnp.inexact) else None
    return jtu.tree_map(draw, ask(programs.call, asked))


def gradients_pass_through_the_state(mixer: Any, x=None, state=None, split: Any = 4) -> None:
    """Law 1b: of weights, tokens and first state, the gradients through a carried state are those of one call."""
    asked = _asked(mixer, x, state)
    cotangent, cotangent_of_state = _cotangents(asked)
    whole = ask(programs.pull_back, asked, (cotangent, cotangent_of_state))
    before = _times(asked) < np.broadcast_to(np.asarray(split), len(asked.x))[:, None]
    first = asked._replace(mask=asked.mask & before)
    second = asked._replace(state=ask(programs.call, first)[1], mask=asked.mask & ~before)
    after = ask(programs.pull_back, second, (_only(cotangent, ~before), cotangent_of_state))
    passed = ask(programs.pull_back, first, (_only(cotangent, before), after[2]))
    total = *jtu.tree_map(np.add, passed[:2], after[:2]), passed[2]
    check_each_close(total, whole, EXACT, "gradients through a carried state")


def absent_tokens_leave_no_gradient(mixer: Any, x=None, state=None, mask=None) -> None:
    """Law 5b: NaN in an absent token reaches no gradient, and an absent token gets a gradient of exactly 0."""
    asked = _asked(mixer, x, state, None, mask)
    cotangents = _cotangents(asked)
    found = ask(programs.pull_back, _holes(asked), cotangents)
    expected = ask(programs.pull_back, asked, cotangents)
    check_each_close(found, expected, ROUNDING, "gradients with NaN in absent tokens")
    assert not found[1][~asked.mask].any(), "an absent token has a gradient"


def packed_documents_stay_apart(mixer: Any, x=None, state=None, start=None) -> None:
    """Law 5c: documents packed by `start` give what each gives alone, and pass no gradient to one another."""
    asked = _asked(mixer, x, state, start)
    assert asked.mask.all(), "this law takes tokens that are all there"
    time = asked.x.shape[1]
    y, final = ask(programs.call, asked)
    starts = [[0, *[t for t in range(1, time) if row[t]]] for row in asked.start]
    documents = [(c, *edges) for c, row in enumerate(starts) for edges in zip(row, [*row[1:], time], strict=True)]
    case, left, right = np.array(documents).T
    there = np.arange(time) < (right - left)[:, None]
    moved = np.minimum(left[:, None] + np.arange(time), time - 1)
    fresh = (left > 0) | asked.start[case, 0]
    alone = asked.take(case)._replace(
        x=asked.x[case[:, None], moved], start=np.zeros_like(there), mask=there, state=_states(asked, case, fresh)
    )
    y_alone, states = ask(programs.steps, alone)
    check_each_close(_only(y[case[:, None], moved], there), _only(y_alone, there), EXACT, "each document alone")
    last = np.flatnonzero(right == time)
    check_each_close(final, _pick(states, (last, (right - left)[last] - 1)), EXACT, "the state after the last document")
    y_steps, states = ask(programs.steps, asked)
    check_each_close((y_steps, _pick(states, np.s_[:, -1])), (y, final), EXACT, "steps over packed documents")
    cotangent, cotangent_of_state = _cotangents(asked)
    earlier = _times(asked) < left[last][:, None]
    gradient = ask(programs.pull_back, asked, (_only(cotangent, ~earlier), cotangent_of_state))
    assert not gradient[1][earlier].any(), "a document passes a gradient to the one before it"


def _states(asked: Cases, case: np.ndarray, fresh: np.ndarray) -> Any:
    """The states that the cases of these numbers are given, but the initial one where `fresh` says so."""
    choose = lambda s, initial: np.where(fresh.reshape(-1, *[1] * (s.ndim - 1)), initial[case], s[case])
    return jtu.tree_map(choose, asked.state, ask(programs.init_state, asked))


def a_start_at_an_absent_token_is_ignored(mixer: Any, x=None, state=None, start=None, mask=None) -> None:
    """Law 5d: `start` where there is no token changes nothing."""
    asked = _asked(mixer, x, state, start, mask)
    found, expected = ask(programs.call, asked), ask(programs.call, asked._replace(start=asked.start & asked.mask))
    check_same_bits(found, expected, "a start at an absent token")


def batching_is_a_loop(mixer: Any, x, start=None, mask=None) -> None:
    """Law 5e: vmap over sequences, (batch, time, d) with their own flags, gives what a loop gives.

    Of several mixers of one structure (a sweep over seeds), vmap over the mixers outside of that one does so too.
    """
    mixers = list(mixer) if isinstance(mixer, list | tuple) else [mixer]
    every = lambda a: None if a is None else np.concatenate([np.asarray(a)] * len(mixers))
    asked = cases([m for m in mixers for _ in x], every(x), None, every(start), every(mask))
    found = programs.batched(asked.take(np.arange(len(x))), asked.take(np.arange(len(mixers)) * len(x)).weights)
    rows = jtu.tree_map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), found)
    check_each_close(rows, ask(programs.call, asked), EXACT, "vmap over mixers and sequences")


def an_ensemble_is_a_loop(mixers: list[Any], x) -> None:
    """Law 5f: vmap over mixers of one kind (a sweep over seeds) gives what a loop over them gives."""
    asked = cases(mixers, np.stack([x] * len(mixers)))
    check_each_close(programs.ensemble(asked), ask(programs.call, asked), EXACT, "vmap over mixers")


def cast(tree: Any, dtype: Any) -> Any:
    """Every floating-point leaf in `dtype`."""
    return jtu.tree_map(lambda a: a.astype(dtype) if eqx.is_inexact_array(a) else a, tree)


def rounded_to(dtype: str, tree: Any) -> Any:
    """`cast` in NumPy, which compiles nothing: every floating-point leaf in `dtype`."""
    real = lambda leaf: hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating)
    return jtu.tree_map(lambda leaf: np.asarray(leaf).astype(jnp.dtype(dtype)) if real(leaf) else leaf, tree)


def low_precision_stays_close(mixer: AbstractMixer, x, dtype: str) -> None:
    """Law 6a: float32 and bfloat16 stay within `BOUNDS` of float64; outputs keep x's dtype, states float32 or wider.

    x is read in calls of at most `LONG` tokens, each of which goes on from the state of the one before.
    """
    rounded = rounded_to(dtype, (mixer, x))
    exact = _in_pieces(*rounded_to("float64", rounded))
    y, state = _in_pieces(*rounded)
    assert y.dtype == jnp.dtype(dtype), f"the output is {y.dtype} where x is {dtype}"
    for leaf in jtu.tree_leaves(state):
        counts = jnp.issubdtype(leaf.dtype, jnp.integer) or leaf.dtype == bool
        assert counts or leaf.dtype in (jnp.float32, jnp.complex64), (
            f"the state is {leaf.dtype} where weights and x are {dtype}"
        )
    check_close(rounded_to("float64", (y, state)), exact, BOUNDS[dtype], f"{dtype} over {len(x)} tokens")


def _in_pieces(mixer: AbstractMixer, x) -> tuple[np.ndarray, Any]:
    """Outputs and last state of a call without flags after another, each of `LONG` tokens."""
    assert len(x) % LONG == 0, f"{len(x)} tokens are not a whole number of calls of {LONG}"
    asked, outputs = cases(mixer, x[:LONG]), []
    for piece in np.split(np.asarray(x), len(x) // LONG):
        y, state = ask(programs.plain_call, asked._replace(x=piece[None]))
        asked = asked._replace(state=state)
        outputs.append(y[0])
    return np.concatenate(outputs), _pick(asked.state, 0)


def long_sequences_do_not_drift(run: Any, given: Any) -> None:
    """Law 6c: in float32 the last outputs and the state of a very long sequence are still those of float64.

    `run(*given)` gives outputs (time, ...) and a state: a mixer's call, or a recurrence.
    """
    run, rounded = eqx.filter_jit(run), cast(given, jnp.float32)
    (y, state), (y_exact, exact) = run(*rounded), run(*cast(rounded, jnp.float64))
    found, expected = (y[-1000:], state), (y_exact[-1000:], exact)
    # Twice the bound: a decay's own rounding, the same at every step, is also remembered, for as long as the decay does.
    check_close(cast(found, jnp.float64), expected, 2 * BOUNDS["float32"], f"float32 after {len(y)} tokens")


def extremes_stay_finite(mixer: Any, x) -> None:
    """Law 6b: no NaN and no overflow in outputs, state and gradients, in the dtype of the mixer."""
    for leaf in jtu.tree_leaves(ask(programs.squares, _asked(mixer, x))):
        assert np.isfinite(leaf.astype(np.float64)).all(), "an output, a state or a gradient is not finite"


def a_state_survives_the_disk(mixer: Any, x, split: int, folder: Path) -> None:
    """Law 7: a state written as safetensors and read back is the same to the bit, and goes on as if never written."""
    asked = _asked(mixer, x)
    before = _times(asked) < split
    _, state = ask(programs.call, asked._replace(mask=asked.mask & before))
    leaves, tree = jtu.tree_flatten(state)
    for leaf in leaves:
        assert isinstance(leaf.dtype, np.dtype), f"the state holds a {leaf.dtype}, which is no plain array"
    safetensors.numpy.save_file({str(i): leaf for i, leaf in enumerate(leaves)}, folder / "state.safetensors")
    stored = safetensors.numpy.load_file(folder / "state.safetensors")
    restored = tree.unflatten([stored[str(i)] for i in range(len(leaves))])
    check_same_bits(restored, state, "the state read back")
    found = ask(programs.call, asked._replace(state=restored, mask=asked.mask & ~before))
    y, final = ask(programs.call, asked)
    check_each_close(found, (_only(y, ~before), final), EXACT, "going on from the file")
