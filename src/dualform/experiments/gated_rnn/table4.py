"""Table 4: weights of an LSTM that are linear attention, or a gated RNN: as printed, and as they are really used."""

from typing import Any

import jax.random as jr
import numpy as np

from dualform.construct.lstm_configuration import REMARKS, Cell, Table4, table4
from dualform.experiments.reproduction import Experiment, Findings, Number, Workshop, at_most
from dualform.mixers import GatedRNN
from dualform.tasks import Teacher

EXACT, REAL = 1e-12, 1e-6


def _run(workshop: Workshop, preset: str) -> Findings:
    del workshop
    seeds = {"quick": 2, "full": 5}[preset]
    numbers: list[Number] = []
    data: dict[str, Any] = {}
    for half, make in (
        ("linear attention", lambda seed: Teacher.gaussian(4, key=jr.key(seed)).attention),
        ("gated RNN", lambda seed: GatedRNN.make(4, key=jr.key(seed))),
    ):
        found = [table4(make(seed)) for seed in range(seeds)]
        numbers += _numbers(half, found)
        data[half] = [_cell(cell) for cell in found[0].printed]
    why = (
        "As printed, the right half's output gate is linear with a bias of infinity; read as open, it is right. "
        + " ".join(REMARKS)
    )
    return Findings(numbers, {"cells": data}, seeds, why)


def _numbers(half: str, found: list[Table4]) -> list[Number]:
    worst = lambda name: float(max(getattr(one, name) for one in found))
    printed = worst("error_as_printed")
    return [
        Number(
            f"{half}: error exactly as printed, all nonlinearities but f's ignored",
            None,
            printed if np.isfinite(printed) else "infinite",
            "what the table says, run",
            "ours alone",
        ),
        at_most(
            f"{half}: error with the output gate open", None, worst("error"), EXACT, "exact but for rounding of float64"
        ),
        at_most(f"{half}: error of a real LSTM, nothing ignored", None, worst("used_error"), REAL, "gates linearised"),
    ]


def _cell(cell: Cell) -> dict[str, Any]:
    """The gates of one layer, numbers short, infinities in words."""
    plain = lambda array: [str(v) if not np.isfinite(v) else round(float(v), 6) for v in np.ravel(array)]
    return {
        name: {part: {"shape": list(np.shape(value)), "values": plain(value)} for part, value in gate._asdict().items()}
        for name, gate in cell._asdict().items()
    }


TABLE4 = Experiment(
    "Table 4: an LSTM's weights that are linear attention, or a gated RNN",
    (
        (
            "the decoder, and how small the linearised weights are",
            "ours: see the remarks, and Table 3 for the error's curve",
        ),
    ),
    _run,
)
