"""Units of a gated RNN: taking some and leaving others, how much each matters, and the loss that it is judged by."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from dualform.mixers import GatedRNN, LinearAttention


class Saliency(NamedTuple):
    """The share of the target's power by which the output changes when one unit is taken out."""

    hidden: Float[np.ndarray, " n"]
    readout: Float[np.ndarray, " m"]


def keep_units(
    rnn: GatedRNN,
    hidden: Int[np.ndarray, " kept"] | None = None,
    readout: Int[np.ndarray, " kept_readout"] | None = None,
) -> GatedRNN:
    """The network of the given hidden and pre-readout units, in the given order; all of them where not given."""
    i = np.arange(len(rnn.w_m_in)) if hidden is None else np.asarray(hidden)
    j = np.arange(rnn.readout.shape[1]) if readout is None else np.asarray(readout)
    rows = lambda w: None if w is None else w[i]
    return GatedRNN(
        rnn.w_m_in[i],
        rnn.w_x_in[i],
        rnn.w_m_out[j][:, i],
        rnn.w_x_out[j][:, i],
        rnn.readout[:, j],
        nu=rows(rnn.nu),
        decay=rows(rnn.given_decay),
    )


def in_float64(module):
    """Every array of `module` in float64 (inside `jax.enable_x64(True)`)."""
    return jax.tree_util.tree_map(lambda a: jnp.asarray(np.asarray(a), jnp.float64) if eqx.is_array(a) else a, module)


@eqx.filter_jit
def _losses(rnn: GatedRNN, attention: LinearAttention, inputs: Float[Array, "sequence time d"]):
    found = jax.vmap(lambda x: rnn(x)[0])(inputs)
    target = jax.vmap(lambda x: attention(x)[0])(inputs)
    return jnp.mean((found - target) ** 2), jnp.mean(target**2)


def relative_loss(
    rnn: GatedRNN, attention: LinearAttention, inputs: Float[np.ndarray, "sequence time d"]
) -> float:
    """Mean squared error over the teacher's mean squared output, in float64.

    **Arguments:** inputs (sequence, time, d).
    """
    with jax.enable_x64(True):
        loss, power = _losses(in_float64(rnn), in_float64(attention), jnp.asarray(np.asarray(inputs), jnp.float64))
        return float(loss) / max(float(power), 1e-300)


@eqx.filter_jit
def _saliency(rnn: GatedRNN, inputs: Float[Array, "sequence time d"]):
    h = jax.vmap(lambda x: rnn.context(x, rnn.init_state(), None, None))(inputs)
    m_h, x_h = h @ rnn.w_m_out.T, h @ rnn.w_x_out.T
    power = jnp.mean(((m_h * x_h) @ rnn.readout.T) ** 2)

    def change(i):
        m_i, x_i = h[..., i, None] * rnn.w_m_out[:, i], h[..., i, None] * rnn.w_x_out[:, i]
        return jnp.mean(((m_h * x_i + m_i * x_h - m_i * x_i) @ rnn.readout.T) ** 2)

    hidden = jax.lax.map(change, jnp.arange(h.shape[-1]))
    readout = jnp.mean((m_h * x_h) ** 2, axis=(0, 1)) * jnp.mean(rnn.readout**2, axis=0)
    return hidden / power, readout / power


def saliency(rnn: GatedRNN, inputs: Float[np.ndarray, "sequence time d"]) -> Saliency:
    """How much each unit matters: the power of the output's change when it is taken out, over the output's power.

    It does not change under any rescaling that leaves the network's function as it is (rows of the two gate matrices
    against each other, a unit against its readers), as a norm of weights would.

    **Arguments:** inputs (sequence, time, d), what the power is measured over.
    """
    hidden, readout = _saliency(rnn, jnp.asarray(np.asarray(inputs), rnn.w_m_in.dtype))
    return Saliency(np.asarray(hidden), np.asarray(readout))
