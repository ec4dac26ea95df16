"""Into delta rules: residual blocks of a `DeltaRule`, whose b reaches 2, and a SwiGLU.

A head with keys of one number is S_t = (1 - b) S_{t-1} + b v_t: its key and its query are 1, to the bit, as what they are made of
is so large that the epsilon of their norm is absorbed. What is put where:

- b = 2 sigma(w) does not depend on the token: a decay 1 - b in [-1, 1], b = 2 a change of sign, b = 1 the present token alone. A
  perfect memory is b = 2^-60 (2^-40 or so below float64), which 1 - b does not see.
- v = silu(conv(.)) is linear: 2 silu(k f) / k is f, to the bit; k is 2^-100 in float64, and 2^-50 below it, where it holds for f
  up to 2^25. The convolution over four tokens holds delays of up to three. A head holds all states of its decay, as entries of
  its value.
- What a head reads is divided by its root mean square. One more entry of the value makes that a constant: at the first token,
  which is where the convolution of a constant sees nothing before it, it is written as C, and kept at the size C ever after,
  which is so large that the squares of all others are absorbed, as is epsilon, 2^-60. Heads have 4, 16 or 64 entries, a power
  of 4: then 1 / rms is a power of two, and the norm a constant factor, exact where a state is below 2^140 in float64, 2^65 below
  it.
- ReLUs and products are units of the SwiGLU, as of Hawk's GeGLU.

In float64 all of this is exact but for decays that no float is. In float32 no logit gives a b that is a power of two and small
enough: values are divided by what b is, so that a 1 is written as 1, but another whole number may be off by a unit in its last
place. Keys that change from token to token turn a state, as products of reflections do; a program's states have none, and one
that turns is refused.
"""

from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dualform.mixers import DeltaRule
from dualform.models import SequenceModel
from dualform.programs.emit.channels import REACH, Reach, cut, gathered
from dualform.programs.emit.diagonal import gated_mlp, stream
from dualform.programs.emit.gates import OPEN, faintness, sharpness
from dualform.programs.emit.registration import register
from dualform.programs.graph import Graph
from dualform.programs.path import Path, PathLayer, as_path

HELD = Reach("a delta rule's head of one key", -1, "gated-linear-rnn (complex decays), gru or lstm")

ENTRIES = (4, 16, 64)
"""Of a head's value: powers of 4."""

LENGTH = 2.0**20
"""Of a key before it is scaled to 1: its square absorbs the epsilon, 1e-6."""

EPSILON = 2.0**-60
"""Of the norm behind the heads: as small as what it reads, and so large that float32 holds its power of -3/2, a gradient where
there is no token."""


class Size(NamedTuple):
    """By what numbers are multiplied in a head.

    - faint: k, of 2 silu(k f) / k.  constant: C, in units of the states.
    """

    faint: float
    constant: float


class Held(NamedTuple):
    """An entry of a value: what it reads, by how many tokens it is late, and where it is read out."""

    enter: np.ndarray
    lag: int
    leave: np.ndarray


def delta_path(graph: Graph) -> Path:
    """States that a head can hold, then units."""
    return as_path(cut(graph))


@register("delta", "residual blocks of a delta rule whose decays reach -1, and a SwiGLU", delta_path, roundings=4)
def delta(path: Path, dtype: Any) -> SequenceModel:
    """A `DeltaRule` (negative=True) and a `GatedMLP` with silu in each block.

    **Raises:** `InputError`, with file and line, where a state grows, turns, or has no eigenvectors.
    """
    mlp = partial(gated_mlp, activation="silu", sharp=sharpness(dtype), faint=faintness(dtype))
    return stream(path, dtype, partial(delta_of, dtype=dtype), mlp)


