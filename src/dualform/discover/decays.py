"""The split of a gated RNN's units by what they remember, and the ablation that shows which of them matter."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from dualform.discover.units import keep_units, relative_loss
from dualform.mixers import GatedRNN, LinearAttention
from dualform.training.second_order import network, weights_of


class Split(NamedTuple):
    """Indices of hidden units by decay: within `margin` of 1 (memory), of 0 (forget), and all others."""

    memory: Int[np.ndarray, " memory"]
    forget: Int[np.ndarray, " forget"]
    between: Int[np.ndarray, " between"]


class Ablation(NamedTuple):
    """Relative losses of the student with groups of units taken out, nothing else changed.

    Only units at 0 and 1 matter where `without_between` is as small as `whole`, and the other two are large.
    """

    whole: float
    without_between: float
    without_memory: float
    without_forget: float
    only_between: float


def split_decays(rnn: GatedRNN, margin: float = 0.01) -> Split:
    """Which units remember (decay >= 1 - margin), which forget (<= margin), and which do neither."""
    decay = weights_of(rnn).decay
    memory, forget = decay >= 1 - margin, decay <= margin
    return Split(np.flatnonzero(memory), np.flatnonzero(forget), np.flatnonzero(~memory & ~forget))


def ablate(
    rnn: GatedRNN,
    split: Split,
    attention: LinearAttention,
    inputs: Float[np.ndarray, "sequence time d"],
) -> Ablation:
    """The relative loss against the teacher on `inputs`, whole and with each group of units taken out.

    **Arguments:** inputs (sequence, time, d).

    **Returns:** losses over target power; about 1 where nothing is left that helps.
    """
    groups = (
        np.arange(len(rnn.w_m_in)),
        np.concatenate([split.memory, split.forget]),
        np.concatenate([split.forget, split.between]),
        np.concatenate([split.memory, split.between]),
        split.between,
    )
    return Ablation(*(relative_loss(keep_units(rnn, hidden=np.sort(group)), attention, inputs) for group in groups))


def set_decays(rnn: GatedRNN, split: Split) -> GatedRNN:
    """The network with the decays of a split's memory units at exactly 1 and of its forgetting units at exactly 0."""
    weights = weights_of(rnn)
    decay = weights.decay.copy()
    decay[split.memory], decay[split.forget] = 1.0, 0.0
    return network(weights._replace(decay=decay))
