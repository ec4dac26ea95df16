"""Attention, and any gated RNN, written into the weights of LRU layers with gated linear units."""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Array

from dualform.construct.gated_weights import attention_wiring, checked_target, gated_weights, state_power
from dualform.construct.linearised import (
    SATURATED,
    check_linearisation,
    pairs,
    products,
    with_bias,
    with_one,
)
from dualform.construct.scale import Parts, behind_identity, best_scale, caster, check_dtype, checked_once
from dualform.errors import require
from dualform.mixers import LRU, GatedRNN, LinearAttention, LRUInOut, LRUInSkip, LRUOut
from dualform.models import Stack

VARIANTS = ("out", "in_out", "in_skip")


def lru(
    target: LinearAttention | GatedRNN | Any,
    variant: str = "out",
    layers: int | None = None,
    scale: float | None = None,
    dtype: Any = None,
    order: int = 2,
) -> Stack:
    """A stack of LRU layers that is `target`, up to the linearisation of its sigmoids.

    | variant | a gated RNN | linear attention | how |
    |---|---|---|---|
    | out | 2 layers | 2 | the first layer's gate is the input gate; the second remembers and is read through its own |
    | in_out | 1 | 1 | input gate, memory and output gate in one layer |
    | in_skip | 2 | 1, or 2 | the output gate reads the token: an attention's queries; a gated RNN needs a layer to multiply |

    Decays are exact: theta = -inf gives a phase of 0, nu = -inf a lam of 1 and nu = +inf a lam of 0. A sigmoid is a pair of
    mirrored units, sigma(s a) - sigma(-s a), where the paper's twin has W_m = 0; see `dualform.construct.linearised`. An
    LRU that must only hand on what it reads has no hidden unit, and its skip matrix does so.

    **Arguments:**

    - variant: "out", "in_out" or "in_skip".  layers: 1 or 2, the fewest that serve if not given.
    - scale: of the normalised gates' pre-activations; if not given, the best in this dtype by measurement (about a second).
    - dtype: float32 or float64; JAX's default if not given.
    - order: 2, an error of O(scale^2), as the paper's; or 4, the sigmoid where its third derivative is 0, O(scale^4).

    **Raises:** `InputError` for another target, variant, scale, order or dtype, and for a number of layers that cannot be.

    **Source:** App. A.1 and Table 3 of Zucchet et al. 2023 (arXiv 2309.01775).

        >>> import jax.numpy as jnp, jax.random as jr
        >>> from dualform import construct, mixers
        >>> attention = mixers.LinearAttention.make(2, heads=1, key=jr.key(0))
        >>> stack = construct.lru(attention, "in_skip", scale=2**-7)
        >>> x = jr.normal(jr.key(1), (8, 2))
        >>> bool(jnp.allclose(stack(x)[0], attention(x)[0], atol=1e-3))
        True
    """
    checked_target(target)
    check_linearisation(scale, order)
    check_dtype(dtype)
    make = lru_maker(target, variant, layers, order)
    return make(best_scale(make, target, dtype) if scale is None else float(scale), dtype)


def lru_maker(target: Any, variant: str, layers: int | None, order: int) -> Callable[[float, Any], Stack]:
    """The maker of the stack, once the combination is known to be possible; the algebra is done once for all scales."""
    require(variant in VARIANTS, f"there is no LRU variant {variant!r}; the variants are {', '.join(VARIANTS)}.")
    attention = isinstance(target, LinearAttention)
    possible = {"out": (2,), "in_out": (1,), "in_skip": (1, 2) if attention else (2,)}[variant]
    layers = possible[0] if layers is None else layers
    name = "linear attention" if attention else "a gated RNN"
    why = {
        "out": "its recurrence reads the tokens linearly, so that one layer never stores a product of two of their entries",
        "in_out": "its input gate, memory and output gate are all that is needed",
        "in_skip": "its output gate reads the token, not the state, so that the product of two state units takes another layer",
    }[variant]
    require(
        layers in possible,
        f"LRU {variant} writes {name} into {' or '.join(map(str, possible))} layer(s), not into {layers!r}: {why}.",
    )
    if variant == "in_skip" and layers == 1:
        return _in_skip_attention(target, order)
    return {"out": _out, "in_out": _in_out, "in_skip": _in_skip}[variant](target, order)


def _out(target: Any, order: int) -> Callable[[float, Any], Stack]:
    w = gated_weights(target)
    n, d, power = len(w.nu), w.w_m_in.shape[1] - 1, with_one(w.state_power())

    def parts(scale: float, dtype: Any) -> Parts:
        cast = caster(dtype)
        write = products(w.w_m_in, w.w_x_in, np.eye(d + 1), scale, order)
        read = products(with_bias(w.w_m_out), with_bias(w.w_x_out), power, scale, order)
        first = LRUOut(_core_without_memory(np.ones(d), cast), cast(write.w_m), cast(write.w_x))
        second = LRUOut(_core(write.collect, w.nu, np.eye(n), cast), cast(read.w_m), cast(read.w_x))
        return behind_identity((first, second), w.readout @ read.collect, cast)

    return checked_once(parts)


