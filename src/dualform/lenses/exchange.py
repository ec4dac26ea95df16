"""Interchange interventions: a run in which a part of what passes a place is another run's, and all behind it is made anew."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from dualform.arrays import accumulator
from dualform.errors import require
from dualform.lenses.onion import Onion
from dualform.lenses.traces import STATE, Trace, trace


class Interchange(NamedTuple):
    """What `interchange` gives.

    - y: (time, d_out), the model's output with the part exchanged.  before: of the same tokens as they are.  source: of the other
      run.  moved: the length of what was changed, over that of the whole difference between both runs at the place; 0 where
      they do not differ.
    """

    y: Float[Array, "time d_out"]
    before: Float[Array, "time d_out"]
    source: Float[Array, "time d_out"]
    moved: float


def interchange(
    model: Any,
    x: Any,
    source: Any,
    place: str,
    basis: Float[Array, "n k"] | Float[np.ndarray, "n k"] | None = None,
    *,
    token: int | None = None,
) -> Interchange:
    """A run of x, where what passes a place has in a subspace what it has in the run of another sequence.

    h <- h + B B^T (h_source - h), with B the subspace's orthonormal basis.

    **Arguments:** x, source: tokens, or what the first stage takes, as many in either. place: as of `trace`, activations or a
    state; of a state n is the size of all its arrays together. basis: independent columns, which are made orthonormal;
    everything if not given. token: the one token whose activations are exchanged, all if not given.

    **Raises:** `InputError` for a place or token that there is not, sequences of two lengths, or a basis that does not fit.
    """
    require(len(x) == len(source), f"x has {len(x)} tokens and source {len(source)}; give as many.")
    before = trace(model, x, record=(place,))
    other = trace(model, source, record=(place,))
    base, wanted = before.recorded[place], other.recorded[place]
    is_state = STATE.fullmatch(place) is not None
    require(not (is_state and token is not None), f"{place!r} is a state, after one token; leave token out.")
    require(
        token is None or 0 <= token < len(x), f"there is no token {token}; there are {len(x)}, from 0 to {len(x) - 1}."
    )
    vector, restore = ravel_pytree(base) if is_state else (base, lambda h: h)
    aim = ravel_pytree(wanted)[0] if is_state else wanted
    wide = accumulator(vector.dtype)
    across = aim.astype(wide) - vector.astype(wide)
    change = across if basis is None else _within(across, _orthonormal(basis, vector.shape[-1]))
    if token is not None:
        at = (jnp.arange(len(x)) == token)[:, None]
        change, across = jnp.where(at, change, jnp.zeros_like(change)), jnp.where(at, across, jnp.zeros_like(across))
    y = trace(
        model, x, {place: lambda _: restore((vector.astype(change.dtype) + change).astype(vector.dtype))}, record=()
    ).y
    whole = float(jnp.linalg.norm(across))
    return Interchange(y, before.y, other.y, float(jnp.linalg.norm(change)) / whole if whole else 0.0)


def onion_interchange(model: Any, x: Any, state: str, onion: Onion, place: int, old: int, new: int) -> Trace:
    """A run of x, where at a state the layer of one place is taken off and that of another token put on.

    h <- h + g(place) * (E[new] - E[old])

    **Arguments:** state: such as "block 1.state@8", whose arrays together are as wide as the onion. place: which of the tokens
    that it holds, from 0. old, new: that token, and the one in its place.

    **Raises:** `InputError` where the state is none or of another width, or there is no such token.
    """
    require(STATE.fullmatch(state) is not None, f"{state!r} is no state; give one such as block 1.state@8.")
    n, vocabulary = onion.embedding.shape[1], len(onion.embedding)
    for name, token in (("old", old), ("new", new)):
        require(0 <= token < vocabulary, f"{name} is {token}; the onion has tokens from 0 to {vocabulary - 1}.")
    require(place >= 0, f"place is {place}; places are counted from 0.")
    return trace(model, x, {state: exchanged_layer(onion, place, old, new, state, n)}, record=())


def exchanged_layer(onion: Onion, place: int, old: int, new: int, state: str, n: int) -> Callable[[Any], Any]:
    """The edit of a state, for `trace`."""

    def edit(value: Any) -> Any:
        h, restore = ravel_pytree(value)
        require(len(h) == n, f"{state!r} has {len(h)} numbers, and the onion {n}. Is it another model's?")
        return restore(onion.exchanged(h.astype(onion.gamma.dtype), place, old, new).astype(h.dtype))

    return edit


def _orthonormal(basis: Any, n: int) -> Float[Array, "n k"]:
    """A basis of the same subspace, orthonormal."""
    basis = np.asarray(basis, np.float64)
    require(
        basis.ndim == 2 and len(basis) == n and basis.shape[1] <= n,
        f"the basis has shape {basis.shape}; it must be ({n}, k), a column for each direction.",
    )
    q, r = np.linalg.qr(basis)
    sizes = np.abs(np.diag(r))
    require(
        bool((sizes > 1e-10 * max(1e-300, sizes.max(initial=0))).all()),
        "the columns of the basis are not independent; leave out those that others make up.",
    )
    return jnp.asarray(q)


def _within(across: Float[Array, "... n"], basis: Float[Array, "n k"]) -> Float[Array, "... n"]:
    """What of a vector lies in a subspace."""
    basis = basis.astype(across.dtype)
    return (across @ basis) @ basis.T
