"""Maps of scalars without the contributions themselves: r_t . contributions[t, s], for a vector r_t at each output.

    map[h, t, s] = r[h, t] . (affine(x_s alone) - affine(0))[t]

A block's own r is first pulled back through what lies behind its mixer, which is pointwise, so that only the mixer's recurrence
runs for each source token. Columns come from one forward pass for each token, rows from one backward pass for each row; a Mamba's
whole map comes from `selective_map`.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dualform.arrays import accumulator
from dualform.dual.frozen import block_parts, freeze
from dualform.dual.own_call import embedded
from dualform.mixers import Mamba
from dualform.mixers.mixer import visible
from dualform.models.block import Block
from dualform.recurrences.selective_map import selective_map


def projected_map(
    module: Any, x, state, start, mask, r: Float[Array, "head time d_out"], block: int
) -> Float[np.ndarray, "head time source"]:
    """The whole map, (head, time, source), `block` source tokens at a time, or in closed form where there is one."""
    if mask is None and closed_form(module):
        return np.asarray(_mamba_map(module, x, state, start, r))
    out, size = np.zeros((*r.shape[:2], len(x)), r.dtype), min(block, len(x))
    for first in range(0, len(x), size):
        # The last block begins earlier, so that one program serves all; what is told twice is the same.
        sources = np.arange(size) + min(first, len(x) - size)
        out[:, :, sources] = np.asarray(_columns(module, x, state, start, mask, r, jnp.asarray(sources)))
    return out


def closed_form(module: Any) -> bool:
    """Whether the map needs no pass for each source token."""
    return isinstance(module, Mamba) or (isinstance(module, Block) and isinstance(module.mixer, Mamba))


@eqx.filter_jit
def projected_rows(module, x, state, start, mask, r: Float[Array, "head time d_out"], rows) -> Array:
    """The map's rows, (head, row, source), one backward pass each."""
    affine, x = freeze(module, x, state, start=start, mask=mask).affine, _wide(embedded(module, x, mask))
    y, back = jax.vjp(affine, x)

    def one(t):
        def of_head(r):
            (gradient,) = back(jnp.zeros_like(y).at[t].set(r[t].astype(y.dtype)))
            return jnp.sum(gradient * x, axis=1)

        return jax.vmap(of_head)(r)

    return jax.lax.map(one, rows, batch_size=len(rows)).swapaxes(0, 1)


@eqx.filter_jit
def _columns(module, x, state, start, mask, r, sources):
    if isinstance(module, Block):
        norm, mixer, behind = block_parts(module, x, state, start, mask)
        x = _wide(x)
        r, own = _pulled_back(behind.affine, x, r)
        brought = norm.affine(x) - norm.affine(jnp.zeros_like(x))
        itself = (jnp.arange(len(x))[:, None] == sources[None]).astype(own.dtype)
        return _passes(mixer.affine, brought, r, sources) + own[:, :, None] * itself[None]
    affine = freeze(module, x, state, start=start, mask=mask).affine
    return _passes(affine, _wide(embedded(module, x, mask)), r, sources)


def _wide(x):
    """x in the dtype of maps."""
    return x.astype(accumulator(x.dtype))


def _passes(affine, x, r, sources) -> Float[Array, "head time source"]:
    """One forward pass for each source token."""
    bias = affine(jnp.zeros_like(x))

    def one(s):
        return jnp.einsum("td,htd->ht", affine(jnp.zeros_like(x).at[s].set(x[s])) - bias, r.astype(bias.dtype))

    return jnp.moveaxis(jax.lax.map(one, sources, batch_size=len(sources)), 0, 2)


def _pulled_back(behind, x, r) -> tuple[Array, Float[Array, "head time"]]:
    """r in front of a pointwise affine map, and what each token brings to it by the residual stream."""
    y, back = jax.vjp(behind, x)
    (r,) = jax.vmap(back)(r.astype(y.dtype))
    return r, jnp.einsum("td,htd->ht", x, r)


@eqx.filter_jit
def _mamba_map(module: Block | Mamba, x, state, start, r):
    """In closed form, for a Mamba or a block around one."""
    own, brought, mixer = jnp.zeros(r.shape[:2], r.dtype), x, module
    at = x
    if isinstance(module, Block):
        norm, _, behind = block_parts(module, x, state, start)
        x = _wide(x)
        r, own = _pulled_back(behind.affine, x, r)
        at, brought, mixer = norm.y, norm.affine(x) - norm.affine(jnp.zeros_like(x)), module.mixer
    assert isinstance(mixer, Mamba)
    at, state, start, _ = mixer.checked(at, state, start, None)
    factor, delta, b, c, gate = mixer.context(at, state, start, None)
    q = jnp.einsum("hto,oc->htc", r.astype(gate.dtype), mixer.w_o.astype(gate.dtype)) * gate[None]
    # What token s puts into the recurrence at s, s + 1, ...: its value times the kernel and the frozen silu there.
    value, width = mixer.value(brought), len(mixer.kernel)
    ahead = jnp.pad(factor, ((0, width - 1), (0, 0)))
    taps = [mixer.kernel[width - 1 - j].astype(value.dtype)[None] * value * ahead[j : j + len(x)] for j in range(width)]
    found = selective_map(q, jnp.stack(taps), delta, -jnp.exp(mixer.a_log.astype(value.dtype)), b, c)
    places = jnp.arange(len(x))
    for j, tap in enumerate(taps):
        direct = jnp.sum(q * (mixer.skip.astype(tap.dtype)[None] * jnp.roll(tap, j, axis=0))[None], axis=-1)
        later = places >= j
        found = found.at[:, places, jnp.maximum(places - j, 0)].add(
            jnp.where(later[None], direct, jnp.zeros_like(direct))
        )
    found = found.at[:, places, places].add(own.astype(found.dtype))
    return jnp.where(visible(len(x), start, None)[None], found, jnp.zeros_like(found))