def _in_out(target: Any, order: int) -> Callable[[float, Any], Stack]:
    w = gated_weights(target)
    n, d, power = len(w.nu), w.w_m_in.shape[1] - 1, with_one(w.state_power())

    def parts(scale: float, dtype: Any) -> Parts:
        cast = caster(dtype)
        write = products(w.w_m_in, w.w_x_in, np.eye(d + 1), scale, order)
        read = products(with_bias(w.w_m_out), with_bias(w.w_x_out), power, scale, order)
        layer = LRUInOut(
            core=_core(write.collect, w.nu, np.eye(n), cast),
            w_m_in=cast(write.w_m),
            w_x_in=cast(write.w_x),
            w_m_out=cast(read.w_m),
            w_x_out=cast(read.w_x),
        )
        return behind_identity((layer,), w.readout @ read.collect, cast)

    return checked_once(parts)


def _in_skip(target: Any, order: int) -> Callable[[float, Any], Stack]:
    """Both layers multiply at their input; their output gates, which read the token, stay open."""
    w = gated_weights(target)
    n, d, m, power = len(w.nu), w.w_m_in.shape[1] - 1, len(w.w_m_out), with_one(w.state_power())
    open_gate = lambda rows, columns: with_bias(np.zeros((rows, columns)), SATURATED)

    def parts(scale: float, dtype: Any) -> Parts:
        cast = caster(dtype)
        write = products(w.w_m_in, w.w_x_in, np.eye(d + 1), scale, order)
        read = products(with_bias(w.w_m_out), with_bias(w.w_x_out), power, scale, order)
        first = LRUInSkip(
            core=_core(write.collect, w.nu, np.eye(n), cast),
            w_m_in=cast(write.w_m),
            w_x_in=cast(write.w_x),
            w_m_out=cast(open_gate(n, d)),
            w_x_out=cast(with_bias(np.eye(n))),
        )
        second = LRUInSkip(
            core=_core_without_memory(read.collect, cast),
            w_m_in=cast(read.w_m),
            w_x_in=cast(read.w_x),
            w_m_out=cast(open_gate(m, n)),
            w_x_out=cast(with_bias(np.eye(m))),
        )
        return behind_identity((first, second), w.readout, cast)

    return checked_once(parts)


def _in_skip_attention(attention: LinearAttention, order: int) -> Callable[[float, Any], Stack]:
    """One layer: the core sums the key-values, W_x reads them, and the sigmoid reads the query off the token."""
    w = attention_wiring(attention)
    left, right, memory = with_bias(w.left), with_bias(w.right), with_bias(w.read_memory)
    query, n, d = with_bias(w.read_query @ w.query), len(w.left), w.left.shape[1]
    power = with_one(state_power(left, right, np.ones(n)))

    def parts(scale: float, dtype: Any) -> Parts:
        cast = caster(dtype)
        write = products(left, right, np.eye(d + 1), scale, order)
        read = pairs(query, memory, np.eye(d + 1), power, scale, order)
        layer = LRUInSkip(
            core=_core(write.collect, np.full(n, -np.inf), np.eye(n), cast),
            w_m_in=cast(write.w_m),
            w_x_in=cast(write.w_x),
            w_m_out=cast(read.w_m),
            w_x_out=cast(read.w_x),
        )
        return behind_identity((layer,), w.readout @ read.collect, cast)

    return checked_once(parts)


def _core(drive: np.ndarray, nu: np.ndarray, readout: np.ndarray, cast: Callable[[Any], Array]) -> LRU:
    """The LRU z_t = C h_t, h_t = lam * h_{t-1} + B x_t, with lam real: its phase is exp(-inf) = 0."""
    n, zero_in, zero_out = len(nu), np.zeros_like(drive), np.zeros_like(readout)
    skip = np.zeros((len(readout), drive.shape[1]))
    return LRU(
        nu=cast(nu),
        theta=cast(np.full(n, -np.inf)),
        gamma=cast(np.zeros(n)),
        b_re=cast(drive),
        b_im=cast(zero_in),
        c_re=cast(readout),
        c_im=cast(zero_out),
        skip=cast(skip),
    )


def _core_without_memory(skip: np.ndarray, cast: Callable[[Any], Array]) -> LRU:
    """The LRU z_t = D x_t of no hidden unit."""
    d_out, d_in = (len(skip), len(skip)) if skip.ndim == 1 else skip.shape
    none, drive, readout = cast(np.zeros(0)), cast(np.zeros((0, d_in))), cast(np.zeros((d_out, 0)))
    return LRU(nu=none, theta=none, gamma=none, b_re=drive, b_im=drive, c_re=readout, c_im=readout, skip=cast(skip))
