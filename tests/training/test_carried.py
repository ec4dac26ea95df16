"""Truncated backpropagation through time: what is carried, where gradients end, and that a run goes on with it."""

import functools
import json
from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from dualform import tasks
from dualform.cli import main
from dualform.errors import InputError
from dualform.models.architecture import Architecture
from dualform.training import Carried, FitConfig, fit, initial_state
from dualform.training.measuring import measure_carried
from dualform.training.recipe import Recipe
from dualform.training.run import Run
from dualform.training.step import make_step
from tests.laws import laws

CONFIG = FitConfig(steps=6, chunk=2, warmup=0, learning_rate=0.05)
SIZES = Architecture(("tanh_rnn",), 4, 1, "none")


@functools.cache
def text(batch: int = 2) -> Any:
    """Of 61 tokens to train on: two streams of 30, six pieces of five each."""
    ids = jr.randint(jr.key(0), (61 + 17 + 17,), 0, 3).astype(jnp.int32)
    parts = ids[:61], ids[61:78], ids[78:]
    return tasks.Text(*parts, bytes_of=None, count=3, characters="abc", tokenizer_json="", time=5, batch=batch)


@functools.cache
def model() -> Any:
    return SIZES.language_model(3, key=jr.key(1))


def test_pieces_are_streams_side_by_side():
    """Six pieces of each stream, one behind the other, then the first one again, anew; what is foretold is the next token."""
    task, part = text(), np.asarray(text().train)
    batches = [task.piece(jnp.asarray(n, jnp.int32)) for n in range(7)]
    read = np.concatenate([x for (x, _), _ in batches[:6]], axis=1)
    np.testing.assert_array_equal(read, [part[:30], part[30:60]])
    following = np.concatenate([y for (_, y), _ in batches[:6]], axis=1)
    np.testing.assert_array_equal(following, [part[1:31], part[31:61]])
    assert [begins.tolist() for _, begins in batches] == [[True] * 2, *[[False] * 2] * 5, [True] * 2]
    np.testing.assert_array_equal(batches[6][0][0], batches[0][0][0])


def test_what_is_held_out_is_read_whole():
    """The pieces are the part from its beginning, the last one shorter; carried, the loss is that of one long call."""
    task, part = text(), np.asarray(text().test)
    pieces = list(task.held_out_pieces("test"))
    assert [len(x) for x, _ in pieces] == [10, 6]
    np.testing.assert_array_equal(np.concatenate([x for x, _ in pieces]), part[:-1])
    logits, _ = model()(jnp.asarray(part[:-1]))
    expected = -jnp.mean(jax.nn.log_softmax(logits)[jnp.arange(16), part[1:]])
    assert measure_carried(task, model(), pieces)["loss"] == pytest.approx(float(expected), rel=1e-12)


def test_losses_are_those_of_one_long_call_and_gradients_end_at_the_piece():
    """With a rate of 0: the losses of six steps are the parts of one call's; a gradient takes the state before as it is."""
    task, data = text(), Carried(text())
    still = replace(CONFIG, chunk=1, learning_rate=0.0, final_learning_rate=0.0)
    losses = [record["loss"] for record in fit(model(), data, still).history]
    (x, y), _ = jax.vmap(task.piece)(jnp.arange(6))
    x, y = (jnp.moveaxis(each, 0, 1).reshape(2, 30) for each in (x, y))
    whole = lambda weights: jax.vmap(lambda x: weights(x)[0])(x)
    each = lambda weights: -jnp.take_along_axis(jax.nn.log_softmax(whole(weights)), y[..., None], 2)[..., 0]
    np.testing.assert_allclose(losses, each(model()).reshape(2, 6, 5).mean(axis=(0, 2)), rtol=1e-12)

    second = lambda weights: each(weights)[:, 5:10].mean()
    _, state = jax.vmap(model())(x[:, :5])

    def truncated(weights):
        (tokens, following), _ = task.piece(jnp.asarray(1, jnp.int32))
        return task.judged(jax.vmap(weights)(tokens, state)[0], following)["loss"].mean

    def moved(weights):
        return data.loss(weights, (x[:, 5:10], jnp.zeros(2, bool)), y[:, 5:10], state)[0]

    full, found, expected = (eqx.filter_grad(each)(model()) for each in (second, moved, truncated))
    laws.check_close(jax.tree.leaves(found), jax.tree.leaves(expected), 1e-12, "gradient")
    apart = [float(jnp.max(jnp.abs(a - b))) for a, b in zip(*map(jax.tree.leaves, (full, found)), strict=True)]
    assert max(apart) > 1e-6


