"""A sweep's file: every combination once, by a name that tells it, and nothing that is not understood."""

import pytest

from dualform.errors import FileError, InputError
from dualform.training import Job
from dualform.training.grid import jobs_of, read_grid, short_names
from dualform.training.recipe import Recipe
from tests.training.written_runs import TOLD

ALLOWED = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._=-")


def grid(**lists) -> dict:
    return TOLD | {"sweep": {key.replace("__", "."): values for key, values in lists.items()}}


def test_every_combination_is_a_job():
    """The product, its last key fastest; each job's config is that of its recipe, with its values, all else as in the file."""
    jobs = jobs_of(grid(model__mixers=[["gla"], ["rg_lru", "lstm"]], fit__learning_rate=[1e-3, 1e20], seed=[0, 7]))
    assert [job.name for job in jobs] == [
        f"mixers={mixers}--learning_rate={rate}--seed={seed}"
        for mixers in ("gla", "rg_lru-lstm")
        for rate in ("0.001", "1e20")
        for seed in (0, 7)
    ]
    recipe = Recipe.of(jobs[-1].config)
    assert (recipe.model.mixers, recipe.fit.learning_rate, recipe.seed) == (("rg_lru", "lstm"), 1e20, 7)
    assert (recipe.fit.steps, recipe.model.width, recipe.settings) == (40, 8, {"time": 6, "tokens": 2})
    assert len({str(job.config) for job in jobs}) == 8 and isinstance(jobs[0], Job)


def test_what_does_not_vary_names_nothing():
    """A list of one is set, and in no name; where nothing varies there is one run."""
    (job,) = jobs_of(grid(seed=[3], fit__steps=[20]))
    assert job.name == "run" and job.config["seed"] == 3 and job.config["fit"]["steps"] == 20
    assert [job.name for job in jobs_of(grid(seed=[3, 4], fit__steps=[20]))] == ["seed=3", "seed=4"]


def test_names_are_of_folders(tmp_path):
    """Of any value: with the characters that a job may have, no longer than a folder's name, each another one."""
    (tmp_path / "a b.txt").write_text("text " * 400)
    (tmp_path / "a-b.txt").write_text("text " * 400)
    paths = [str(tmp_path / name) for name in ("a b.txt", "a-b.txt")]
    jobs = jobs_of({"task": "text", "settings": {"time": 8}, "sweep": {"data": paths, "model.tied": [True, False]}})
    names = [job.name for job in jobs]
    assert len(set(names)) == 4 and all(set(name) <= ALLOWED and len(name) <= 220 for name in names)
    options = [{"heads": 2}, {"heads": 1}]
    jobs = jobs_of(TOLD | {"sweep": {"model.options": options}})
    assert len({job.name for job in jobs}) == 2 and [job.config["model"]["options"] for job in jobs] == options


def test_short_names_tell_keys_apart():
    """The last part, and as many more as are needed."""
    assert short_names(["fit.steps", "seed", "model.width"]) == ["steps", "seed", "width"]
    assert short_names(["settings.width", "model.width", "width"]) == ["settings.width", "model.width", "width"]
    assert short_names(["a.b.c", "d.b.c"]) == ["a.b.c", "d.b.c"] and short_names([]) == []


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (TOLD, r"the sweep has no table \[sweep\]; give one with a list"),
        (TOLD | {"sweep": 3}, r"has no table \[sweep\]"),
        (grid(fit__step=[3, 4]), "the sweep has a key 'fit.step', which is none; there are fit.steps"),
        (grid(sed=[3]), "the sweep has a key 'sed', which is none; there are task"),
        (grid(seed=3), "says sweep seed = 3; it must be a list of what is tried"),
        (grid(seed=[]), r"says sweep seed = \[\]; there must be at least one value"),
        (grid(seed=[1, 2, 1]), r"says sweep seed = \[1, 2, 1\]; 1 is in it twice"),
        (grid(seed=[1, "2"]), "says seed = '2'; it must be a whole number"),
        (grid(task__name=["copy"]), "the sweep says sweep task.name: task is no table in the config"),
        (grid(model__mixers=[["gla"], ["gl"]]), "there is no mixer 'gl'"),
        (grid(settings__tim=[3, 4]), "of tim=3: SelectiveCopy has no setting 'tim'"),
        (grid(fit__steps=[40, 2]), "warmup is 4 steps, more than the 2 steps"),
        (grid(model__width=[8, 9]) | {"model": {"mixers": ["gla"], "options": {"heads": 2}}}, "of width=9: .*heads"),
        (TOLD | {"sweep": {"seed": [1], "fit": {"steps": [8]}, "fit.steps": [9]}}, "has sweep fit.steps twice"),
    ],
)
def test_what_is_not_understood_is_refused(told, said):
    """By name, before anything is trained: also what no model or task can be made of."""
    with pytest.raises(InputError, match=said):
        jobs_of(told)


def test_from_a_file(tmp_path):
    """Keys in quotes or without, a file that is none; the message has the file's name."""
    path = tmp_path / "sweep.toml"
    path.write_text('task = "copy"\n[sweep]\n"fit.learning_rate" = [0.1, 0.2]\nmodel.width = [8]\n')
    assert [job.name for job in read_grid(path)] == ["learning_rate=0.1", "learning_rate=0.2"]
    path.write_text('task = "copy"\n[sweep]\nfit.rate = [0.1, 0.2]\n')
    with pytest.raises(InputError, match=r"sweep.toml' has a key 'fit.rate'"):
        read_grid(path)
    with pytest.raises(FileError, match="there is no file"):
        read_grid(tmp_path / "none.toml")
