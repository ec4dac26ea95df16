"""The distance of a looked-up value from the function that was given."""

import numpy as np
import pytest

from dualform.experiments.lsrl.noise_vec2vec import CELLS, POINTS, D, job
from dualform.programs.library.vec2vec import target

SEED = 2  # none of whose points is at a border


def by_hand(seed: int) -> float:
    """The mean distance of the function at a cell's middle from the function at a point in it."""
    random = np.random.default_rng(seed)
    function = target(random, D, D)
    points = random.uniform(size=(POINTS, D))
    away = np.abs(points * CELLS - np.rint(points * CELLS))
    assert (away > CELLS / 1000).all()
    middles = (np.floor(points * CELLS) + 0.5) / CELLS
    return float(
        np.mean([float(np.linalg.norm(function(m) - function(x))) for m, x in zip(middles, points, strict=True)])
    )


@pytest.mark.parametrize(("form", "ramp"), [("multiplicative", "whole"), ("direct", "whole"), ("step", "published")])
def test_without_noise_it_is_the_cells_value(tmp_path, form, ramp):
    """Without noise what is left is the cell's size; with much of it more is wrong."""
    found = job({"form": form, "ramp": ramp, "seeds": 3}, tmp_path)["distance"]
    assert len(found["0.001"]) == 3
    # Without products a value is added to 1e10, and keeps five digits.
    assert found["0.0"][SEED] == pytest.approx(by_hand(SEED), abs=2e-5)
    assert max(found["0.001"]) > 2 * max(found["0.0"])
