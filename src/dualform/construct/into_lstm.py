"""Attention, and any gated RNN, written into the weights of LSTM layers."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from dualform.construct.gated_weights import checked_target, gated_weights
from dualform.construct.linearised import (
    CLOSED,
    SATURATED,
    check_linearisation,
    mirrored,
    power_of_two,
    products,
    with_bias,
    with_one,
)
from dualform.construct.scale import Parts, behind_identity, best_scale, caster, check_dtype, checked_once
from dualform.errors import require
from dualform.mixers import LSTM, GatedRNN, LinearAttention
from dualform.mixers.circuits import output_maps
from dualform.models import Stack

TANH = 2.0**-40
"""The scale inside both tanh. They are odd, so that undoing it in the decoder costs no rounding: it may be this small."""


def lstm(
    target: LinearAttention | GatedRNN | Any,
    layers: int | None = None,
    scale: float | None = None,
    dtype: Any = None,
    order: int = 2,
) -> Stack:
    """A stack of LSTM layers that is `target`, up to the linearisation of its gates.

    - **1 layer, linear attention**: unit (i, j) of a head sums v_i k_j, k_j in the input gate and v_i in the cell, with a
      forget gate of exactly 1; its output gate is q_j. Two sigmoids are linearised at the same time, so four units, with
      both signs of both, give one product.
    - **2 layers, a gated RNN** (or an attention by way of one): the first layer's input gate times its cell is the gated
      input, its forget gate is lam; the second forgets at once and its input gate times its cell is the gated readout.
      Output gates are exactly 1.

    No layer reads its own output: V = 0 throughout. `Raises` and the arguments scale, dtype and order are as of
    `construct.lru`; the two tanh have a scale of their own, 2^-40, undone in the decoder.

    **Arguments:** layers: 1 or 2, the fewest that serve if not given.

    **Raises:** `InputError` as `construct.lru`.

    **Source:** App. A.2 and Table 4 of Zucchet et al. 2023 (arXiv 2309.01775); its twin units have a gate of 1/2 where
    ours are mirrored.

        >>> import jax.numpy as jnp, jax.random as jr
        >>> from dualform import construct, mixers
        >>> attention = mixers.LinearAttention.make(2, heads=1, key=jr.key(0))
        >>> stack = construct.lstm(attention, scale=2**-4)
        >>> x = jr.normal(jr.key(1), (8, 2))
        >>> bool(jnp.allclose(stack(x)[0], attention(x)[0], atol=0.05))
        True
    """
    checked_target(target)
    check_linearisation(scale, order)
    check_dtype(dtype)
    make = lstm_maker(target, layers, order)
    return make(best_scale(make, target, dtype) if scale is None else float(scale), dtype)


def lstm_maker(target: Any, layers: int | None, order: int) -> Callable[[float, Any], Stack]:
    """The maker of the stack, once the combination is known to be possible; the algebra is done once for all scales."""
    attention = isinstance(target, LinearAttention)
    layers = (1 if attention else 2) if layers is None else layers
    require(
        layers in (1, 2),
        f"an LSTM writes {'linear attention into 1 or 2' if attention else 'a gated RNN into 2'} layers, not into {layers!r}.",
    )
    require(
        attention or layers == 2,
        "an LSTM writes a gated RNN into 2 layers, not into 1: its output gate reads the token and the last output, not the "
        "present cell, so that the product of two state units takes another layer.",
    )
    return _one_layer(target, order) if layers == 1 else _two_layers(target, order)


class KeyValues(NamedTuple):
    """The d_v * d_k units of every head that Table 4 calls V~, K~ and Q~: rows repeated as in the paper's Fig. 1.

    - values, keys, queries: (n, d), unit (head, i, j) reads v_i, k_j and q_j.  readout: (d_out, n).
    """

    values: Float[np.ndarray, "n d"]
    keys: Float[np.ndarray, "n d"]
    queries: Float[np.ndarray, "n d"]
    readout: Float[np.ndarray, "d_out n"]


def key_values(attention: LinearAttention) -> KeyValues:
    """The repeated rows of an attention, in float64."""
    w_v, w_k, w_q = (np.asarray(w).astype(np.float64) for w in (attention.w_v, attention.w_k, attention.w_q))
    head, i, j = (index.ravel() for index in np.indices((len(w_v), w_v.shape[1], w_k.shape[1])))
    return KeyValues(w_v[head, i], w_k[head, j], w_q[head, j], output_maps(attention)[head, :, i].T)


def forget_bias(nu: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """sigma^-1(lam) for lam = exp(-exp(nu)); where lam is 1 or 0 to rounding, a bias that gives exactly that."""
    rate = np.exp(np.minimum(nu, 10.0))
    with np.errstate(divide="ignore"):
        return np.clip(-rate - np.log(-np.expm1(-rate)), CLOSED, SATURATED)


def _one_layer(attention: LinearAttention, order: int) -> Callable[[float, Any], Stack]:
    w = key_values(attention)
    n, d = w.values.shape
    size = power_of_two(w.values, np.eye(d))

    def parts(scale: float, dtype: Any) -> Parts:
        keys, undo_keys = mirrored(with_bias(w.keys), np.eye(d + 1), scale, order)
        queries, undo_queries = mirrored(with_bias(w.queries), np.eye(d + 1), scale, order)
        write = np.tile(np.arange(2 * n), 2)  # the four combinations of signs: keys vary first
        read = np.concatenate([np.tile(np.arange(n), 2), np.tile(np.arange(n, 2 * n), 2)])
        values = with_bias(np.tile(w.values * (TANH / size)[:, None], (4, 1)))
        layer = _layer(keys[write], np.full(4 * n, SATURATED), values, queries[read], dtype)
        undo = np.tile(size, 4) * undo_keys[write] * undo_queries[read] / TANH
        return behind_identity((layer,), np.tile(w.readout, (1, 4)) * undo[None], caster(dtype))

    return checked_once(parts)


def _two_layers(target: Any, order: int) -> Callable[[float, Any], Stack]:
    w = gated_weights(target)
    d, power = w.w_m_in.shape[1] - 1, with_one(w.state_power())

    def parts(scale: float, dtype: Any) -> Parts:
        write = products(w.w_m_in, w.w_x_in, np.eye(d + 1), scale, order)
        read = products(with_bias(w.w_m_out), with_bias(w.w_x_out), power, scale, order)
        units = len(write.product)
        first = _layer(
            write.w_m, forget_bias(w.nu)[write.product], TANH * write.w_x, _constant(units, d, SATURATED), dtype
        )
        state = np.pad(write.collect / TANH, (0, 1))  # (h, 1) of the gated RNN from the first layer's output
        state[-1, -1] = 1
        m, n = len(read.product), units
        second = _layer(
            read.w_m @ state, np.full(m, CLOSED), TANH * (read.w_x @ state), _constant(m, n, SATURATED), dtype
        )
        return behind_identity((first, second), w.readout @ read.collect / TANH, caster(dtype))

    return checked_once(parts)


def _constant(units: int, columns: int, bias: float) -> np.ndarray:
    return with_bias(np.zeros((units, columns)), bias)


def _layer(gate: np.ndarray, forget: np.ndarray, cell: np.ndarray, output: np.ndarray, dtype: Any) -> LSTM:
    """An LSTM without recurrent weights; each gate (units, columns + 1), the last column its bias, and the forget bias."""
    units, columns = len(gate), gate.shape[1] - 1
    rows = np.stack([gate, with_bias(np.zeros((units, columns))), cell, output])
    rows[1, :, -1] = forget
    cast = caster(dtype)
    return LSTM(cast(rows[:, :, :-1]), cast(np.zeros((4, units, units))), cast(rows[:, :, -1]))
