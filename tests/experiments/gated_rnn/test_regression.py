"""In-context regression: measures of known networks, settling, and short trainings that must learn."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dualform import construct
from dualform.checkpoints import load_weights
from dualform.errors import InputError
from dualform.experiments.gated_rnn import in_context
from dualform.experiments.gated_rnn.depth_and_recall import (
    Depth,
    Recall,
    depth_against_steps,
    descent,
    recall_comparison,
    stack,
)
from dualform.experiments.gated_rnn.regression import (
    Regression,
    alive,
    measure,
    settled,
    train_regression,
)
from dualform.mixers import GatedRNN, LinearAttention
from dualform.tasks import InContextRegression, gd_attention
from dualform.training import FitConfig
from tests.tiers import tiers

SHORT = FitConfig(steps=120, chunk=60, warmup=20, learning_rate=1e-2, final_learning_rate=1e-4, weight_decay=0.1)
SMALL = Regression(
    n=8, m=6, pairs=4, d_x=1, d_y=1, batch=32, fit=SHORT, polish_batch=32, polish=SHORT, validation=2000, seed=3
)


def test_one_step_is_measured_exactly():
    """The RNN and the layer that are one step have its rate, no other coefficient, and no gap; at another rate they have."""
    task = InContextRegression()
    attention = gd_attention(task.optimal_rate())
    rnn = construct.gated_rnn(attention, "low_rank")
    for model in (attention, rnn):
        found = measure(model, task, 2000)
        np.testing.assert_allclose(found["coefficients"], [task.optimal_rate()] * 3, rtol=1e-12)
        assert abs(found["learned_rate"] - task.optimal_rate()) <= 1e-13 and found["coefficient_error"] <= 1e-12
        assert found["residual_norm"] <= 1e-12 and abs(found["gap"]) <= 1e-12
        assert abs(found["loss"] - found["exact_loss"]) <= 4 * found["standard_error"]
        assert abs(found["validation_loss"] - found["validation_step_loss"]) <= 1e-12
    counts = [found[name] for name in ("memory_units", "forget_units", "other_units", "readout_units")]
    assert counts == [9, 3, 0, 9]
    off = measure(gd_attention(0.1), task, 2000)
    assert abs(off["coefficient_error"] - 0.48) <= 1e-12
    expected = task.one_step_loss(0.1) / task.one_step_loss() - 1
    assert abs(off["gap"] - expected) <= 4 * off["gap_standard_error"]


def test_settling_takes_dead_units_and_rounds_decays():
    """Units that carry nothing go, decays within a hundredth of an end go there; one between leaves all as they are."""
    rnn = construct.gated_rnn(gd_attention(0.1, 2, 1), "low_rank")
    pad = lambda a, rows, columns: jnp.pad(a, ((0, rows), (0, columns)), constant_values=1e-4)
    rows = {"w_m_in": (2, 0), "w_x_in": (2, 0), "w_m_out": (1, 2), "w_x_out": (1, 2), "readout": (0, 1)}
    arrays = {name: pad(getattr(rnn, name), *more) for name, more in rows.items()}
    decay = jnp.concatenate([jnp.clip(rnn.decay, 0.004, 0.995), jnp.array([0.5, 0.9])])
    padded = GatedRNN(**arrays, nu=jnp.log(-jnp.log(decay)))
    hidden, readout = alive(padded)
    assert hidden.tolist() == list(range(len(rnn.decay))) and readout.tolist() == list(range(rnn.readout.shape[1]))
    found = settled(padded)
    assert found.nu is None
    np.testing.assert_array_equal(found.decay, rnn.decay)
    between = GatedRNN(**arrays, nu=jnp.log(-jnp.log(decay.at[0].set(0.5))))
    kept = settled(between)
    assert kept.nu is not None and len(kept.nu) == len(rnn.decay)


@pytest.mark.parametrize("mixer", tiers(["gated_rnn", "linear_attention"], "gated_rnn"))
def test_a_short_training_learns_and_is_read_back(mixer, tmp_path):
    """A few hundred steps beat predicting 0; the folder then answers without training, and holds the weights."""
    config = replace(SMALL, mixer=mixer)
    found = train_regression(config, tmp_path / "run")
    assert found["loss"] < 0.8 * config.task().target_power / 2
    assert found["steps"] == 240 and found["gap"] > 0
    assert train_regression(config, tmp_path / "run") == found
    kind = GatedRNN if mixer == "gated_rnn" else LinearAttention
    assert load_weights(tmp_path / "run" / "weights.safetensors", kind).d_out == 1
    with pytest.raises(InputError, match="was made with regression.seed = 3, and now it is 4"):
        train_regression(replace(config, seed=4), tmp_path / "run")


@pytest.mark.slow
def test_jobs_are_their_runs(tmp_path):
    """What the sweeps of Table 2 and of the learning rates keep is what the run measured; the run is in the job's folder."""
    steps = {"steps": 250, "polish_steps": 110}
    found = in_context.job({"kind": "rate", "pairs": 4, "noise": 0.5, **steps}, tmp_path / "a")
    assert (
        abs(found["rate"] - 1 / (4 + 2.8 + 0.75)) <= 1e-12 and (tmp_path / "a" / "run" / "weights.safetensors").exists()
    )
    assert 0 < found["loss"] < 0.5


