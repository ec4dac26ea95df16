"""One recipe with several seeds, trained in one compiled program, in a run's folder for each."""

import contextlib
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from dualform.errors import DivergedError, require
from dualform.training.recipe import Measured, Recipe
from dualform.training.run import Run
from dualform.training.together import fit_together


def train_seeds(
    recipes: Sequence[Recipe],
    folders: Sequence[str | os.PathLike[str]],
    on_progress: Callable[[int, Measured], None] | None = None,
) -> list[dict[str, Any]]:
    """What `Recipe.train` gives for each recipe in its folder, trained side by side: see `fit_together`.

    Seconds, and tokens a second, are those of the whole program.

    **Arguments:** on_progress: called with a recipe's number, and how far it is.

    **Returns:** the results in the order of the recipes.

    **Raises:** `InputError` where recipes differ in more than the seed, or a seed is there twice; `DivergedError`
    that names every seed whose numbers were no longer finite, when all others are done; else as `Recipe.train`.
    """
    first = recipes[0]
    check_folders(recipes, folders)
    require(
        all(replace(recipe, seed=0) == replace(first, seed=0) for recipe in recipes),
        "recipes that are trained together may differ in their seed alone; train others apart.",
    )
    require(len({recipe.seed for recipe in recipes}) == len(recipes), "a seed is there twice; give each once.")
    task = first.open_task()
    models = [recipe.make_model(task) for recipe in recipes]
    scores = first.scores(task)
    with contextlib.ExitStack() as stack:
        results = [recipe.begin(folder, stack) for recipe, folder in zip(recipes, folders, strict=True)]
        left = [i for i, result in enumerate(results) if result is None]
        if not left:
            return [result for result in results if result is not None]
        tell = [first.telling(task, _of(on_progress, i)) for i in left]
        found = fit_together(
            [models[i] for i in left],
            config=first.fit,
            seeds=[recipes[i].seed for i in left],
            runs=[Run(folders[i]) for i in left],
            on_chunk=lambda n, progress: tell[n](progress),
            **first.fit_on(task, scores),
        )
        for i, fitted in zip(left, found, strict=True):
            if not isinstance(fitted, DivergedError):
                results[i] = recipes[i].result(task, fitted, Run(folders[i]), scores)
        lost = [
            (recipes[i].seed, fitted)
            for i, fitted in zip(left, found, strict=True)
            if isinstance(fitted, DivergedError)
        ]
        if lost:
            raise DivergedError(" ".join(f"seed {seed}: {error}" for seed, error in lost))
    return [result for result in results if result is not None]


def check_folders(recipes: Sequence[Recipe], folders: Sequence[str | os.PathLike[str]]) -> None:
    """Hold the folders that are there to their recipes, before any other is made or trained in.

    **Raises:** `InputError` where one is of another training, as `Run.create`.
    """
    for recipe, folder in zip(recipes, folders, strict=True):
        if (Path(folder) / "config.json").exists():
            Run.create(folder, recipe.told())


def _of(on_progress: Callable[[int, Measured], None] | None, i: int) -> Callable[[Measured], None]:
    return lambda measured: None if on_progress is None else on_progress(i, measured)
