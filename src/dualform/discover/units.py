"""Units of a gated RNN: taking some and leaving others, how much each matters, and the loss that it is judged by."""

from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Int

from dualform.mixers import GatedRNN, LinearAttention
from dualform.mixers.circuits import circuits
from dualform.training import select_units
from dualform.training.second_order import forward, hidden_states, weights_of


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
    with jax.enable_x64(True):  # float64 arrays stay float64, whatever JAX's default is
        return select_units(rnn, hidden, readout)


def outputs(rnn: GatedRNN, inputs: Float[np.ndarray, "sequence time d"]) -> Float[np.ndarray, "sequence time d_out"]:
    """The network's outputs in float64."""
    return forward(weights_of(rnn), np.asarray(inputs, np.float64).swapaxes(0, 1)).swapaxes(0, 1)


def targets(
    attention: LinearAttention, inputs: Float[np.ndarray, "sequence time d"]
) -> Float[np.ndarray, "sequence time d_out"]:
    """The teacher's outputs in float64, y_t = sum_h V_h (sum_{s<=t} x_s x_s^T) C_h x_t, on the host."""
    x = np.asarray(inputs, np.float64)
    output_value, key_query = circuits(attention)
    seen = np.cumsum(x[..., :, None] * x[..., None, :], axis=1)
    query = np.einsum("hjl,btl->hbtj", key_query, x)
    return np.einsum("hoi,hbti->bto", output_value, np.einsum("btij,hbtj->hbti", seen, query))


def relative_error_power(found: Float[np.ndarray, "*shape"], expected: Float[np.ndarray, "*shape"]) -> float:
    """Mean squared difference over the mean square of `expected`."""
    return float(np.mean((found - expected) ** 2)) / max(float(np.mean(expected**2)), 1e-300)


def relative_loss(rnn: GatedRNN, attention: LinearAttention, inputs: Float[np.ndarray, "sequence time d"]) -> float:
    """Mean squared error over the teacher's mean squared output, in float64.

    **Arguments:** inputs (sequence, time, d).
    """
    return relative_error_power(outputs(rnn, inputs), targets(attention, inputs))


def saliency(rnn: GatedRNN, inputs: Float[np.ndarray, "sequence time d"]) -> Saliency:
    """How much each unit matters: the power of the output's change when it is taken out, over the output's power.

    It does not change under any rescaling that leaves the network's function as it is (rows of the two gate matrices
    against each other, a unit against its readers), as a norm of weights would.

    **Arguments:** inputs (sequence, time, d), what the power is measured over.
    """
    weights = weights_of(rnn)
    h = hidden_states(weights, np.asarray(inputs, np.float64).swapaxes(0, 1)).reshape(-1, len(weights.decay))
    u, w = h @ weights.w_m_out.T, h @ weights.w_x_out.T
    power = max(float(np.mean(((u * w) @ weights.readout.T) ** 2)), 1e-300)

    def change(i: int) -> float:
        u_i, w_i = h[:, i, None] * weights.w_m_out[:, i], h[:, i, None] * weights.w_x_out[:, i]
        return float(np.mean(((u * w_i + u_i * w - u_i * w_i) @ weights.readout.T) ** 2))

    hidden = np.array([change(i) for i in range(len(weights.decay))])
    readout = np.mean((u * w) ** 2, axis=0) * np.mean(weights.readout**2, axis=0)
    return Saliency(hidden / power, readout / power)


def least_salient(saliency: Float[np.ndarray, " units"], share: float) -> Int[np.ndarray, " dropped"]:
    """The units, least salient first, whose saliencies add up to no more than `share`."""
    order = np.argsort(saliency, kind="stable")
    return order[: int(np.searchsorted(np.cumsum(saliency[order]), share, side="right"))]


def prune(rnn: GatedRNN, inputs: Float[np.ndarray, "sequence time d"], share: float) -> GatedRNN:
    """The network without its least salient units, hidden and pre-readout, as many as may go.

    Taken out together they change the output by no more than `share` of its power, hidden and pre-readout units each.

    **Arguments:** inputs (sequence, time, d), what saliency and the change are measured over.
    """
    for kind, order in (("hidden", 0), ("readout", 1)):
        matters = saliency(rnn, inputs)[order]
        whole, gone = outputs(rnn, inputs), least_salient(matters, share)
        while len(gone):
            smaller = keep_units(rnn, **{kind: np.setdiff1d(np.arange(len(matters)), gone)})
            if relative_error_power(outputs(smaller, inputs), whole) <= share or not whole.any():
                rnn = smaller
                break
            gone = gone[: len(gone) // 2]
    return rnn


def remove_idle(
    rnn: GatedRNN,
    units: Int[np.ndarray, " units"],
    attention: LinearAttention,
    inputs: Float[np.ndarray, "sequence time d"],
    most: float,
) -> GatedRNN:
    """The network without those of some hidden units that an ablation does not miss.

    All of them at once if the relative loss is then at most `most`; else one by one, the least salient first, each as
    long as that holds for all that have gone.

    **Arguments:** inputs (sequence, time, d), what the ablations are made on; not what the network was trained on.
    """
    expected, every = targets(attention, inputs), np.arange(len(rnn.w_m_in))
    without = lambda gone: keep_units(rnn, hidden=np.setdiff1d(every, gone))
    idle = lambda gone: relative_error_power(outputs(without(gone), inputs), expected) <= most
    if not len(units) or idle(units):
        return without(units)
    gone: list[int] = []
    for unit in units[np.argsort(saliency(rnn, inputs).hidden[units], kind="stable")]:
        if idle([*gone, int(unit)]):
            gone.append(int(unit))
    return without(gone)
