"""What training may be told: another optimiser, batches from outside, how a step is computed, and what is held out."""

import itertools
import math
from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
import optax
import pytest

from dualform.errors import InputError
from dualform.training import FitConfig, Run, fit, fit_ensemble, resume
from dualform.training.stream import Stream
from tests.test_compilations import compilations

CONFIG = FitConfig(
    steps=12, chunk=5, warmup=0, learning_rate=0.05, final_learning_rate=0.05, weight_decay=0.0, clip=math.inf
)


class Line(eqx.Module):
    """y = w x + b."""

    w: jax.Array
    b: jax.Array
    weight_decayed = ("w",)

    def __call__(self, x):
        return x @ self.w.astype(x.dtype) + self.b.astype(x.dtype), None


def line() -> Line:
    return Line(jnp.array([0.5, -1.0]), jnp.array(0.25))


def error(model, x, y):
    return jnp.mean(jnp.square(jax.vmap(lambda x: model(x)[0])(x) - y))


def draw(key):
    x = jr.normal(key, (8, 2))
    return x, x @ jnp.array([1.0, 2.0]) - 1.0


BATCHES: Any = [tuple(np.asarray(each) for each in draw(jr.key(i))) for i in range(4)]


def same(a, b):
    for left, right in zip(jtu.tree_leaves(a), jtu.tree_leaves(b), strict=True):
        np.testing.assert_array_equal(left, right)


def by_hand(optimiser, batches, accumulate=1):
    """Plain optax, a step at a time."""
    model: Any = line()
    state = optimiser.init(model)
    with jax.numpy_dtype_promotion("standard"):
        for group in batches:
            gradients = [jax.grad(error)(model, jnp.asarray(x), jnp.asarray(y)) for x, y in group]
            gradient = jtu.tree_map(lambda *leaves: sum(leaves) / accumulate, *gradients)
            update, state = optimiser.update(gradient, state, model)
            model = optax.apply_updates(model, update)
    return model


def test_any_optax_transformation_moves_the_weights():
    """As a plain loop of its own does, over three epochs of batches."""
    optimiser = optax.chain(optax.clip(0.3), optax.sgd(0.1, momentum=0.9, nesterov=True))
    found = fit(line(), BATCHES, CONFIG, loss=error, optimiser=optimiser).model
    expected = by_hand(optimiser, [[batch] for batch in BATCHES * 3])
    for a, b in zip(jtu.tree_leaves(found), jtu.tree_leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


def test_accumulated_batches_are_one_step_of_their_mean():
    """Six steps of two batches: the moves of a plain loop over the means of their gradients; the loss is their mean."""
    config = replace(CONFIG, steps=6, chunk=4, accumulate=2)
    fitted = fit(line(), BATCHES, config, loss=error, optimiser=optax.sgd(0.1))
    groups = [BATCHES[:2], BATCHES[2:]] * 3
    for a, b in zip(jtu.tree_leaves(fitted.model), jtu.tree_leaves(by_hand(optax.sgd(0.1), groups, 2)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)
    one = fit(line(), BATCHES, replace(config, steps=1, chunk=1), loss=error).history[0]["loss"]
    assert one == pytest.approx(np.mean([error(line(), *batch) for batch in BATCHES[:2]]), rel=1e-12)


def test_accumulated_samples_are_drawn_apart():
    """A generator gives each of a step's batches by a key of its own, and the step sees all of them."""
    config = replace(CONFIG, steps=1, chunk=1, accumulate=3)
    found = fit(line(), draw, config, loss=error).history[0]["loss"]
    keys = [jr.fold_in(jr.fold_in(jr.key(0), 0), i) for i in range(3)]
    assert found == pytest.approx(np.mean([error(line(), *draw(key)) for key in keys]), rel=1e-12)


class Counted:
    """An iterator that says where it is, as grain's do, and of which every batch is another."""

    def __init__(self, begin=0):
        self.at = begin

    def __iter__(self):
        return self

    def __next__(self):
        self.at += 1
        return tuple(np.asarray(each) for each in draw(jr.key(self.at)))

    def get_state(self):
        return {"at": self.at}

    def set_state(self, state):
        self.at = state["at"]


@pytest.mark.parametrize(
    "data", [lambda: BATCHES, Counted, lambda: itertools.cycle(BATCHES)], ids=["list", "state", "cycle"]
)
def test_a_run_goes_on_at_the_batch_where_it_was(tmp_path, data):
    """Interrupted after a chunk and gone on with, it ends with the weights of one that was not, to the bit."""
    whole = fit(line(), data(), CONFIG, loss=error)

    def interrupted(progress):
        if progress.step == 5:
            raise KeyboardInterrupt

    run = Run.create(tmp_path / "run", CONFIG)
    first = fit(line(), data(), CONFIG, loss=error, run=run, on_chunk=interrupted)
    assert (first.status, first.steps) == ("interrupted", 5)
    second = fit(line(), data(), CONFIG, loss=error, run=Run.create(tmp_path / "run", CONFIG))
    assert second.history == whole.history
    same(second.model, whole.model)
    with pytest.raises(InputError, match="the data that sample draws has other inputs"):
        fit(line(), BATCHES[2:], CONFIG, loss=error, run=run)


@pytest.mark.slow
@pytest.mark.parametrize("endless", [True, False])
def test_a_pipeline_of_grain_is_put_where_it_was(tmp_path, endless):
    """Shuffled rows in noise of their own, batched and read ahead: killed between checkpoints and gone on with, to the bit."""
    import grain

    rows = [(x, y) for batch in BATCHES for x, y in zip(*batch, strict=True)]
    noisy = lambda row, noise: (row[0] + 0.1 * noise.standard_normal(2), row[1])

    def pipeline():
        drawn = grain.MapDataset.source(rows).seed(3).shuffle()
        return (drawn.repeat() if endless else drawn).random_map(noisy).batch(8).to_iter_dataset()

    class Killed(Exception):
        pass

    def killed(progress):
        if progress.step == 10:
            raise Killed

    whole = fit(line(), pipeline(), CONFIG, loss=error)
    run = Run.create(tmp_path / "run", CONFIG)
    with pytest.raises(Killed):
        fit(line(), pipeline(), CONFIG, loss=error, run=run, on_chunk=killed, save_every=0)
    found = resume(run, line(), CONFIG)
    assert found is not None and (int(found.state.step), found.position is None) == (5, False)
    again = fit(line(), pipeline(), CONFIG, loss=error, run=run)
    assert again.history == whole.history
    same(again.model, whole.model)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ([], "the data give no batch"),
        ([3], "batch 1 of the data is no pair"),
        (
            [*BATCHES, (np.zeros((3, 2)), np.zeros(3))],
            r"batch 5 of the data is float64 \(3, 2\), float64 \(3,\), and the first",
        ),
        (iter(BATCHES), "the data ended after 4 batches, and cannot be begun again"),
    ],
)
def test_batches_that_cannot_be_trained_on_are_said(data, said, unchecked):
    """None, no pair, another shape, an iterator that ends."""
    with pytest.raises(InputError, match=said):
        fit(line(), data, CONFIG, loss=error)


