"""What a person sees who calls a mixer with something that it cannot take; the same for every mixer."""

import dataclasses
import inspect
import re
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from dualform import dual_form
from dualform.errors import DualformError, InputError
from dualform.mixers import registry
from tests.laws import laws

X = jnp.ones((6, 4))
BAD = {
    "no token": ({"x": X[:0]}, "got a sequence of length 0; it needs at least one token"),
    "a batch": ({"x": X[None]}, r"takes one sequence, \(time, 4\); got shape \(1, 6, 4\). For a batch use jax.vmap"),
    "one token": ({"x": X[0]}, r"takes one sequence, \(time, 4\); got shape \(4,\)"),
    "wrong width": ({"x": X.T}, "takes tokens of width 4; got 6. Is the input from another model, or transposed"),
    "token ids": (
        {"x": X.astype(int)},
        "takes real floating-point activations; got int64. Embed token ids first, or cast",
    ),
    "complex": ({"x": X.astype(complex)}, "takes real floating-point activations; got complex128"),
    "a list": ({"x": [[1.0] * 4]}, "takes an array; got list. Wrap it in jnp.asarray"),
    "short mask": (
        {"mask": jnp.ones(5, bool)},
        r"mask must be an array of one boolean for each of the 6 tokens; got shape \(5,\)",
    ),
    "0/1 mask": ({"mask": jnp.ones(6)}, r"mask must be an array of one boolean .* got shape \(6,\) of float64"),
    "listed mask": ({"mask": [True] * 6}, "mask must be an array of one boolean .* got shape None of list"),
    "wide start": (
        {"start": jnp.ones((6, 1), bool)},
        r"start must be an array of one boolean .* got shape \(6, 1\) of bool",
    ),
    "integer start": (
        {"start": jnp.ones(6, int)},
        r"start must be an array of one boolean .* got shape \(6,\) of int64",
    ),
    "foreign state": (
        {"state": (jnp.zeros(3), jnp.zeros(2))},
        r"the state does not belong to this .* Start from init_state\(\)",
    ),
    "misshapen state": ({"state": jnp.zeros(3)}, r"the state does not belong to this .*: shapes \(3,\), expected"),
}


def traced(name: str) -> Any:
    """The registered mixer, its weights in shapes alone: what is wrong with a call is said while it is traced."""
    return eqx.filter_eval_shape(registry()[name], 4, key=jr.key(0))


def message_of(function: Any, *arguments: Any) -> str:
    """What the `InputError` says that the call of a mixer raises as it is traced."""
    with pytest.raises(InputError) as caught:
        eqx.filter_eval_shape(function, *arguments)
    assert isinstance(caught.value, ValueError) and isinstance(caught.value, DualformError)
    return str(caught.value)


@pytest.mark.parametrize("name", laws.registered(*laws.KINDS))
def test_bad_calls(unchecked, name):
    """The call and the dual form both name the mixer, what is wrong, the value, and the cure."""
    mixer = traced(name)
    for case, (changed, message) in BAD.items():
        given = {"x": X} | changed
        for face in (lambda mixer: mixer(**given), lambda mixer: dual_form(mixer, **given)):  # noqa: B023 - called at once
            said = message_of(face, mixer)
            assert re.search(message, said), f"{case}: {said}"
            assert type(mixer).__name__ in said or "one boolean" in message


@pytest.mark.parametrize("case", BAD)
def test_bad_calls_without_jit(unchecked, case):
    """The same messages come in a plain call, of a mixer as of its dual form."""
    mixer, (changed, message) = laws.make("gated_rnn"), BAD[case]
    for face in (mixer, lambda x, **rest: dual_form(mixer, x, **rest)):
        with pytest.raises(InputError, match=message):
            face(**{"x": X} | changed)


@pytest.mark.parametrize("name", laws.registered(*laws.KINDS))
def test_a_step_with_a_sequence(unchecked, name):
    """A whole sequence given to `step` is refused; so is a flag for each of several tokens."""
    one, several = (lambda m: m.step(X, m.init_state())), (lambda m: m.step(X[0], m.init_state(), mask=X[:2, 0] > 0))
    assert re.search(r"takes one sequence, \(time, 4\); got shape \(1, 6, 4\)", message_of(one, traced(name)))
    assert "mask must be an array of one boolean for each of the 1 tokens" in message_of(several, traced(name))


