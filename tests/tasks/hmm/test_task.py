"""The task of hidden Markov models: what it asks for, how it is judged, and what is fed back."""

import functools

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from dualform import tasks
from dualform.errors import InputError
from dualform.mixers import GRU, SoftmaxAttention
from dualform.models import Block, Recurrent, SequenceModel
from dualform.tasks.hmm import FAMILIES, HiddenMarkov, estimates, fit_length, judged, with_feedback
from dualform.tasks.hmm.judging import marks


@pytest.mark.parametrize("family", FAMILIES)
def test_targets_are_exact(family):
    """Tokens are one-hot or vectors behind which the first is marked; asked for and exact are the beliefs."""
    task = HiddenMarkov(family=family, states=2, observations=2, time=6, batch=8)
    x, y = jax.jit(task.sample)(jr.key(0))
    assert x.shape == (8, 6, task.d_in) and y.shape == (8, 6, 2 * task.d_out)
    assert (x[:, 0, -1] == 1).all() and (x[:, 1:, -1] == 0).all()
    assert (y[..., : task.d_out] == y[..., task.d_out :]).all()
    assert np.abs(y[0, :, : task.d_out] - task.hidden.beliefs(x[0, :, :-1])).max() < 1e-12
    assert task.hidden is HiddenMarkov(family=family, states=2, observations=2, time=9).hidden  # drawn once


@pytest.mark.parametrize("family", ["random", "linear-system"])
def test_the_next_token_is_asked_for_and_its_distribution_judges(family):
    """What followed is one-hot (or a vector); the exact expectation has a distance of 0 and the least loss on average."""
    task = HiddenMarkov(family=family, target="next", time=6, batch=2048)
    x, y = jax.jit(task.sample)(jr.key(0))
    following, expected = y[..., :3], y[..., 3:]
    assert (following[:, :-1] == x[:, 1:, :3]).all()
    best = jnp.log(expected) if task.probabilities else expected
    right, other = task.judged(best, y), task.judged(0 * best, y)
    assert right["distance"].mean < 1e-12 and right["loss"].mean < other["loss"].mean
    assert right["within"].mean == 6


def test_scores_by_hand():
    """Two states, one sequence of three tokens, its estimates sure, half and half, and sure of the wrong state."""
    exact = jnp.array([[[1.0, 0], [1.0, 0], [1.0, 0]]])
    outputs = jnp.array([[[60.0, 0], [0, 0], [0, 60]]])
    found = {name: float(score.mean) for name, score in judged(outputs, exact, exact, True).items()}
    assert found["variation"] == pytest.approx((0 + 0.5 + 1) / 3) and found["within"] == 1
    assert found["loss"] == pytest.approx((0 + np.log(2) + 60) / 3)
    assert found["distance"] == pytest.approx(np.sqrt(2) * 0.5)
    by_place = {name: value for name, value in found.items() if name.startswith("distance at")}
    assert list(by_place) == ["distance at 1", "distance at 2", "distance at 3"]
    assert by_place["distance at 3"] == pytest.approx(np.sqrt(2))
    vectors = judged(exact + 2, exact, exact, False)
    assert vectors["loss"].mean == 4 and vectors["distance"].mean == pytest.approx(np.sqrt(8))
    with pytest.raises(InputError, match="the outputs have shape"):
        judged(outputs[:, :2], exact, exact, True)


def test_fit_length():
    """Tokens before the first whose distance is above the threshold; NaN is above; all of them where none is."""
    assert fit_length([0.01, 0.05, 0.06, 0.01]) == 2 and fit_length([0.1, 0.2]) == 0
    assert fit_length([0.01] * 5) == 5 and fit_length([0.01, float("nan"), 0.01]) == 1
    assert fit_length([0.01, 0.2], threshold=0.3) == 2
    assert marks(1) == (1,) and marks(8) == (1, 2, 4, 8) and marks(24) == (1, 2, 4, 8, 16, 24)


@functools.cache
def attention(d_in: int = 6, d_out: int = 3) -> SequenceModel:
    mixer = SoftmaxAttention.make(4, heads=1, context=16, key=jr.key(0))
    return SequenceModel.make((Block.make(mixer, key=jr.key(1)),), d_in, d_out, key=jr.key(2))


def said(y):
    return jax.nn.softmax(y)


