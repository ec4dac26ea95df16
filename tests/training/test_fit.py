"""Training: schedules, AdamW, what is trained and decayed, the fast batched form, divergence, and taking units out."""

import dataclasses
import math
from itertools import product
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
import optax
import pytest

from dualform import mixers
from dualform.errors import DivergedError, InputError
from dualform.mixers import GatedRNN, LinearAttention, SideGatedRNN
from dualform.tasks import Teacher, TeacherStudent
from dualform.training import (
    FitConfig,
    Run,
    batched,
    decayed,
    fit,
    initial_state,
    make_chunk,
    mean_squared_error,
    select_units,
    silence_units,
    trainable,
)
from dualform.training.config import learning_rate_at, weight_decay_at
from dualform.training.optimiser import adamw
from tests.tiers import tiers

CONFIG = FitConfig(steps=40, chunk=16, warmup=8, learning_rate=1e-2, final_learning_rate=1e-3, weight_decay=0.5)


def task(d=2, time=5, batch=4):
    return TeacherStudent(Teacher.gaussian(d, key=jr.key(9)), time=time, batch=batch)


def student(d=2, n=5, m=4):
    return GatedRNN.make(d, key=jr.key(8), n=n, m=m)


def at(schedule, step, config=CONFIG):
    return float(schedule(config, jnp.asarray(step, jnp.int32)))


def test_learning_rate_schedule():
    """It rises linearly to the peak in `warmup` steps, falls as a half cosine, and the last step has the final rate."""
    np.testing.assert_allclose([at(learning_rate_at, s) for s in range(8)], 1e-2 * np.arange(1, 9) / 8, rtol=1e-14)
    np.testing.assert_allclose(at(learning_rate_at, 8), 1e-2, rtol=1e-14)
    for s in range(8, 40):
        expected = 1e-3 + (1e-2 - 1e-3) * 0.5 * (1 + math.cos(math.pi * (s - 8) / 31))
        np.testing.assert_allclose(at(learning_rate_at, s), expected, rtol=1e-12)
    np.testing.assert_allclose(at(learning_rate_at, 39), 1e-3, rtol=1e-14)


def test_weight_decay_schedule():
    """It has no warm-up: a half cosine from the first step to the last, apart from the learning rate's."""
    config = dataclasses.replace(CONFIG, final_weight_decay=0.1)
    for s in range(40):
        expected = 0.1 + 0.4 * 0.5 * (1 + math.cos(math.pi * s / 39))
        np.testing.assert_allclose(at(weight_decay_at, s, config), expected, rtol=1e-12)
    assert at(weight_decay_at, 0) == 0.5 and abs(at(weight_decay_at, 39)) < 1e-15
    config = dataclasses.replace(config, weight_decay_until=0.5)
    for s in range(40):
        expected = 0.1 + 0.4 * 0.5 * (1 + math.cos(math.pi * min(s / 19, 1)))
        np.testing.assert_allclose(at(weight_decay_at, s, config), expected, rtol=1e-12)


@pytest.mark.parametrize("clip", [0.5, float("inf")])
def test_adamw_is_optax_s(clip, getkey):
    """The update is that of optax's clip_by_global_norm and adamw, weight decay times learning rate included."""
    config = FitConfig(
        steps=50,
        warmup=0,
        learning_rate=3e-2,
        final_learning_rate=3e-2,
        weight_decay=0.3,
        final_weight_decay=0.3,
        clip=clip,
    )
    weights = student()
    clipping = optax.identity() if math.isinf(clip) else optax.clip_by_global_norm(clip)
    with jax.numpy_dtype_promotion("standard"):
        theirs = optax.chain(clipping, optax.adamw(3e-2, weight_decay=0.3, mask=decayed(weights)))
        expected: Any = weights
        state = theirs.init(expected)
        ours = adamw(config)
        found: Any = weights
        ours_state = ours.init(found)
        for i in range(4):
            gradient = jtu.tree_map(lambda w, i=i: jnp.sin((3 + i) * w), weights)
            update, state = theirs.update(gradient, state, expected)
            expected = optax.apply_updates(expected, update)
            update, ours_state = ours.update(gradient, ours_state, found)
            found = optax.apply_updates(found, update)
    for a, b in zip(jtu.tree_leaves(found), jtu.tree_leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)


