"""Lenses by layer as a result: the rule that the tuned lens is nearer, its adversary, and a run at the size of a toy."""

from dataclasses import asdict

import numpy as np
import pytest

from dualform.experiments.reproduction import Findings, verdict_of
from dualform.experiments.transfer.distances import GRIDS, job, numbers_of
from dualform.lenses import LensConfig

WINDOWS = np.random.default_rng(0).uniform(0.9, 1.1, 8)


def distances(logit: list[float], tuned: list[float]) -> dict:
    """By layer, of eight windows."""
    rows = lambda values: [(value * WINDOWS).tolist() for value in values]
    return {"layers": ["embedding", "block 1"], "logit": rows(logit), "tuned": rows(tuned)}


def test_a_nearer_lens_is_met():
    """Nearer at every layer; the least difference is given, and what is left of the logit lens's distance."""
    numbers = numbers_of("gla", distances([4.0, 1.0], [2.0, 0.5]))
    assert verdict_of(Findings(numbers, {}, 1)) == "reproduced"
    assert numbers[0].ours == pytest.approx(0.46, abs=0.04) and "least at block 1" in numbers[0].rule
    assert numbers[1].ours == pytest.approx(0.5)


@pytest.mark.parametrize("tuned", [[2.0, 1.1], [4.5, 0.5]])
def test_one_layer_that_is_farther_differs(tuned):
    """At any layer."""
    assert verdict_of(Findings(numbers_of("gla", distances([4.0, 1.0], tuned)), {}, 1)) == "differs"


def test_a_difference_within_its_spread_differs():
    """Nearer in the mean, and farther on half of the windows."""
    found = distances([4.0, 1.0], [2.0, 0.9])
    found["tuned"][1] = (np.array(found["logit"][1]) + np.tile([0.5, -0.6], 4)).tolist()
    assert verdict_of(Findings(numbers_of("gla", found), {}, 1)) == "differs"


def test_presets():
    """Recurrent models in both, the published settings and SmolLM2 in the full one alone."""
    assert set(GRIDS["quick"]["lenses"]) == {"characters", "gla"} < set(GRIDS["full"]["lenses"])
    assert GRIDS["full"]["lenses"]["characters"] == LensConfig()


@pytest.mark.slow
def test_a_model_is_measured(tmp_path):
    """The characters on a text of few words: both lenses, at every layer but the last, and training has brought one nearer."""
    text = tmp_path / "text.txt"
    text.write_text("the king is here, and my lord of York will not\n" * 200)
    lens = asdict(LensConfig(steps=20, batch=4, length=32))
    found = job({"name": "characters", "source": "characters", "data": str(text), "lens": lens}, tmp_path)
    assert found["layers"] == ["embedding", "block 1", "block 2"]
    logit, tuned = (np.array(found[name]) for name in ("logit", "tuned"))
    assert logit.shape == tuned.shape and (logit >= 0).all() and tuned.mean() < logit.mean()