@pytest.mark.parametrize("block", [3, 4])
def test_what_is_fed_back_is_what_was_said(block):
    """The blocks give what one pass gives over tokens that hold the softmax of the output before each block."""
    x = jnp.pad(jr.normal(jr.key(3), (10, 3)), ((0, 0), (0, 3)))
    y = with_feedback(attention(), x, block, said)
    told = x
    for t in range(block, 10, block):
        told = told.at[t, 3:].set(said(y[t - 1]))
    assert np.abs(attention()(told)[0] - y).max() < 1e-12
    assert np.abs(attention()(x)[0][:block] - y[:block]).max() < 1e-12  # nothing is fed back before
    assert np.abs(attention()(x)[0][block:] - y[block:]).max() > 1e-3


def test_no_gradient_goes_through_what_is_fed_back():
    """The gradient is that of one pass with what was fed back held as it is."""
    x = jnp.pad(jr.normal(jr.key(3), (8, 3)), ((0, 0), (0, 3)))
    y = with_feedback(attention(), x, 4, said)
    told = x.at[4, 3:].set(said(y[3]))
    weights = attention().w_in
    put = lambda w: attention().__class__(
        w, *(getattr(attention(), f) for f in ("b_in", "blocks", "w_out", "b_out", "norm"))
    )
    through = jax.grad(lambda w: (with_feedback(put(w), x, 4, said) ** 2).sum())(weights)
    held = jax.grad(lambda w: (put(w)(told)[0] ** 2).sum())(weights)
    assert np.abs(through - held).max() < 1e-10


def test_the_task_feeds_back_what_the_model_says_of_the_belief():
    """A task with feedback has wider tokens, and its scores are those of the outputs with feedback."""
    task = HiddenMarkov(family="cyclic-det", states=3, observations=2, time=10, batch=2, feedback=4)
    assert (task.d_in, task.d_out) == (6, 3)
    x, y = jax.jit(task.sample)(jr.key(0))
    outputs = jnp.stack([with_feedback(attention(), row, 4, said) for row in x])
    assert task.scores(attention(), x, y)["loss"].mean == pytest.approx(task.judged(outputs, y)["loss"].mean)
    assert np.abs(estimates(outputs, True).sum(axis=-1) - 1).max() < 1e-12
    with pytest.raises(InputError, match="feedback is every 0 tokens"):
        with_feedback(attention(), x[0], 0, said)


def test_held_out_sequences_are_of_the_same_model_and_not_of_training():
    """Every split has the exact filter of one model; none of the test's sequences is drawn in training."""
    task = HiddenMarkov(family="cyclic-det", states=3, observations=2, time=8, batch=64, held=64, lengths=(12,))
    assert task.splits == ("validation", "test", "length 12")
    [(x, y)] = task.held_out("length 12")
    assert np.abs(jax.vmap(task.hidden.beliefs)(x[..., :2]) - y[..., :3]).max() < 1e-12
    sample = jax.jit(task.sample)
    rows = lambda x: {tuple(row) for row in np.asarray(x[..., 0]).tolist()}
    [(test, _)] = task.held_out("test")
    assert not rows(test) & set.union(*(rows(sample(key)[0]) for key in jr.split(jr.key(0), 8)))


def test_a_recurrent_network_reads_it():
    """A model of the task's widths gives a belief for each token, and has a loss."""
    task = tasks.named("hmm").open(family="cyclic-hard", states=2, observations=2, stage=2, time=4, batch=2)
    model = Recurrent.make((GRU.make(task.d_in, n=5, key=jr.key(0)),), task.d_out, key=jr.key(1))
    assert jnp.isfinite(task.loss(model, *jax.jit(task.sample)(jr.key(2))))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"family": "cyclic"}, "there is no family 'cyclic'; there are random, linear-system, matrix-product"),
        ({"target": "state"}, "target is 'state'; it must be 'belief' or 'next'"),
        ({"states": 0}, "states is 0; it must be at least 1"),
        ({"observations": 0}, "observations is 0"),
        ({"feedback": -1}, "feedback is -1; give the tokens of a block, or 0 for none"),
        ({"family": "cyclic-det", "target": "next"}, "each observation of cyclic-det is as likely as any other"),
        ({"family": "matrix-product", "target": "next"}, "there is nothing to foretell"),
        ({"model_seed": -1}, "-1"),
        ({"family": "cyclic-rnd", "slip": -0.5, "target": "next"}, "slip is -0.5"),
    ],
)
def test_bad_settings(settings, said):
    """Which one, its value, and what is allowed."""
    with pytest.raises(InputError, match=said):
        HiddenMarkov(**settings)