def test_more_steps_of_descent_are_better():
    """Each step lowers the least loss; the first is the closed form's, at eta*."""
    task = InContextRegression()
    found = descent(task, 3)
    losses = [row["loss"] for row in found]
    assert losses[0] > losses[1] > losses[2] > 0
    np.testing.assert_allclose([losses[0], found[0]["rate"]], [task.one_step_loss(), task.optimal_rate()], rtol=2e-2)


@pytest.mark.slow
def test_depth_and_recall_learn(tmp_path):
    """Short runs of both beat knowing nothing, name what was trained, and are read back when asked again."""
    longer = replace(SHORT, steps=800, chunk=400)
    depth = Depth(("gated_rnn",), (1,), width=8, pairs=4, d_x=1, d_y=1, batch=32, fit=longer, steps=2, validation=2000)
    found = depth_against_steps(depth, tmp_path / "depth")
    assert found["stacks"][0]["loss"] < 0.5 and len(found["steps"]) == 2
    assert depth_against_steps(depth, tmp_path / "depth") == found
    recall = Recall(("linear_attention",), width=8, vocabulary=3, pairs=2, batch=32, fit=SHORT, validation=1000)
    found = recall_comparison(recall, tmp_path / "recall")
    assert found["chance"] == 0.5 and found["mixers"][0]["accuracy"] > 0.5
    assert recall_comparison(recall, tmp_path / "recall") == found


@pytest.mark.parametrize("mixer", ["gated_rnn", "linear_attention", "lstm", "gru"])
def test_every_stack_has_the_tasks_widths(mixer):
    """Whatever the mixer, tokens of width 6 go in and 3 numbers come out."""
    model = stack(mixer, 2, 5, 6, 3, 0)
    assert len(model.layers) == 2
    assert jax.eval_shape(lambda x: model(x)[0], jnp.ones((4, 6), jnp.float32)).shape == (4, 3)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Regression(mixer="mamba"), "there is no mixer 'mamba' here; there are gated_rnn, linear_attention"),
        (lambda: Regression(n=0), "n is 0; it must be at least 1"),
        (lambda: Regression(validation=0), "validation is 0; it must be at least 1"),
        (lambda: Depth(mixers=("gru", "mamba")), "there is no mixer mamba here; there are gated_rnn, linear_att"),
        (lambda: Depth(layers=(0,)), r"layers is \(0,\); each stack needs at least one layer"),
        (lambda: Depth(width=0), "width is 0; it must be at least 1"),
        (lambda: Recall(mixers=("mamba",)), "there is no mixer mamba here"),
        (lambda: Recall(validation=0), "validation is 0; it must be at least 1"),
        (lambda: stack("mamba", 1, 4, 2, 2, 0), "there is no mixer mamba here"),
    ],
)
def test_bad_configs(make, message):
    """What is out of range is named, with its value and what there is."""
    with pytest.raises(InputError, match=message):
        make()
