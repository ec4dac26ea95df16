"""Table 3 of Zucchet et al. 2023, measured: how many layers of which RNN are a gated RNN, or linear attention."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax.random as jr
import numpy as np

from dualform.construct.into_lru import lru_maker
from dualform.construct.into_lstm import lstm_maker
from dualform.construct.linearised import check_linearisation
from dualform.construct.scale import Curve, linearisation_curve, stack_error
from dualform.errors import require
from dualform.mixers import LRU, LSTM, AbstractMixer, GatedRNN, LinearAttention
from dualform.models import Stack

CLAIMED = {
    ("LRU", "gated RNN"): 2,
    ("LRU", "linear attention"): 2,
    ("LRU In-Out", "gated RNN"): 1,
    ("LRU In-Out", "linear attention"): 1,
    ("LRU In-Skip", "gated RNN"): 2,
    ("LRU In-Skip", "linear attention"): 1,
    ("LSTM", "gated RNN"): 2,
    ("LSTM", "linear attention"): 1,
}
"""The paper's Table 3: layers needed. Its last row, GRU, says that no number is enough."""

BEYOND = (("LRU In-Skip", "linear attention", 2), ("LSTM", "linear attention", 2))
"""Deeper stacks than the paper needs, which write attention by way of a gated RNN."""

_VARIANT = {"LRU": "out", "LRU In-Out": "in_out", "LRU In-Skip": "in_skip"}


@dataclass(frozen=True)
class Row:
    """One cell of Table 3 and what it was measured to be worth.

    - architecture, layers, target: as the paper names them.  claimed: the paper's number of layers.
    - float64, float32: ||stack(x) - target(x)|| / ||target(x)|| on fresh tokens, at the best scale for that dtype.
    - curve: the errors at every scale, and the best scales.
    - hidden: units that remember, of all layers.  parameters: of the stack, its embedding and readout included.
    """

    architecture: str
    layers: int
    target: str
    claimed: int
    float64: float
    float32: float
    curve: Curve
    hidden: int
    parameters: int


def table3(d: int = 4, seed: int = 0, order: int = 2) -> list[Row]:
    """Every cell of Table 3 but GRU's, built and measured, then the two deeper stacks of `BEYOND`.

    The attention has one head and Gaussian weights of variance 1 / d, the gated RNN is `GatedRNN.make(d)`. The scale is
    chosen on other tokens than those of the error.

    **Arguments:** d: width of a token.  seed: of both targets and of the tokens.  order: as of `construct.lru`.

    **Raises:** `InputError` for a d below 1 or another order.
    """
    require(isinstance(d, int) and d >= 1, f"d is {d!r}; the tokens need a width of at least 1.")
    check_linearisation(None, order)
    keys = jr.split(jr.key(seed), 4)
    targets = {
        "gated RNN": GatedRNN.make(d, key=keys[0]),
        "linear attention": LinearAttention.make(d, heads=1, key=keys[1]),
    }
    cells = [(architecture, target, layers) for (architecture, target), layers in CLAIMED.items()]
    rows = []
    for architecture, name, layers in (*cells, *BEYOND):
        target = targets[name]
        make = _maker(architecture, target, layers, order)
        curve = linearisation_curve(make, target, key=keys[2])
        error = lambda dtype, make=make, curve=curve, target=target: stack_error(
            lambda dtype: make(curve.best[dtype], dtype), target, dtype, key=keys[3]
        )
        stack = make(curve.best["float32"], np.float32)
        rows.append(
            Row(
                architecture,
                layers,
                name,
                CLAIMED[architecture, name],
                error("float64"),
                error("float32"),
                curve,
                sum(hidden_units(layer) for layer in stack.layers),
                stack.parameters(),
            )
        )
    return rows


def hidden_units(layer: AbstractMixer) -> int:
    """How many units of an LRU or LSTM layer remember something."""
    core = getattr(layer, "core", layer)
    assert isinstance(core, LRU | LSTM)
    return len(core.nu) if isinstance(core, LRU) else core.d_out


def _maker(architecture: str, target: Any, layers: int, order: int) -> Callable[[float, Any], Stack]:
    if architecture == "LSTM":
        return lstm_maker(target, layers, order)
    return lru_maker(target, _VARIANT[architecture], layers, order)
