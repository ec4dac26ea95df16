"""The model as a loss sees it: with dropout, and blocks computed anew for the gradient."""

import functools
from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from dualform.errors import InputError
from dualform.models.architecture import Architecture
from dualform.models.depth import Depth
from dualform.training import FitConfig, Fitted, Run, fit, initial_state
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
    assert as_run(model, FitConfig(), jr.key(0)) is model
    assert as_run(model, FitConfig(rematerialised=True), jr.key(0)).depth == Depth(True, True)


def test_what_cannot_be_rematerialised_is_refused(unchecked):
    """A plain recurrent network has no blocks; and the setting is a truth."""
    plain = Architecture(("tanh_rnn",), plain=True).sequence_model(2, 2, key=jr.key(0))
    with pytest.raises(
        InputError, match="a Recurrent has no blocks that can be run in another way; a LanguageModel or"
    ):
        as_run(plain, FitConfig(rematerialised=True), jr.key(0))
    with pytest.raises(InputError, match="dropout is 1.0; it must be at least 0, and below 1"):
        FitConfig(dropout=1.0)
    with pytest.raises(InputError, match="rematerialised is 1; it must be True or False"):
        FitConfig(rematerialised=1)  # pyright: ignore[reportArgumentType] - on purpose


def plain() -> Any:
    return Architecture(("tanh_rnn",), plain=True, layers=1, options={"n": 8}).sequence_model(2, 1, key=jr.key(0))


def error(model, x, y):
    return jnp.mean(jnp.square(jax.vmap(lambda x: model(x)[0])(x) - y))


def draw(key):
    x = jr.normal(key, (4, 3, 2))
    return x, x[:, :, :1]


def dropped(run: Run | None = None, at: int = -1) -> Fitted:
    """A training with dropout, stopped at a step if there is one."""

    def on_chunk(progress):
        if progress.step == at:
            raise KeyboardInterrupt

    config = FitConfig(steps=6, chunk=2, warmup=0, dropout=0.5)
    held = draw(jr.key(1))
    evaluate = lambda model: {"loss": float(error(model, *held))}
    return fit(plain(), draw, config, loss=error, evaluate=evaluate, on_chunk=on_chunk, run=run, save_every=0)


@pytest.mark.slow
def test_dropout_is_gone_on_with_to_the_bit(tmp_path):
    """Stopped and gone on with, losses and weights are the same to the bit; what is held out, and kept, is read without any."""
    whole = dropped()
    assert dropped(Run.create(tmp_path / "run", {}), at=4).status == "interrupted"
    again = dropped(Run.create(tmp_path / "run", {}))
    assert again.history == whole.history
    for one, other in zip(jax.tree.leaves(again.model), jax.tree.leaves(whole.model), strict=True):
        np.testing.assert_array_equal(one, other)
    x, y = draw(jr.key(1))
    assert whole.history[-1]["held_out"]["loss"] == float(error(whole.model, x, y))


def test_dropout_is_of_the_steps_alone():
    """With a rate of 0 the weights stay, and losses are those of other numbers left out, anew in each step; saved is none."""
    x, y = draw(jr.key(1))
    still = FitConfig(steps=2, chunk=1, warmup=0, learning_rate=0.0, final_learning_rate=0.0, dropout=0.5)
    fitted = fit(plain(), lambda key: (x, y), still, loss=error)
    assert len({*(record["loss"] for record in fitted.history), float(error(plain(), x, y))}) == 3
    assert jax.tree.structure(fitted.model) == jax.tree.structure(plain())


def test_a_setting_that_came_later_is_told_where_it_is_used():
    """Runs of versions without it have the same config, and go on."""
    assert "rematerialised" not in Recipe.of(TOLD).told()["fit"]
    used = Recipe.of(TOLD | {"fit": TOLD["fit"] | {"rematerialised": True}})
    assert used.told()["fit"]["rematerialised"] is True and Recipe.of(used.told()) == used
