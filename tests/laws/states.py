"""Laws of the state: what it is made of, whatever the dtypes of weights and tokens."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np

TIME = 3


def steps_keep_the_state(make: Any, tokens: jax.ShapeDtypeStruct) -> None:
    """A call, a step with flags, and one after it leave a state of the structure, shapes and dtypes of `init_state()`.

    Its integers are int32. Shapes and dtypes alone are worked out: nothing is compiled.

    `make()` gives the mixer or model, `tokens` are (time, ...).
    """
    model = eqx.filter_eval_shape(make)
    flags = jax.ShapeDtypeStruct((TIME,), bool)

    def run(model, x, start, mask):
        initial = model.init_state()
        after = model.step(x[0], initial, start=start[0], mask=mask[0])[1]
        return initial, model(x)[1], after, model.step(x[1], after)[1]

    try:
        initial, *after = eqx.filter_eval_shape(run, model, tokens, flags, flags)
    except TypeError as error:
        raise AssertionError(f"a step does not go on from its own state: {error}") from None
    for state, what in zip(after, ("a call", "a step with flags", "a second step"), strict=True):
        assert jtu.tree_structure(state) == jtu.tree_structure(initial), f"{what}: another structure"
        for a, b in zip(jtu.tree_leaves(state), jtu.tree_leaves(initial), strict=True):
            assert (a.shape, a.dtype) == (b.shape, b.dtype), f"{what}: {a.dtype}{a.shape} for {b.dtype}{b.shape}"
    for leaf in jtu.tree_leaves(initial):
        real = jnp.issubdtype(leaf.dtype, jnp.floating) and leaf.dtype.itemsize >= 4
        assert real or leaf.dtype in (jnp.int32, jnp.complex64, jnp.complex128, bool), f"a state of {leaf.dtype}"


def no_memory_is_held_twice(state: Any) -> None:
    """Every leaf has memory of its own, so that a compiled step may be given the state to keep (`donate_argnums`)."""
    places = [leaf.unsafe_buffer_pointer() for leaf in jtu.tree_leaves(state) if np.size(leaf)]
    assert len(set(places)) == len(places), "two leaves of the state are one array"