def test_nu_is_not_decayed():
    """Where no gradient acts, weights shrink by 1 - rate * decay in each step, and `nu` stays to the bit."""
    config = FitConfig(steps=3, chunk=3, warmup=0, learning_rate=0.1, final_learning_rate=0.1, weight_decay=0.5)
    before = student()
    after = fit(before, task().sample, config, loss=lambda model, x, y: 0.0 * jnp.sum(model.w_m_in)).model
    np.testing.assert_array_equal(after.nu, before.nu)
    shrink = np.prod([1 - 0.1 * 0.25 * (1 + math.cos(math.pi * s / 2)) for s in range(3)])
    for name in ("w_m_in", "w_x_in", "w_m_out", "w_x_out", "readout"):
        np.testing.assert_allclose(getattr(after, name), shrink * getattr(before, name), rtol=1e-12)


def test_given_decays_are_not_trained():
    """A decay that was given stays to the bit; all else is trained."""
    rnn = student()
    fixed = GatedRNN(
        w_m_in=rnn.w_m_in,
        w_x_in=rnn.w_x_in,
        w_m_out=rnn.w_m_out,
        w_x_out=rnn.w_x_out,
        readout=rnn.readout,
        decay=rnn.decay,
    )
    assert not trainable(fixed).given_decay.bits and not decayed(fixed).given_decay.bits and decayed(rnn).nu is False
    after = fit(fixed, task().sample, CONFIG).model
    np.testing.assert_array_equal(after.given_decay, fixed.given_decay)
    assert not np.any(np.isclose(after.w_m_in, fixed.w_m_in, rtol=1e-6))


def test_training_learns_and_leaves_the_student_alone(getkey):
    """The loss over target power falls, the history tells of every chunk, and the model given is as it was."""
    task_, before = task(), student(n=12, m=12)
    copy = np.array(before.w_m_in)
    told = []
    config = FitConfig(steps=330, chunk=100, warmup=20, learning_rate=1e-2, weight_decay=0.01)
    power = task_.target_power(getkey())
    fitted = fit(before, task_.sample, config, scale=power, on_chunk=told.append)
    assert [record["step"] for record in fitted.history] == [100, 200, 300, 330] == [p.step for p in told]
    assert (fitted.status, fitted.steps) == ("done", 330) and fitted.seconds > 0 and told[-1].seconds_left == 0
    assert fitted.history[-1]["loss"] < 0.3 * fitted.history[0]["loss"]
    assert set(fitted.history[0]) == {"stage", "step", "loss", "learning_rate", "weight_decay"}
    np.testing.assert_array_equal(before.w_m_in, copy)


def test_chunks_change_nothing():
    """One chunk or many, a last one that is short: the same weights to the bit."""
    one = fit(student(), task().sample, dataclasses.replace(CONFIG, chunk=40)).model
    many = fit(student(), task().sample, dataclasses.replace(CONFIG, chunk=7)).model
    for a, b in zip(jtu.tree_leaves(one), jtu.tree_leaves(many), strict=True):
        np.testing.assert_array_equal(a, b)


def test_loss_is_of_the_steps():
    """A chunk's losses are those of its steps before their updates: the first is the loss of the student as given."""
    chunk = make_chunk(task().sample, CONFIG, scale=2.0)
    state = initial_state(student(), CONFIG)
    x, y = task().sample(jr.fold_in(state.key, state.step))
    expected = float(mean_squared_error(student(), x, y)) / 2
    state, metrics = chunk(state)
    np.testing.assert_allclose(metrics.loss[0], expected, rtol=1e-12)
    assert int(metrics.steps) == 16 and bool(metrics.finite) and int(state.step) == 16


