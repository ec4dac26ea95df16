"""Networks trained side by side: each is what it would be alone."""

from dataclasses import replace

import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
import pytest

from dualform.errors import InputError
from dualform.mixers import GatedRNN
from dualform.tasks import Teacher, TeacherStudent
from dualform.training import FitConfig, fit, fit_ensemble
from tests.tiers import tiers

CONFIG = FitConfig(steps=7, chunk=4, warmup=2, learning_rate=1e-2)
SEEDS = (3, 5)


def student(seed: int, n: int = 6) -> GatedRNN:
    return GatedRNN.make(2, key=jr.key(seed), n=n, m=5, dtype=jnp.float32)


def task(seed: int) -> TeacherStudent:
    return TeacherStudent(Teacher.gaussian(2, key=jr.key(seed), dtype=jnp.float32), time=5, batch=3)


def together(members, **more):
    return fit_ensemble(
        [student(seed) for seed in SEEDS],
        lambda key, task: task.sample(key),
        CONFIG,
        seeds=SEEDS,
        tasks=[task(seed) for seed in SEEDS],
        scales=[2.0, 3.0],
        members=members,
        **more,
    )


@pytest.mark.parametrize("members", tiers(["map", "vmap"], "vmap"))
def test_a_member_is_what_it_would_be_alone(members):
    """Weights and losses of each member are those that `fit` gives for its seed, task and scale, over a short last chunk."""
    found = together(members)
    for i, (seed, scale) in enumerate(zip(SEEDS, (2.0, 3.0), strict=True)):
        config = FitConfig(**{**CONFIG.__dict__, "seed": seed})
        alone = fit(student(seed), task(seed).sample, config, scale=scale)
        for ours, theirs in zip(jtu.tree_leaves(found.models[i]), jtu.tree_leaves(alone.model), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=1e-6)
        np.testing.assert_allclose(found.losses[i], [line["loss"] for line in alone.history], rtol=1e-4)
    assert found.steps.tolist() == [4, 7] and found.diverged == [False, False]


def test_rates_multiply_the_learning_rate():
    """A member at rate 0 stays as it was; one at rate 1 is that of an ensemble without rates."""
    still, moved = together("map", rates=[0.0, 1.0]).models
    assert np.array_equal(still.readout, student(SEEDS[0]).readout)
    np.testing.assert_array_equal(moved.readout, together("map").models[1].readout)


def test_a_member_that_diverges_stops_nothing():
    """Its losses say so, and the other goes on as if it were not there."""
    broken = student(SEEDS[0])
    broken = GatedRNN(
        w_m_in=broken.w_m_in * jnp.nan,
        w_x_in=broken.w_x_in,
        w_m_out=broken.w_m_out,
        w_x_out=broken.w_x_out,
        readout=broken.readout,
        nu=broken.nu,
    )
    tasks = [task(seed) for seed in SEEDS]
    sample = lambda key, task: task.sample(key)
    found = fit_ensemble([broken, student(SEEDS[1])], sample, CONFIG, seeds=SEEDS, tasks=tasks, scales=[2.0, 3.0])
    assert found.diverged == [True, False]
    np.testing.assert_array_equal(found.models[1].readout, together("map").models[1].readout)


def test_misfits_are_said():
    """Counts that differ, and networks of other shapes, are named."""
    sample = lambda key, task: (jnp.zeros((1, 1, 2)), jnp.zeros((1, 1, 2)))
    with pytest.raises(InputError, match="1 seeds for 2 networks; give one each"):
        fit_ensemble([student(0), student(1)], sample, CONFIG, seeds=[0])
    with pytest.raises(InputError, match="differ in structure or shapes"):
        fit_ensemble([student(0), student(1, n=7)], sample, CONFIG, seeds=[0, 1])
    with pytest.raises(InputError, match="at least one network"):
        fit_ensemble([], sample, CONFIG, seeds=[])


def test_networks_in_float64():
    """Networks in float64 are trained in float64, with losses to its precision: each is what it would be alone."""
    wide = lambda tree: jtu.tree_map(lambda leaf: leaf.astype(jnp.float64), tree)
    models, data = [wide(student(seed)) for seed in SEEDS], wide(task(1).teacher)
    sample = TeacherStudent(data, time=5, batch=3).sample
    found = fit_ensemble(models, lambda key, _: sample(key), CONFIG, seeds=SEEDS, scales=[2.0, 3.0])
    for i, (seed, scale) in enumerate(zip(SEEDS, (2.0, 3.0), strict=True)):
        alone = fit(models[i], sample, replace(CONFIG, seed=seed), scale=scale)
        assert found.models[i].readout.dtype == jnp.float64
        np.testing.assert_allclose(found.models[i].readout, alone.model.readout, rtol=1e-10)
        np.testing.assert_allclose(found.losses[i], [line["loss"] for line in alone.history], rtol=1e-12)