def test_a_stream_gives_each_batch_once():
    """Also the first, which is looked at before; and in two axes where a step takes several."""
    stream = Stream(iter(BATCHES))
    taken = [stream.take(1, 1)[0][0] for _ in range(4)]
    np.testing.assert_array_equal(np.stack(taken), np.stack([x for x, _ in BATCHES]))
    x, y = Stream(BATCHES).take(3, 2)
    assert x.shape == (3, 2, 8, 2) and y.shape == (3, 2, 8)
    np.testing.assert_array_equal(x[2, 1], BATCHES[1][0])


def test_the_best_model_is_kept_and_patience_ends_training(tmp_path):
    """The held-out loss falls, then rises: training stops after two chunks without a better one, and gives the best."""
    losses = iter([3.0, 1.0, 2.0, 1.5, 0.0])
    config, models = replace(CONFIG, steps=50, patience=2), []

    def evaluate(model):
        models.append(jtu.tree_map(jnp.array, model))
        return {"loss": next(losses), "accuracy": 0.5}

    fitted = fit(line(), draw, config, loss=error, evaluate=evaluate, run=Run.create(tmp_path / "run", config))
    assert (fitted.status, fitted.steps, fitted.best_step) == ("stopped", 20, 10)
    assert [record["held_out"]["loss"] for record in fitted.history] == [3.0, 1.0, 2.0, 1.5]
    same(fitted.best, models[1])
    again = fit(line(), draw, config, loss=error, evaluate=evaluate, run=Run.create(tmp_path / "run", config))
    assert (again.status, again.steps, again.best_step) == ("stopped", 20, 10)
    same(again.best, models[1])
    with pytest.raises(InputError, match="evaluate gave accuracy; a loss must be among them"):
        fit(line(), draw, config, loss=error, evaluate=lambda model: {"accuracy": 1.0})


def test_the_best_model_survives_a_kill_between_checkpoints(tmp_path):
    """Gone on from a checkpoint of before the best one: the best of both is that of an unbroken run."""
    measured = lambda model: {"loss": abs(float(model.w[0]) - 0.75)}
    config = replace(CONFIG, steps=30)
    whole = fit(line(), draw, config, loss=error, evaluate=measured)
    assert 5 < whole.best_step < 30

    class Killed(Exception):
        pass

    def killed(progress):
        if progress.step > whole.best_step:
            raise Killed

    run = Run.create(tmp_path / "run", config)
    with pytest.raises(Killed):
        fit(line(), draw, config, loss=error, evaluate=measured, run=run, on_chunk=killed, save_every=0)
    steps = run.checkpoints("train").steps()
    run.checkpoints("train").discard_after(steps[0] - 5)  # as if the last one had not been written
    again = fit(line(), draw, config, loss=error, evaluate=measured, run=run)
    assert again.best_step == whole.best_step and again.history == whole.history
    same(again.best, whole.best)


