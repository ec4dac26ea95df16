"""What a person sees who calls a mixer with something that it cannot take; the same for every mixer."""

import dataclasses
import inspect
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
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


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("name", registry())
def test_bad_calls(unchecked, name, case):
    """The call and the dual form both name the mixer, what is wrong, the value, and the cure."""
    mixer, (changed, message) = laws.make(name), BAD[case]
    given = {"x": X} | changed
    for face in (mixer, lambda x, **rest: dual_form(mixer, x, **rest)):
        with pytest.raises(InputError, match=message) as caught:
            face(**given)
        assert isinstance(caught.value, ValueError) and isinstance(caught.value, DualformError)
        assert type(mixer).__name__ in str(caught.value) or "one boolean" in message


@pytest.mark.parametrize("name", registry())
def test_a_step_with_a_sequence(unchecked, name):
    """A whole sequence given to `step` is refused; so is a flag for each of several tokens."""
    mixer = laws.make(name)
    with pytest.raises(InputError, match=r"takes one sequence, \(time, 4\); got shape \(1, 6, 4\)"):
        mixer.step(X, mixer.init_state())
    with pytest.raises(InputError, match=r"mask must be an array of one boolean for each of the 1 tokens"):
        mixer.step(X[0], mixer.init_state(), mask=jnp.ones(2, bool))


@pytest.mark.parametrize("name", registry())
def test_bad_calls_under_jit_and_vmap(unchecked, name):
    """The same messages come at trace time under jit and vmap."""
    mixer = laws.make(name)
    with pytest.raises(InputError, match="takes tokens of width 4; got 6"):
        jax.jit(lambda x: mixer(x))(X.T)
    with pytest.raises(InputError, match=r"got shape \(4,\)"):
        jax.vmap(lambda x: mixer(x))(X)


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


@pytest.mark.parametrize("name", registry())
def test_numpy_arrays_are_welcome(unchecked, name):
    """NumPy inputs, flags and states give what JAX arrays give."""
    mixer, x = laws.make(name), laws.sequence(0, 6)
    start, mask = jnp.arange(6) == 2, jnp.arange(6) != 3
    state = laws.some_state(mixer, 0)
    arguments = {"x": x, "state": state, "start": start, "mask": mask}
    as_numpy: Any = jax.tree_util.tree_map(np.asarray, arguments)
    found = eqx.filter_jit(lambda mixer: mixer(**as_numpy))(mixer)  # numpy arrays also while it is traced
    laws.check_close(found, laws.call(mixer, x, state, start, mask), laws.ROUNDING, "numpy arrays")
