"""Several trainings in one program: each is, and leaves, what it would alone, also after a stop."""

import functools
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from dualform import checkpoints
from dualform.cli import main
from dualform.errors import DivergedError, InputError
from dualform.models.architecture import Architecture
from dualform.training import FitConfig, Fitted, Run, fit, fit_together
from dualform.training.outcome import outcomes_in
from dualform.training.recipe import Recipe
from dualform.training.seeds import train_seeds
from tests.tiers import tiers
from tests.training.test_recipe import SMALL

CONFIG = FitConfig(steps=8, chunk=2, warmup=2, learning_rate=0.1, dropout=0.25)
SEEDS = (3, 5)


def model(seed: int) -> Any:
    sizes = Architecture(("tanh_rnn",), plain=True, layers=1, options={"n": 4})
    return sizes.sequence_model(2, 1, key=jr.key(seed))


def draw(key):
    x = jr.normal(key, (4, 3, 2))
    return x, jnp.sin(x[:, :, :1])


def error(model, x, y):
    return jnp.mean(jnp.square(jax.vmap(lambda x: model(x)[0])(x) - y))


def evaluate(model) -> dict[str, float]:
    """Least somewhere on the way, so that the best model is not the last one."""
    return {"loss": abs(float(jnp.sum(model.w)) - 0.5)}


def together(config: FitConfig = CONFIG, **more: Any) -> Any:
    models = [model(seed) for seed in SEEDS]
    return fit_together(models, draw, config, seeds=SEEDS, loss=error, evaluate=evaluate, save_every=0, **more)


def alone(seed: int, config: FitConfig = CONFIG, **more: Any) -> Fitted:
    own = replace(config, seed=seed)
    return fit(model(seed), draw, own, loss=error, evaluate=evaluate, save_every=0, **more)


@functools.cache
def expected(seed: int) -> Fitted:
    return alone(seed)


def near(found: Fitted, wanted: Fitted) -> None:
    """Weights, the best ones, every loss and what is told of each chunk, to 1e-10."""
    for one, other in zip(*(jax.tree.leaves((each.model, each.best)) for each in (found, wanted)), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-10)
    assert (found.status, found.steps, found.best_step) == (wanted.status, wanted.steps, wanted.best_step)
    flat = lambda history: [[*line["held_out"].values(), line["loss"], line["learning_rate"]] for line in history]
    np.testing.assert_allclose(flat(found.history), flat(wanted.history), rtol=0, atol=1e-10)


def stop(at: int) -> Any:
    def on_chunk(_, progress):
        if progress.step == at:
            raise KeyboardInterrupt

    return on_chunk


@pytest.mark.parametrize("members", tiers(["map", "vmap"], "map"))
def test_each_is_what_it_is_alone(members):
    """Each by its own seed, with dropout, and of other weights."""
    for seed, found in zip(SEEDS, together(members=members), strict=True):
        near(found, expected(seed))
    assert expected(3).best_step != expected(5).best_step or expected(3).history != expected(5).history


@pytest.mark.slow
def test_members_at_other_steps_go_on_and_end_the_same(tmp_path):
    """Stopped; then one loses its last checkpoint, as by a kill between two: each ends as alone, and `fit` goes on there, too."""
    runs = [Run.create(tmp_path / str(seed), {"seed": seed}) for seed in SEEDS]
    assert [each.status for each in together(runs=runs, on_chunk=stop(4))] == ["interrupted"] * 2
    newest = [run.checkpoints("train").steps()[0] for run in runs]
    assert newest == [4, 4]
    shutil.rmtree(next(Path(runs[1].checkpoints("train").folder).glob("*4")))
    assert runs[1].checkpoints("train").steps()[0] == 2
    assert [each.status for each in together(runs=runs, on_chunk=stop(6))] == ["interrupted"] * 2
    near(alone(3, run=runs[0]), expected(3))
    for seed, run, found in zip(SEEDS, runs, together(runs=runs), strict=True):
        near(found, expected(seed))
        assert [line["step"] for line in run.metrics("train")] == [2, 4, 6, 8]


