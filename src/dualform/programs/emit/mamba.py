"""Into Mamba: residual blocks of a Mamba and nothing else, which reads what its states hold one block later.

A channel is (C h + D u) silu(z) with u = silu(conv(v) + bias), and v and z linear in what comes in, so that units read what is
given to their block, and not its states: they stand one layer above what they read. What is put where:

- u is linear: 2 silu(k f) / k is f, to the bit, where k is so small (2^-100 in float64, 2^-60 below it) that sigma(k f) is 1/2.
  One channel holds silu(64) = 64, the constant of which B and C are made.
- A state is a channel: delta = softplus(64) = 64, B so that delta B is 2 / k, D = 0, and exp(delta A) its decay, which is 1 to
  the bit at delta A = -2^-60, with nothing taken from what is written. Where a decay is negative, the block is a `Mamba` with
  negative=True, 2 exp(delta A) - 1.
- What remembers nothing has delta = softplus(-1000) = 0, and D = 2 / k: a delay of up to three tokens, whose convolution looks
  back (a longer one takes a layer for each three), and a product, 2 silu(k x) / k of u times 2 silu(k y) / k of the gate.
- A ReLU is such a channel, too, with D = 1 / K: silu(K f) / K is ReLU(f), to 0.28 / K, K being 2^60 in float64, 2^30 below it.

All of this is exact but for decays that no float is.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from dualform.mixers import Mamba
from dualform.models import SequenceModel
from dualform.programs.emit.channels import REACH, Reach, cut, gathered
from dualform.programs.emit.diagonal import stream
from dualform.programs.emit.gates import OPEN, SHUT, faintness, sharpness
from dualform.programs.emit.registration import register
from dualform.programs.graph import Graph
from dualform.programs.path import Path, PathLayer, as_path, rows

HELD = Reach("Mamba", -1, "gated-linear-rnn (complex decays), gru or lstm")

NEVER = 2.0**-60
"""-delta A of a state that forgets nothing."""


def mamba_path(graph: Graph) -> Path:
    """States that a Mamba can hold; units one layer above what they read."""
    return as_path(cut(graph), together=False)


@register(
    "mamba", "residual blocks of a Mamba alone; with negative eigenvalues where a state's decay is negative", mamba_path
)
def mamba(path: Path, dtype: Any) -> SequenceModel:
    """A `Mamba` in each block, and no MLP; negative=True in those where a state changes its sign.

    **Raises:** `InputError`, with file and line, where a state grows, turns, or has no eigenvectors.
    """
    return stream(path, dtype, partial(mamba_of, dtype=dtype), lambda *_: None)


class Part(NamedTuple):
    """A channel: v and its bias, z, D, how many tokens it looks back, its decay (None: no state), and where it is read out."""

    v: np.ndarray
    bias: float
    z: np.ndarray
    skip: float
    lag: int
    decay: float | None
    out: np.ndarray


def mamba_of(layer: PathLayer, lanes: dict[int, int], width: int, cast: Any, *, dtype: Any) -> Mamba:
    """The layer's states and units as channels; the first one is constant."""
    sharp, faint, lane = sharpness(dtype), faintness(dtype), np.eye(width)
    still, none = OPEN * lane[0], np.zeros(width)
    parts = [Part(none, OPEN, none, 0, 0, None, none)]
    for held in gathered(layer, lanes, width, HELD):
        skip = 0 if held.decay else 2 / faint
        # A bias is added to what the convolution gives, also where that looks back beyond the first token.
        v, bias = (faint * held.row, 0.0) if held.lag else (faint * held.enter, faint * held.bias)
        parts.append(Part(v, bias, still, skip, held.lag, held.decay or None, held.leave / OPEN))
    for each in layer.relus:
        w, b = rows([each.step.forms[0]], lanes, width)
        parts.append(Part(sharp * w[0], sharp * b[0], still, 1 / sharp, 0, None, lane[lanes[each.first]] / OPEN))
    for each in layer.products:
        (left, right), (b_left, b_right) = rows(each.step.forms, lanes, width)
        z, out = faint * (right + b_right * lane[0]), 2 / faint * lane[lanes[each.first]]
        parts.append(Part(faint * left, faint * b_left, z, 2 / faint, 0, None, out))
    return _written(parts, cast, faint)


def _written(parts: Sequence[Part], cast: Any, faint: float) -> Mamba:
    n, negative = len(parts), any((part.decay or 0) < 0 for part in parts)
    kernel, first = np.zeros((REACH + 1, n)), np.eye(n)[:1]
    kernel[[REACH - part.lag for part in parts], np.arange(n)] = 1
    rates = [NEVER if part.decay is None else _rate(part.decay, negative) for part in parts]
    return Mamba(
        w_u=cast([part.v for part in parts]),
        w_z=cast([part.z for part in parts]),
        kernel=cast(kernel),
        bias=cast([part.bias for part in parts]),
        w_b=cast(2 / (OPEN * OPEN * faint) * first),
        w_c=cast(first / OPEN),
        w_1=cast(np.zeros((1, n))),
        w_2=cast(np.zeros((n, 1))),
        b_delta=cast([-SHUT if part.decay is None else OPEN for part in parts]),
        a_log=cast(np.log(rates)[:, None] - np.log(OPEN)),
        skip=cast([part.skip for part in parts]),
        w_o=cast(np.array([part.out for part in parts]).T),
        negative=negative,
    )


def _rate(decay: float, negative: bool) -> float:
    """-delta A of a decay."""
    held = (1 + decay) / 2 if negative else decay
    return SHUT if held <= 0 else max(NEVER, -float(np.log(held)))