def test_bfloat16_rounds_matrices_and_inputs_alone():
    """The loss of the first step is that of rounded matrices and inputs; what is trained stays as wide as it was."""
    seen = {}

    def loss(model, x, y):
        seen.update(w=model.w.dtype, b=model.b.dtype, x=x.dtype, y=y.dtype)
        return jnp.sum(model.w).astype(float) + jnp.sum(x).astype(float)

    config = replace(CONFIG, steps=1, chunk=1, precision="bfloat16", learning_rate=1e-3, final_learning_rate=1e-3)
    fitted = fit(line(), BATCHES, config, loss=loss)
    narrow = lambda a: np.asarray(a).astype(jnp.bfloat16).astype(np.float64)
    assert seen == {"w": jnp.bfloat16, "b": np.float64, "x": jnp.bfloat16, "y": np.float64}
    expected = narrow(line().w).sum() + float(jnp.sum(jnp.asarray(BATCHES[0][0]).astype(jnp.bfloat16)))
    assert fitted.history[0]["loss"] == pytest.approx(expected, rel=1e-12)
    np.testing.assert_allclose(fitted.model.w, line().w - 1e-3, atol=1e-9)  # a step of Adam, finer than bfloat16 holds
    assert fitted.model.w.dtype == np.float64


def test_weight_noise_is_seen_by_the_loss_and_not_kept():
    """With a rate of 0 the weights stay as they were, and the losses are those of other weights, anew in each step."""
    config = replace(CONFIG, steps=3, chunk=1, learning_rate=0.0, final_learning_rate=0.0, weight_noise=0.1)
    fitted = fit(line(), BATCHES[:1], config, loss=error)
    same(fitted.model, line())
    losses = {record["loss"] for record in fitted.history}
    assert len(losses) == 3 and float(error(line(), *BATCHES[0])) not in losses


def test_a_second_fit_compiles_nothing():
    """Of the same functions, config and shapes, whatever the seed; the rate is part of the program, and another needs its own."""

    def loss(model, x, y):  # of this test alone, so that no other has compiled its loop
        return error(model, x, y)

    def programs(config):
        return compilations(lambda: fit(line(), draw, config, loss=loss))

    assert programs(CONFIG) > 0
    assert programs(CONFIG) == 0
    assert programs(replace(CONFIG, seed=1)) == 0
    assert programs(replace(CONFIG, learning_rate=0.02)) > 0


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"precision": "half"}, "there is no precision 'half'; there are full, bfloat16"),
        ({"accumulate": 0}, "accumulate is 0; it must be at least 1"),
        ({"patience": -1}, "patience is -1; it must be at least 0"),
        ({"weight_noise": -0.1}, "weight_noise is -0.1; it cannot be negative"),
    ],
)
def test_settings_are_checked(settings, said):
    """Each with its value."""
    with pytest.raises(InputError, match=said):
        FitConfig(**settings)


def test_patience_needs_something_that_is_held_out():
    """Else it would end a training that nobody looks at."""
    with pytest.raises(InputError, match="patience is 2, and there is no evaluate"):
        fit(line(), draw, replace(CONFIG, patience=2), loss=error)
    with pytest.raises(InputError, match="leave patience at 0"):
        fit_ensemble([line()], lambda key, task: draw(key), replace(CONFIG, patience=2), seeds=[0], loss=error)


def test_numbers_of_numpy_are_data():
    """A scale, or an array in a task, may be NumPy's; the loss is divided by it."""

    class Task(eqx.Module):
        offset: Any

        def sample(self, key):
            x, y = draw(key)
            return x, y + self.offset

    config = replace(CONFIG, steps=1, chunk=1)
    losses = [
        fit(line(), Task(offset).sample, config, loss=error, scale=scale).history[0]["loss"]
        for offset, scale in ((np.zeros(()), np.float64(2)), (jnp.zeros(()), 2.0))
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)


def test_the_history_tells_the_schedules_of_the_optimiser_that_is_used():
    """Those of the config, where it is its own; of another, nothing."""
    own, other = (fit(line(), draw, CONFIG, loss=error, optimiser=each).history[0] for each in (None, optax.sgd(0.1)))
    assert own["learning_rate"] == 0.05 and not {"learning_rate", "weight_decay"} & set(other)
