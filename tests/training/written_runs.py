"""Folders of trainings as `Recipe.train` leaves them, written by hand."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dualform.training.recipe import Recipe
from dualform.training.run import Run

TOLD: dict[str, Any] = {
    "task": "selective-copy",
    "settings": {"time": 6, "tokens": 2},
    "model": {"mixers": ["gla"], "width": 8},
    "fit": {"steps": 40, "chunk": 10, "warmup": 4, "learning_rate": 0.003},
}


def write_run(
    folder: Path,
    *,
    seed: int = 0,
    rate: float | int = 0.003,
    mixer: str = "gla",
    validation: Any = 0.5,
    test: Mapping[str, Mapping[str, Any]] | None = None,
    losses: Sequence[Any] = (2.0, 1.0, 0.75, 0.625),
    done: bool = True,
    **more: Any,
) -> Path:
    """A run of so many chunks; without a result where it is not done.

    **Arguments:** validation: the loss.  test: the scores of each split.  more: what result.json has instead, or what it is told.
    """
    fit, model = TOLD["fit"] | {"learning_rate": rate}, TOLD["model"] | {"mixers": [mixer]}
    told = {name: more.pop(name) for name in list(more) if name in Recipe.__dataclass_fields__}
    recipe = Recipe.of(TOLD | {"fit": fit, "model": model, "seed": seed} | told)
    run = Run.create(folder, recipe.told())
    (run.path / "run.toml").write_text(recipe.toml())
    for i, loss in enumerate(losses):
        line = {"stage": "train", "step": 10 * (i + 1), "loss": loss, "learning_rate": rate, "weight_decay": 0.1}
        run.append_metrics(line | {"held_out": {"loss": loss, "accuracy": i / 10}})
    if done:
        result: dict[str, Any] = {
            "status": "done",
            "steps": 10 * len(losses),
            "parameters": 1234,
            "best_step": 30,
            "seconds": 2.0,
            "tokens_per_second": 5000.0,
            "train_loss": losses[-1] if losses else None,
            "validation": {"loss": validation, "accuracy": 0.5},
            "test": {"test": {"loss": validation, "accuracy": 0.5}} if test is None else test,
        }
        (run.path / "result.json").write_text(json.dumps(result | more))
    return run.path


def accuracies(**splits: float) -> dict[str, dict[str, float]]:
    """Tests of these accuracies."""
    return {split: {"loss": 1.0, "accuracy": value} for split, value in splits.items()}
