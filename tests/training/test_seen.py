"""The model as a loss sees it: blocks computed anew for the gradient."""

import functools
from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.random as jr
import numpy as np
import pytest

from dualform.errors import InputError
from dualform.models.architecture import Architecture
from dualform.models.depth import Depth
from dualform.training import FitConfig, initial_state
from dualform.training.recipe import Recipe
from dualform.training.seen import as_run
from dualform.training.step import make_step

TOLD: dict[str, Any] = {
    "task": "selective-copy",
    "settings": {"time": 60, "tokens": 2, "symbols": 3, "batch": 4, "held": 8},
    "model": {"mixers": ["tanh_rnn"], "width": 8, "layers": 6, "mlp": "none"},
    "fit": {"steps": 4, "chunk": 2, "warmup": 0},
}


@functools.cache
def task_and_model() -> tuple[Any, Any]:
    """Equal blocks, and what they read."""
    recipe = Recipe.of(TOLD)
    task = recipe.open_task()
    return task, recipe.make_model(task)


def trained(config: FitConfig, steps: int) -> tuple[list[float], int]:
    """The loss of each step, and how many bytes a step needs beside its arguments."""
    task, model = task_and_model()
    step = make_step(task.sample, config, loss=task.loss)
    arrays, static = eqx.partition(initial_state(model, config), eqx.is_array)

    def one(arrays):
        state, loss = step(eqx.combine(arrays, static))
        return eqx.filter(state, eqx.is_array), loss

    program: Any = jax.jit(one).lower(arrays).compile()
    analysis: Any = program.memory_analysis()
    losses = []
    for _ in range(steps):
        arrays, loss = program(arrays)
        losses.append(float(loss))
    return losses, analysis.temp_size_in_bytes


@pytest.mark.slow
def test_blocks_computed_anew_train_the_same_model_in_less_memory():
    """Losses of four steps are equal to rounding; of what six blocks keep, a third or less is held."""
    config = Recipe.of(TOLD).fit
    losses, kept = trained(config, 4)
    again, less = trained(replace(config, rematerialised=True), 4)
    np.testing.assert_allclose(again, losses, rtol=1e-11)
    assert less < kept / 3


def test_how_blocks_are_run_is_said_by_the_config():
    """Where it says nothing the model is the same object; where it does, the blocks are one loop, each computed anew."""
    _, model = task_and_model()
    assert as_run(model, FitConfig()) is model
    assert as_run(model, FitConfig(rematerialised=True)).depth == Depth(True, True)


def test_what_cannot_be_rematerialised_is_refused():
    """A plain recurrent network has no blocks; and the setting is a truth."""
    plain = Architecture(("tanh_rnn",), plain=True).sequence_model(2, 2, key=jr.key(0))
    with pytest.raises(
        InputError, match="a Recurrent has no blocks that can be run in another way; a LanguageModel or"
    ):
        as_run(plain, FitConfig(rematerialised=True))
    with pytest.raises(InputError, match="rematerialised is 1; it must be True or False"):
        FitConfig(rematerialised=1)  # pyright: ignore[reportArgumentType]


def test_a_setting_that_came_later_is_told_where_it_is_used():
    """Runs of versions without it have the same config, and go on."""
    assert "rematerialised" not in Recipe.of(TOLD).told()["fit"]
    used = Recipe.of(TOLD | {"fit": TOLD["fit"] | {"rematerialised": True}})
    assert used.told()["fit"]["rematerialised"] is True and Recipe.of(used.told()) == used