@pytest.mark.slow
def test_accumulated_pieces_follow_each_other():
    """Two pieces a step: with a rate of 0 the states after one step are those of two steps of one."""
    still = replace(CONFIG, learning_rate=0.0, final_learning_rate=0.0, weight_decay=0.0)
    left, losses = [], []
    for accumulate in (1, 2):
        config, data = replace(still, accumulate=accumulate), Carried(text())
        step = make_step(data.sample, config, loss=data.loss, carries=True)
        state = initial_state(model(), config, carried=data)
        values = []
        for _ in range(2 // accumulate):
            state, value = step(state)
            values.append(value)
        left.append(state.carried)
        losses.append(np.mean(values))
    laws.check_close(jax.tree.leaves(left[0]), jax.tree.leaves(left[1]), 1e-12, "states")
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)


def test_a_run_goes_on_with_its_states(tmp_path):
    """Stopped within a stream, and gone on with: metrics and weights to the bit, and the states are in the checkpoint."""

    def trained(run=None, at=-1):
        def on_chunk(progress):
            if progress.step == at:
                raise KeyboardInterrupt

        return fit(model(), Carried(text()), CONFIG, on_chunk=on_chunk, run=run, save_every=0)

    whole = trained()
    run = Run.create(tmp_path / "run", {})
    assert trained(run, at=4).status == "interrupted"
    arrays = run.checkpoints("train").newest(lambda _: None).arrays  # pyright: ignore[reportOptionalMemberAccess] - there is one
    assert any(name.startswith("carried") and np.abs(array).max() > 0 for name, array in arrays.items())
    again = trained(run)
    assert again.history == whole.history
    for one, other in zip(jax.tree.leaves(again.model), jax.tree.leaves(whole.model), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_a_recipe_carries_states(tmp_path):
    """From the command line; run.toml says so, and what is held out is measured in one piece."""
    (tmp_path / "text.txt").write_text("the cat sat on the mat. " * 40)
    arguments = [
        "--data",
        str(tmp_path / "text.txt"),
        "--mixer",
        "tanh_rnn",
        "--width",
        "4",
        "--layers",
        "1",
        "--steps",
        "4",
    ]
    more = ["--set", "settings.time=8", "settings.batch=2", "model.mlp=none", "--out", str(tmp_path / "run")]
    assert main(["train", "text", *arguments, "--carry", *more]) == 0
    recipe, result = (
        Recipe.read(tmp_path / "run" / "run.toml"),
        json.loads((tmp_path / "run" / "result.json").read_text()),
    )
    assert recipe.carried and recipe.told()["carried"] is True
    from dualform.checkpoints import load

    task = recipe.open_task()
    found = measure_carried(task, load(tmp_path / "run").model, task.held_out_pieces("test"))
    assert result["test"]["test"] == found


def test_what_cannot_be_carried_is_refused(tmp_path):
    """Sequences that are independent, a stream shorter than a piece, a model that goes on only so far; no folder is made."""
    with pytest.raises(
        InputError, match="the sequences of SelectiveCopy are independent of one another, and no state is"
    ):
        Recipe.of({"task": "selective-copy", "carried": True}).train(tmp_path / "run")
    with pytest.raises(
        InputError, match="is 61 tokens, 4 for each of 15 streams; a piece is 5 tokens. Give a smaller batch"
    ):
        Carried(text(15))
    attends = Architecture(("softmax_attention",), 4, 1, "none", options={"heads": 2, "context": 16, "window": None})
    attends = attends.language_model(3, key=jr.key(0))
    with pytest.raises(
        InputError, match="goes on from a state for .* tokens alone, its context, and carried sequences have"
    ):
        fit(attends, Carried(text()), CONFIG)
    assert not (tmp_path / "run").exists()
