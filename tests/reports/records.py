"""Small records of gated-rnn by `dualform reproduce`, of the form that the experiments give, made by hand."""

from typing import Any

import numpy as np

from dualform.experiments.protocol import protocol


def weights(n: int, m: int, d: int = 2) -> dict[str, Any]:
    """The weights of a gated RNN as a record holds them, the first half of its units at 1."""
    shapes = {"w_m_in": (n, d + 1), "w_x_in": (n, d + 1), "w_m_out": (m, n), "w_x_out": (m, n), "readout": (d, m)}
    rng = np.random.default_rng(0)
    found = {name: rng.standard_normal(shape).round(6).tolist() for name, shape in shapes.items()}
    return found | {"decay": [1.0] * (n // 2) + [0.0] * (n - n // 2)}


def _rates(rank: int, size: int, identified: int) -> dict[str, Any]:
    return {
        "rank": rank,
        "size": size,
        "identified": identified,
        "seeds": 2,
        "low": identified / 4,
        "high": 1.0 if identified == 2 else 0.8,
        "first_losses": [1e-4, 3e-5],
        "polished_losses": [1e-20, "inf"],  # as a run folder stores an infinity
    }


def _architecture(name: str, layers: int, width: int, losses: list[Any]) -> dict[str, Any]:
    row = {"architecture": name, "layers": layers, "width": width, "learning_rate": 1e-3, "parameters": 20 * width}
    return row | {"train": losses, "validation": losses, "loss": losses}


_COMPARED = {
    "teacher": [
        _architecture("gated_rnn", 1, 16, [1e-3, 2e-3]),
        _architecture("gated_rnn", 1, 32, [1e-5]),
        _architecture("lstm", 2, 16, [0.1, "nan"]),
        _architecture("gru", 1, 16, ["inf"]),
    ],
    "regression": [_architecture("lru_in_out", 1, 32, [0.095]), _architecture("linear_attention", 1, 32, [0.0946])],
    "optimal_loss": 0.0946,
    "optimal_validation_loss": 0.189,
}
_GATE = {
    "u": {"shape": [2, 3], "values": [1.0, 0.0, -1.0, 0.5, 0.0, 0.0]},
    "v": {"shape": [2, 2], "values": [0.0] * 4},
    "b": {"shape": [2], "values": ["inf", "inf"]},
}
_CURVE = {"scales": [0.1, 0.01], "errors": {"float32": [1e-2, "inf"], "float64": [1e-3, 1e-5]}, "best": {}}

DATA: dict[str, dict[str, Any]] = {
    "table1": {
        "rows": [
            {
                column: {"relative_loss": 1e-16, "kv_score": 0.0, "q_score": 1e-14, "polynomial_distance": 1e-7}
                for column in ("trained", "reduced", "polished")
            }
            | {"seed": seed}
            for seed in range(2)
        ]
    },
    "table2": {
        "rows": [
            {"seed": seed, "rate": 0.0676, "coefficients": [0.0675, 0.0677, 0.068], "residual_norm": 1e-3}
            for seed in range(2)
        ],
        "paper": [0.0681, 0.0682, 0.0682],
    },
    "table3": {
        "curves": [{"cell": f"cell {i}", **_CURVE} for i in range(10)],
        "fits": [
            {"architecture": "gru", "layers": 2, "width": 16, "errors": [0.2, 0.3], "best": 0.2},
            {"architecture": "lstm", "layers": 1, "width": 16, "errors": [0.1, "inf"], "best": 0.1},
        ],
    },
    "table4": {
        "cells": {"linear attention": [dict.fromkeys("fcgo", _GATE)], "gated RNN": [dict.fromkeys("fcgo", _GATE)] * 2}
    },
    "fig1": {"full": weights(6, 4), "compact": weights(5, 3)},
    "fig2": weights(5, 3)
    | {
        "kernels": np.ones((2, 5, 5)).tolist(),
        "teacher": {name: [[1.0, 0.0], [0.5, -1.0]] for name in ("w_v", "w_k", "w_q")},
    },
    "fig3": {
        "rows": [_rates(4, 10, 0), _rates(4, 28, 2), _rates(1, 8, 1)],
        "readout_rows": [_rates(4, 6, 1), _rates(4, 12, 2)],
        "sparse_rows": [_rates(4, 10, 1)],
        "regression": [{"size": 6, "gaps": [1e-2, 2e-2]}, {"size": 24, "gaps": [-1e-6, 1e-4]}],
        "construction": {"4": 14, "1": 5},
        "optimal_loss": 0.0946,
    },
    "fig4": _COMPARED,
    "fig5": _COMPARED,
    "scaling": {
        "rows": [
            {
                "d": d,
                "width": 10 * d,
                "seeds": 2,
                "steps_to": {"0.1": [100, 120], "0.01": [300, None], "0.001": [None, None]},
                "first_losses": [1e-2, 2e-2],
                "milliseconds": 1.5 * d,
            }
            for d in (2, 4)
        ],
        "widths": [{"d": d, "width": n * d, "loss": 0.1 / n} for d in (2, 4) for n in (5, 10)],
    },
    "in-context": {
        "learning_rates": [{"pairs": 4, "noise": 0.0, "rate": 0.147, "learned_rate": 0.146}],
        "depth": {
            "steps": [{"steps": 1, "rate": 0.07, "loss": 0.0946}, {"steps": 2, "rate": 0.07, "loss": 0.06}],
            "stacks": [
                {"mixer": "gated_rnn", "layers": layers, "loss": [0.09 / layers, 0.1], "standard_error": [1e-3, 1e-3]}
                for layers in (1, 2)
            ],
        },
        "recall": {
            "chance": 0.17,
            "mixers": [{"mixer": "lstm", "accuracy": [0.4, 0.5], "standard_error": [0.01, 0.01]}],
        },
    },
}
"""The data of every result that `dualform reproduce` has."""

PICTURES = {"table3": 2, "fig1": 2, "fig2": 3, "fig3": 2}
"""How many pictures a result has, where it is not one."""


def record(name: str, data: dict[str, Any] | None = None, text: str = "text") -> dict[str, Any]:
    """A whole record, of this version's code; `text` stands wherever a record holds words."""
    functions = ["dualform.experiments.numerals:count"]
    number = {"name": text, "paper": None, "ours": 0.0675, "rule": text, "outcome": "met"}
    return {
        "paper": "gated-rnn",
        "name": name,
        "title": text,
        "preset": "full",
        "command": f"dualform reproduce {text}",
        "verdict": "reproduced",
        "why": text,
        "numbers": [number, number | {"paper": 13, "ours": text, "outcome": "better"}],
        "unknowns": [[text, text]],
        "data": DATA.get(name, {}) if data is None else data,
        "seeds": 2,
        "failed": [text],
        "seconds": 90.5,
        "versions": {"python": text},
        "protocol": {"functions": functions, "modules": protocol(*functions)},
    }
