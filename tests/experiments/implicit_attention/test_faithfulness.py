"""Which attribution finds the source of an answer: the source that is meant, and what is said of what was found."""

import jax
import jax.random as jr
import numpy as np
import pytest

from dualform.experiments.implicit_attention import faithfulness
from dualform.experiments.implicit_attention.faithfulness import RANDOM, job, recall_cases
from dualform.tasks import AssociativeRecall


def test_only_right_answers_are_asked_about():
    """Of a model that reads the answer off the true pair every question counts, and the source is the pair with its key."""
    task = AssociativeRecall(vocabulary=6, pairs=4)
    half = task.d // 2

    def right(x):
        at = np.argmax(np.asarray(x[:-1, :half]) @ np.asarray(x[-1, :half]))
        return np.asarray(x[at, half:])

    def model(x):
        found = jax.pure_callback(right, jax.ShapeDtypeStruct((half,), x.dtype), x, vmap_method="sequential")
        return jax.numpy.broadcast_to(found, (len(x), half)), None

    cases, accuracy = recall_cases(model, task, 5, jr.key(0))
    assert accuracy == 1 and len(cases) == 5
    for case in cases:
        x = np.asarray(case.x)
        assert (x[case.source, :half] == x[-1, :half]).all() and x[case.source, half:].argmax() == case.target[1]


def _result(first: float, residual: float) -> dict:
    exact = {"first": first, "positive": 0.1, "negative": 0.9, "pruning": 1.0, "seconds": 1.0, "residual": residual}
    chance = {"first": 0.1, "positive": 0.5, "negative": 0.5, "pruning": 2.0, "first interval": [0.0, 0.2]}
    return {"accuracy": 1.0, "cases": 9, "methods": {"exact": exact, RANDOM: chance}}


def test_the_exact_sum_is_exact_and_above_chance():
    """A residual above rounding, a source found no more often than by chance, and no right answer each differ."""
    outcomes = lambda result: [number.outcome for number in faithfulness._numbers("gla", result)][:2]
    assert outcomes(_result(1.0, 1e-7)) == ["met", "met"]
    assert outcomes(_result(0.1, 1e-3)) == ["differs", "differs"]
    assert outcomes({"accuracy": 0.0, "cases": 0, "methods": {}}) == ["differs"]


@pytest.mark.slow
def test_a_model_is_trained_and_asked(tmp_path):
    """Every method is measured, with the chance line, on questions that training did not see."""
    config = {"mixer": "gla", "layers": 1, "d": 8, "steps": 40, "cases": 2, "orders": 2, "seed": 0}
    with jax.enable_x64(False):
        found = job(config, tmp_path)
    assert found["cases"] and {"exact", "occlusion", RANDOM} <= set(found["methods"])
    assert found["methods"]["exact"]["residual"] < 1e-5