@pytest.mark.parametrize("name", laws.registered(*laws.KINDS))
def test_bad_calls_under_jit_and_vmap(unchecked, name):
    """The same messages come at trace time under jit and vmap."""
    mixer = traced(name)
    assert "takes tokens of width 4; got 6" in message_of(lambda m: jax.jit(lambda x: m(x))(X.T), mixer)
    assert "got shape (4,)" in message_of(lambda m: jax.vmap(lambda x: m(x))(X), mixer)


HEADED = [name for name, make in registry().items() if "heads" in inspect.signature(make).parameters]


@pytest.mark.parametrize("name", HEADED)
def test_heads_that_do_not_divide(unchecked, name):
    """Three heads of a width of 4 (or 8, where it is doubled inside), and none at all, are refused with both numbers."""
    with pytest.raises(InputError, match=r"3 heads do not divide a(n inner)? width of [48]\b"):
        registry()[name](4, key=jax.random.key(0), heads=3)
    with pytest.raises(InputError, match="0 heads do not divide|heads, .* must be at least 1"):
        registry()[name](4, key=jax.random.key(0), heads=0)


ABOVE_ONE = jnp.array([0.5, 1.2, 0.5, 0.5])
DECAYED = {
    "gated_rnn": "given_decay",
    "side_gated_rnn": "given_decay",
    "hgrn": "gamma",
    "hgrn_complex": "gamma",
    "hgrn2": "gamma",
    "retnet": "gamma",
}
"""Mixers whose decays, or bounds of decays, are among their weights; all others make theirs between 0 and 1."""


@pytest.mark.parametrize("name", DECAYED)
def test_a_decay_above_one(unchecked, name):
    """A decay of 1.2 is named, with its unit and the cure."""
    mixer, field = laws.make(name), DECAYED[name]
    given = {each.name: getattr(mixer, each.name) for each in dataclasses.fields(mixer)}
    if field == "given_decay":
        del given["nu"], given["given_decay"]
        given["decay"] = jnp.full(8, 0.5).at[1].set(1.2)
    else:
        given[field] = jnp.resize(ABOVE_ONE, given[field].shape)
    with pytest.raises(InputError, match=r"(lambda|gamma) has an entry of 1.2 at unit 1; .*(Clip|Take)"):
        type(mixer)(**given)


@pytest.mark.parametrize("name", laws.registered(*laws.KINDS))
def test_numpy_arrays_are_welcome(unchecked, name):
    """NumPy inputs, flags and states give what JAX arrays give, also while the call is traced."""
    x, flags = np.asarray(X), (np.arange(6) == 2, np.arange(6) != 3)
    state = eqx.filter_eval_shape(lambda mixer: mixer.init_state(), traced(name))
    as_numpy = jax.tree_util.tree_map(lambda leaf: np.ones(leaf.shape, leaf.dtype), state)
    call = lambda mixer, x, state, start, mask: mixer(x, state, start=start, mask=mask)
    found = eqx.filter_eval_shape(lambda mixer: call(mixer, x, as_numpy, *flags), traced(name))
    assert found == eqx.filter_eval_shape(call, traced(name), x, state, *flags)


@pytest.mark.parametrize("name", ["gated_rnn", "mamba"])
def test_numpy_arrays_give_the_same_numbers(unchecked, name):
    """NumPy inputs, flags and states give the numbers that JAX arrays give."""
    mixer, x = laws.make(name), laws.sequence(0, 6)
    start, mask = jnp.arange(6) == 2, jnp.arange(6) != 3
    state = laws.some_state(mixer, 0)
    arguments = {"x": x, "state": state, "start": start, "mask": mask}
    as_numpy: Any = jax.tree_util.tree_map(np.asarray, arguments)
    found = eqx.filter_jit(lambda mixer: mixer(**as_numpy))(mixer)  # numpy arrays also while it is traced
    laws.check_close(found, laws.call(mixer, x, state, start, mask), laws.ROUNDING, "numpy arrays")