def delta_of(layer: PathLayer, lanes: dict[int, int], width: int, cast: Any, *, dtype: Any) -> DeltaRule:
    """The layer's states as heads; one that holds nothing where there are none."""
    by_decay: dict[float, list[Held]] = {}
    for each in gathered(layer, lanes, width, HELD):
        by_decay.setdefault(each.decay, []).append(Held(each.row, each.lag, each.leave))
    entries = _entries([len(group) for group in by_decay.values()])
    cut_into = lambda group: (group[i : i + entries - 1] for i in range(0, len(group), entries - 1))
    heads: list[tuple[float, list[Held]]] = [
        (decay, part) for decay, group in by_decay.items() for part in cut_into(group)
    ]
    heads = heads or [(0.0, [])]
    n, size = len(heads), sizes(dtype)
    w_v, w_o = np.zeros((n, entries, width)), np.zeros((width, n, entries))
    w_b, c_v = np.zeros((n, width)), np.zeros((REACH + 1, n, entries))
    for i, (decay, group) in enumerate(heads):
        w_b[i, 0], b = beta(decay, jnp.dtype(dtype).name)
        w_v[i], c_v[:, i], w_o[:, i] = _head(decay, b, group, entries, width, size)
    keys = np.broadcast_to(LENGTH * np.eye(width)[0], (n, 1, width))
    present = np.repeat(np.eye(REACH + 1)[:, -1:], n, axis=1)
    return DeltaRule(
        w_q=cast(keys),
        w_k=cast(keys),
        w_v=cast(w_v),
        c_q=cast(present),
        c_k=cast(present),
        c_v=cast(c_v.reshape(REACH + 1, n * entries)),
        w_b=cast(w_b),
        norm=cast(np.ones(entries)),
        w_o=cast(w_o.reshape(width, n * entries)),
        epsilon=EPSILON,
        negative=True,
    )


def _head(decay: float, b: float, group: Sequence[Held], entries: int, width: int, size: Size) -> tuple[Any, Any, Any]:
    """A head's rows of w_v and of the kernel, and columns of w_o; entry 0 is the constant.

    b v is a power of two times what is written: `whole`, the power of two next to b, stands for it, and v is larger by as much as
    b is smaller.
    """
    w_v, c_v, w_o = np.zeros((entries, width)), np.zeros((REACH + 1, entries)), np.zeros((width, entries))
    whole = 2.0 ** np.round(np.log2(b))
    unit = whole * size.faint / 2  # what a state of 1 is held as
    constant = size.constant * unit
    if abs(decay) < 1:
        constant = max(constant, 2 * OPEN)  # it is written at every token, where silu is its argument
    # C / b first, then what keeps it: C where it decays, and nothing where it does not.
    w_v[0, 0], c_v[REACH, 0], c_v[REACH - 1, 0] = constant / b, 1, -1 if abs(decay) == 1 else b - 1
    for entry, held in enumerate(group, start=1):
        w_v[entry], c_v[REACH - held.lag, entry] = whole / b * size.faint * held.enter, 1
        w_o[:, entry] = constant / unit / entries**0.5 * held.leave
    return w_v, c_v, w_o


def sizes(dtype: Any) -> Size:
    """Those of a dtype."""
    return Size(faintness(dtype), 2.0**170) if jnp.dtype(dtype) == jnp.float64 else Size(2.0**-50, 2.0**80)


@lru_cache
def beta(decay: float, dtype: str) -> tuple[float, float]:
    """The logit of a head with such a decay, and its b: 2 sigma(logit), as it is computed."""
    if decay in (-1, 0):
        return (OPEN, 2.0) if decay else (0.0, 1.0)
    if decay < 1:
        share = (1 - decay) / 2
        return float(np.log(share / (1 - share))), 1 - decay
    kind, wide = jnp.dtype(dtype), jnp.float64 if dtype == "float64" else jnp.float32
    # A sigmoid is sought that is 2^-power, or as near to one as there is.
    powers = np.arange(57, 65) if dtype == "float64" else np.arange(38, 58)
    logits = np.asarray(jnp.asarray(-powers * np.log(2), kind), np.float64)
    found = np.asarray(jax.jit(jax.nn.sigmoid)(jnp.asarray(logits, wide)), np.float64)
    best = int(np.argmin(np.abs(found * 2.0**powers - 1)))
    return float(logits[best]), 2 * float(found[best])


def _entries(groups: list[int]) -> int:
    """How many entries of a value take the fewest weights, for groups of so many states."""
    heads = lambda entries: sum(-(-group // (entries - 1)) for group in groups)
    return min(ENTRIES, key=lambda entries: heads(entries) * (2 * entries + 3))