def test_other_seed_other_data():
    """The seed decides the data."""
    a, b = (fit(student(), task().sample, dataclasses.replace(CONFIG, seed=seed)).history for seed in (0, 1))
    assert a != b


BATCHED = ["gated_rnn", "side_gated_rnn", "linear_attention", "dense_gated_rnn"]


AS_LOOPS = [("gated_rnn", 10), ("linear_attention", 2), ("dense_gated_rnn", 2)]


@pytest.mark.parametrize(("name", "d"), tiers(product(BATCHED, [2, 10]), *AS_LOOPS))
def test_batched_is_vmap(name, d, getkey):
    """The batched form gives vmap's outputs and gradients, narrow tokens or wide."""
    mixer, x, y = (
        mixers.registry()[name](d, key=getkey()),
        jr.normal(getkey(), (3, 6, d)),
        jr.normal(getkey(), (3, 6, d)),
    )
    plain = lambda mixer, x: jax.vmap(lambda x: mixer(x)[0])(x)
    np.testing.assert_allclose(batched(mixer, x), plain(mixer, x), rtol=1e-10, atol=1e-12)
    gradient = eqx.filter_grad(lambda mixer: mean_squared_error(mixer, x, y))(mixer)
    expected = eqx.filter_grad(lambda mixer: jnp.mean(jnp.square(plain(mixer, x) - y)))(mixer)
    for a, b in zip(jtu.tree_leaves(gradient), jtu.tree_leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-10)


def test_batched_keeps_a_subclass_s_own_forward(getkey):
    """A subclass with another forward pass is run by it."""

    class Doubled(GatedRNN):
        def at(self, x, state, segments):
            frozen = super().at(x, state, segments)
            return frozen._replace(y=2 * frozen.y)

    rnn, x = student(), jr.normal(getkey(), (3, 6, 2))
    kind: Any = Doubled
    names = ("w_m_in", "w_x_in", "w_m_out", "w_x_out", "readout", "nu")
    doubled = kind(**{name: getattr(rnn, name) for name in names})
    np.testing.assert_allclose(batched(doubled, x), 2 * batched(rnn, x), rtol=1e-10)


def test_batched_checks_its_input(getkey):
    """Tokens of a wrong width are refused as the mixer's own call refuses them."""
    with pytest.raises(InputError, match="takes tokens of width 2; got 3"):
        batched(student(), jr.normal(getkey(), (4, 6, 3)))


@pytest.mark.parametrize("value", [jnp.nan, jnp.inf])
def test_divergence_names_step_checkpoint_and_cure(tmp_path, value):
    """A loss that is no longer finite stops training: the step, the last good checkpoint, what to do; nothing bad is kept."""
    sample = lambda key: (jr.normal(key, (2, 3, 2)), jr.normal(key, (2, 3, 2)))
    rnn = eqx.tree_at(lambda rnn: rnn.readout, student(), jnp.zeros((2, 4)))
    # Adam's steps are of the learning rate's size: entry (0, 0) climbs by 0.01 in each.
    climbing = lambda model, x, y: jnp.where(model.readout[0, 0] > 0.055, value, -model.readout[0, 0])
    config = FitConfig(
        steps=20,
        chunk=2,
        warmup=0,
        learning_rate=1e-2,
        final_learning_rate=1e-2,
        weight_decay=0.0,
        final_weight_decay=0.0,
    )
    run = Run.create(tmp_path / "run", config)
    with pytest.raises(
        DivergedError,
        match=rf"the loss is {value} in step 7 of 20. The last good checkpoint is that of step 6, in '.*train'. Lower "
        r"learning_rate \(now 0.01\) or clip \(now 1\), or lengthen warmup \(now 0\)",
    ):
        fit(rnn, sample, config, loss=climbing, run=run, save_every=0)
    assert run.checkpoints("train").steps() == [6, 4, 2] and [line["step"] for line in run.metrics()] == [2, 4, 6]
    with pytest.raises(DivergedError, match="No checkpoint was kept, since there is no run folder"):
        fit(rnn, sample, config, loss=climbing)


