"""Texts read beyond training's length: what is judged is the same text at every length, and the rules have their adversaries."""

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dualform.experiments.griffin import extrapolation
from dualform.experiments.griffin.extrapolation import JUDGED, LENGTHS, TIME, read, recipe, rise
from dualform.experiments.reproduction import Workshop, verdict_of
from dualform.training import Row
from dualform.training.recipe import Recipe, model_for

ENDS = range(LENGTHS[-1], 3000, TIME)


def told_by_place(x):
    """Logits that give the token that follows, x + 1 of 4, a probability of its place in the window, 1 / (2 + part)."""
    parts = 2 + (jnp.arange(len(x)) // JUDGED).astype(float)
    wanted = jax.nn.one_hot((x + 1) % 4, 4)
    return jnp.log(jnp.where(wanted == 1, 1 / parts[:, None], (1 - 1 / parts[:, None]) / 3)), None


@pytest.mark.parametrize("length", LENGTHS[:2])
def test_a_window_is_read_part_by_part(length):
    """The loss of a part is that of its places, to rounding; there is a window at every end that the longest one allows."""
    tokens = np.arange(3000) % 4  # each token follows from the one before: a shifted target would cost another loss
    found = read(told_by_place, tokens, length)
    assert found.shape == (len(ENDS), length // JUDGED)
    np.testing.assert_allclose(found, np.tile(np.log(2 + np.arange(length // JUDGED)), (len(ENDS), 1)), rtol=1e-12)


def test_the_same_characters_are_judged_at_every_length():
    """A model that sees one token alone judges them alike, though the text differs from place to place."""
    tokens = np.random.default_rng(0).integers(0, 4, 3000)
    alone = lambda x: (jax.nn.one_hot(x, 4), None)
    short, long = (read(alone, tokens, length)[:, -1] for length in LENGTHS[:2])
    np.testing.assert_allclose(short, long, rtol=1e-12)
    assert np.ptp(short) > 0.01


def reading(rises: float, noise: float) -> dict[str, Any]:
    """Losses of 50 windows that rise by so much at the last length, give or take the noise, and not before."""
    rng = np.random.default_rng(0)
    base, moved = rng.normal(2, 0.3, 50), rng.normal(size=50)
    moved = rises + noise * (moved - moved.mean()) / moved.std(ddof=1)
    judged = {length: base + (moved if length == LENGTHS[-1] else 0) for length in LENGTHS}
    return {
        "judged": {str(length): each.tolist() for length, each in judged.items()},
        "parts": {str(length): [2.0] * (length // JUDGED) for length in LENGTHS},
    }


def test_a_rise_is_known_within_its_pairs():
    """Windows differ by 0.3, their rises by 0.1: the interval is that of the rises, 2.0096 x 0.1 / sqrt(50)."""
    middle, half = rise(reading(0.02, 0.1), LENGTHS[-1])
    assert (middle, half) == (pytest.approx(0.02), pytest.approx(2.0096 * 0.1 / 50**0.5, rel=1e-4))
    assert rise(reading(0.02, 0.1), LENGTHS[1]) == (0, 0)


@dataclass
class Pretended(Workshop):
    """A workshop whose trainings have a least loss at 3e-3, and whose readings are given, by the model's name and seed."""

    folder: Path = Path("nowhere")
    given: Any = None

    def sweep(self, name, jobs):
        return [Row(job.name, job.config, "done", (self._result(name, job),)) for job in jobs]

    def _result(self, name, job):
        if name == "extrapolation-read":
            seed = int(job.name.rpartition("=")[2])
            assert f"rate=0.003-seed={seed}/run" in job.config["run"]
            return reading(*self.given[job.config["model"]][seed])
        scores = {"loss": abs(np.log(Recipe.of(job.config).fit.learning_rate / 3e-3))}
        told_of = {"parameters": 7, "seconds": 1.0, "tokens_per_second": 2.0}
        return {"validation": scores, "test": {"test": scores}} | told_of


FLAT, UP, DOWN, UNSURE = (0.0, 0.1), (0.3, 0.1), (-0.3, 0.1), (0.02, 0.1)


@pytest.mark.parametrize(
    ("griffin", "transformer", "verdict"),
    [
        ([FLAT, DOWN], [UP, UP], "reproduced"),
        ([UNSURE, UNSURE], [UP, UP], "reproduced"),
        ([FLAT, UP], [UP, UP], "differs"),
        ([FLAT, FLAT], [UP, UNSURE], "differs"),
        ([FLAT, FLAT], [DOWN, UP], "differs"),
    ],
)
def test_the_seed_against_the_claim_decides(griffin, transformer, verdict, monkeypatch):
    """Griffin's loss may not rise beyond its interval in any seed; the transformer's must in every one."""
    monkeypatch.setitem(extrapolation.GRIDS, "quick", extrapolation.GRIDS["quick"] | {"seeds": 2})
    given = {"griffin": griffin, "hawk": [FLAT, FLAT], "transformer": transformer}
    found = extrapolation.EXTRAPOLATION.run(Pretended(given=given), "quick", Path("t.txt"))
    assert verdict_of(found) == verdict and not found.failed and found.seeds == 2
    assert len(found.numbers) == 6 and all(number.paper is None for number in found.numbers)
    assert len(json.dumps(found.data)) < 20_000 and {row["rate"] for row in found.data["rows"]} == {3e-3}


@pytest.mark.parametrize("preset", extrapolation.GRIDS)
def test_models_are_about_as_large(preset, tmp_path):
    """Of each preset the three models have as many weights, within a tenth, and the mixers of their names."""
    (tmp_path / "t.txt").write_text("abcdefgh" * 2000)
    sizes = {name: extrapolation.GRIDS[preset][name] for name in ("width", "layers", "batch", "steps")}
    counts = {}
    for name in extrapolation.MIXERS:
        told = recipe(name, **sizes, data=tmp_path / "t.txt")
        task = told.open_task()
        make = partial(model_for, told.model, task)
        shapes = eqx.filter_eval_shape(lambda key, make=make: make(key=key), jax.random.key(0))
        counts[name] = shapes.parameters()
        kinds = [type(block.mixer).__name__ for block in shapes.blocks]
        recurrent = ["GriffinRecurrent"] * 2
        assert kinds == {"griffin": [*recurrent, "SoftmaxAttention"], "hawk": ["GriffinRecurrent", *recurrent]}.get(
            name, ["SoftmaxAttention"] * 3
        )
    assert max(counts.values()) < 1.1 * min(counts.values())