@pytest.mark.slow
def test_one_that_is_stopped_or_diverges_stops_no_other():
    """Patience ends each where it would alone; one whose loss is no longer finite is an error, and the other is done."""
    patient = replace(CONFIG, patience=1)
    found, wanted = together(patient), [alone(seed, patient) for seed in SEEDS]
    for one, other in zip(found, wanted, strict=True):
        near(one, other)
    assert "stopped" in [each.status for each in wanted]
    bad = jax.tree.map(lambda leaf: leaf * jnp.inf, model(3))
    broken, fine = fit_together([bad, model(5)], draw, CONFIG, seeds=SEEDS, loss=error, evaluate=evaluate)
    assert isinstance(broken, DivergedError) and "the loss is nan in step 1 of 8" in str(broken)
    assert isinstance(fine, Fitted)
    near(fine, expected(5))


@pytest.mark.slow
def test_a_recipe_leaves_a_folder_for_each_seed(tmp_path, capsys):
    """From the command line: weights and results are those of each seed alone, `compare` takes them, all are read back."""
    for name in ("together", "apart"):
        arguments = ["--seed", "2", "--seeds", "2", "--out", str(tmp_path / name)]
        Path(tmp_path / "run.toml").write_text(Recipe.of(SMALL).toml())
        more = ["--together"] if name == "together" else []
        assert main(["train", "--config", str(tmp_path / "run.toml"), *arguments, *more]) == 0
    for seed in (2, 3):
        folders = [tmp_path / name / f"seed-{seed}" for name in ("together", "apart")]
        told = [json.loads((folder / "result.json").read_text()) for folder in folders]
        assert (folders[0] / "run.toml").read_text() == (folders[1] / "run.toml").read_text()
        assert told[0]["validation"] == pytest.approx(told[1]["validation"], rel=1e-10)
        assert told[0]["test"]["test"] == pytest.approx(told[1]["test"]["test"], rel=1e-10)
        leaves = [jax.tree.leaves(checkpoints.load(folder).model) for folder in folders]
        for one, other in zip(*leaves, strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-10)
    assert sorted(each.recipe.seed for each in outcomes_in([tmp_path / "together"])) == [2, 3]
    recipes = [replace(Recipe.of(SMALL), seed=seed) for seed in (2, 3)]
    again = train_seeds(recipes, [tmp_path / "together" / f"seed-{seed}" for seed in (2, 3)])
    assert [each["status"] for each in again] == ["done", "done"]
    with pytest.raises(InputError, match="may differ in their seed alone"):
        train_seeds([recipes[0], replace(recipes[1], carried=True)], [tmp_path / "a", tmp_path / "b"])


@pytest.mark.slow
def test_every_seed_that_diverges_is_named(tmp_path):
    """At a rate at which all do, the error has a sentence for each seed."""
    first = Recipe.of(SMALL)
    wild = replace(first, fit=replace(first.fit, learning_rate=1e30, final_learning_rate=1e30, clip=1e30, warmup=0))
    with pytest.raises(DivergedError, match="seed 2: training diverged: .* seed 3: training diverged"):
        train_seeds([replace(wild, seed=seed) for seed in (2, 3)], [tmp_path / "a", tmp_path / "b"])


@pytest.mark.parametrize("more", [[], ["--together"]])
def test_folders_of_another_training_are_said_before_any_is_made(more, tmp_path, capsys):
    """That of the last seed, too, and a training's folder that would hold those of seeds."""
    recipe = Recipe.of(SMALL)
    (tmp_path / "run.toml").write_text(recipe.toml())
    Run.create(tmp_path / "runs" / "seed-1", replace(recipe, seed=1, carried=True).told())
    arguments = ["train", "--config", str(tmp_path / "run.toml"), "--seed", "0", "--seeds", "2", *more, "--out"]
    assert main([*arguments, str(tmp_path / "runs")]) == 2
    assert "seed-1' was made with carried = True" in capsys.readouterr().err
    assert [entry.name for entry in (tmp_path / "runs").iterdir()] == ["seed-1"]
    assert main([*arguments, str(tmp_path / "runs" / "seed-1")]) == 2
    assert "seed-1' is the folder of one training" in capsys.readouterr().err


def test_misfits_are_said(capsys):
    """Counts, and options that do not go with it."""
    with pytest.raises(InputError, match="1 seeds for 2 models; give one each"):
        fit_together([model(0), model(1)], draw, CONFIG, seeds=(0,), evaluate=evaluate)
    assert main(["train", "copy", "--together"]) == 2
    assert "--together is of several seeds; give --seeds" in capsys.readouterr().err
    assert main(["train", "copy", "--together", "--seeds", "2", "--devices", "1"]) == 2
    assert "--together trains on one device; leave --devices and --hosts out" in capsys.readouterr().err