def test_divergence_of_a_weight():
    """A weight that is no longer finite stops training too, though every loss was."""
    config = FitConfig(steps=2, chunk=2, warmup=0)
    loss = lambda model, x, y: jnp.sqrt(jnp.abs(model.readout[0, 0] - 0.25))  # its gradient at 0 is infinite
    rnn = eqx.tree_at(lambda rnn: rnn.readout, student(), jnp.full((2, 4), 0.25))
    with pytest.raises(
        DivergedError, match="(a weight is no longer finite after step 2|the loss is nan in step 2) of 2"
    ):
        fit(rnn, task().sample, config, loss=loss)


def test_select_units_of_a_network(getkey):
    """Taking units out is taking their rows and columns; a permutation leaves the function as it is."""
    rnn, x = student(), jr.normal(getkey(), (3, 6, 2))
    shuffled = select_units(rnn, np.array([4, 2, 0, 1, 3]), np.array([3, 0, 2, 1]))
    np.testing.assert_allclose(batched(shuffled, x), batched(rnn, x), rtol=1e-10)
    cut = select_units(rnn, hidden=np.array([0, 3]))
    silent = eqx.tree_at(
        lambda rnn: (rnn.w_m_in, rnn.w_x_in),
        rnn,
        tuple(w.at[jnp.array([1, 2, 4])].set(0.0) for w in (rnn.w_m_in, rnn.w_x_in)),
    )
    np.testing.assert_allclose(batched(cut, x), batched(silent, x), rtol=1e-10, atol=1e-12)
    side = SideGatedRNN.make(2, key=getkey(), n=4)
    np.testing.assert_allclose(batched(select_units(side, np.array([2, 3, 1, 0])), x), batched(side, x), rtol=1e-10)


def test_silent_units_stay_silent_and_the_others_train_as_without_them():
    """Every weight of a silenced unit is 0, stays 0, and the rest is trained as if the unit had been taken out."""
    chunk, state = make_chunk(task().sample, CONFIG), lambda: initial_state(student(), CONFIG)
    hidden, readout = np.array([1, 3]), np.array([0])
    quiet = silence_units(state(), hidden, readout)
    rest = np.setdiff1d(np.arange(5), hidden), np.setdiff1d(np.arange(4), readout)
    small = select_units(state(), *rest)
    quiet, small = chunk(quiet)[0].model, chunk(small)[0].model
    for weights, axis, index in ((quiet.w_m_in, 0, hidden), (quiet.w_x_out, 1, hidden), (quiet.readout, 1, readout)):
        assert not np.take(np.asarray(weights), index, axis).any()
    for found, expected in zip(jax.tree.leaves(select_units(quiet, *rest)), jax.tree.leaves(small), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)


def test_select_units_of_a_state():
    """Moments are cut alike, the place in training stays, and the loop goes on with the smaller arrays."""
    chunk = make_chunk(task().sample, CONFIG)
    state, _ = chunk(initial_state(student(), CONFIG))
    cut = select_units(state, np.array([0, 2, 4]), np.array([1, 3]))
    adam, cut_adam = (optax.tree.get(each.optimiser, "ScaleByAdamState") for each in (state, cut))
    pairs: Any = ((state.model, cut.model), *zip(adam[1:], cut_adam[1:], strict=True))
    for whole, part in pairs:
        np.testing.assert_array_equal(part.w_m_out, np.asarray(whole.w_m_out)[[1, 3]][:, [0, 2, 4]])
        np.testing.assert_array_equal(part.nu, np.asarray(whole.nu)[[0, 2, 4]])
        np.testing.assert_array_equal(part.readout, np.asarray(whole.readout)[:, [1, 3]])
    assert int(cut.step) == 16 and int(cut_adam.count) == 16
    cut, metrics = chunk(cut)
    assert int(cut.step) == 32 and bool(metrics.finite) and cut.model.w_x_out.shape == (2, 3)


def test_reshape_keeps_the_loss():
    """Cutting units that do nothing, in the middle of training, changes no later loss beyond rounding."""
    rnn = student()
    dead = eqx.tree_at(
        lambda rnn: (rnn.w_m_in, rnn.w_x_in, rnn.w_m_out, rnn.w_x_out),
        rnn,
        (rnn.w_m_in.at[1].set(0), rnn.w_x_in.at[1].set(0), rnn.w_m_out.at[:, 1].set(0), rnn.w_x_out.at[:, 1].set(0)),
    )
    cut = lambda state: select_units(state, np.array([0, 2, 3, 4])) if len(state.model.nu) == 5 else state
    whole, smaller = (fit(dead, task().sample, CONFIG, reshape=reshape) for reshape in (None, cut))
    assert smaller.model.w_m_out.shape == (4, 4)
    np.testing.assert_allclose([r["loss"] for r in smaller.history], [r["loss"] for r in whole.history], rtol=1e-9)


@pytest.mark.parametrize(
    "pick, message",
    [
        (lambda rnn: select_units(rnn, np.array([5])), "there is no hidden unit 5; the network has 5, counted from 0"),
        (lambda rnn: select_units(rnn, readout=np.array([-1])), "there is no readout unit -1; the network has 4"),
        (
            lambda rnn: select_units(SideGatedRNN.make(2, key=jr.key(0)), readout=np.array([0])),
            "has no pre-readout units",
        ),
        (
            lambda rnn: select_units(LinearAttention.make(2, key=jr.key(0)), np.array([0])),
            "units of a LinearAttention cannot",
        ),
    ],
)
def test_select_units_mistakes(pick, message):
    """Units that are not there, or networks without them."""
    with pytest.raises(InputError, match=message):
        pick(student())


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"steps": -1}, "steps is -1; it must be at least 0"),
        ({"steps": 10.0}, "steps is 10.0; it must be at least 0, and a whole number"),
        ({"chunk": True}, "chunk is True; it must be at least 1, and a whole number"),
        ({"warmup": "3"}, "warmup is 3; it must be at least 0, and a whole number"),
        ({"learning_rate": "1e-3"}, "learning_rate is '1e-3'; it must be a number"),
        ({"clip": None}, "clip is None; it must be a number"),
        ({"chunk": 0}, "chunk is 0; it must be at least 1"),
        ({"steps": 10, "warmup": 20}, "warmup is 20 steps, more than the 10 steps of the run; shorten it"),
        ({"learning_rate": -1e-3}, "learning_rate is -0.001; it cannot be negative"),
        ({"weight_decay": float("nan")}, "weight_decay is nan; it must be a number"),
        ({"clip": 0.0}, "clip is 0.0; it must be above 0"),
        ({"b2": 1.0}, r"b2 is 1.0; it must lie in \[0, 1\)"),
    ],
)
def test_config_mistakes(changed, message, unchecked):
    """A value out of its range is named."""
    with pytest.raises(InputError, match=message):
        FitConfig(**changed)


def test_decay_rate():
    """`nu` moves at `decay_rate` times the learning rate, everything else at the learning rate itself."""
    config = FitConfig(steps=1, chunk=1, warmup=0, weight_decay=0.0)
    before = student()
    one, three = (fit(before, task().sample, dataclasses.replace(config, decay_rate=rate)).model for rate in (1.0, 3.0))
    np.testing.assert_allclose(three.nu - before.nu, 3 * (one.nu - before.nu), rtol=1e-9)
    np.testing.assert_array_equal(three.w_m_out, one.w_m_out)
