"""The adding problem: what is asked, who is asked, when it is solved, and a run that was stopped."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from dualform.arrays import count_parameters
from dualform.experiments.wave import adding
from dualform.experiments.wave.adding import READ, error, job, networks, sample, solved_at, squared_error
from dualform.training import Progress
from tests.tiers import tiers

SMALL = {"network": "tanh", "seed": 0, "time": 6, "units": 5, "channels": 2, "batch": 8, "steps": 2 * READ}


def test_the_sum_of_two_marked_numbers_is_asked():
    """One mark in each half, on numbers between 0 and 1; the answer is the sum of these two."""
    x, y = sample(jr.key(0), 10, 50)
    values, marks = np.asarray(x).transpose(2, 0, 1)
    assert set(marks.ravel()) == {0.0, 1.0} and 0 <= values.min() < values.max() <= 1
    assert (marks[:, :5].sum(1) == 1).all() and (marks[:, 5:].sum(1) == 1).all()
    np.testing.assert_allclose(y[:, 0], (values * marks).sum(1), rtol=1e-6)


def test_the_mean_has_an_error_of_a_sixth():
    """Always answering 1 has the error that the page says, and the last output alone counts."""
    one = lambda x: (jnp.ones((len(x), 1), jnp.float32).at[:-1].set(99.0), None)
    assert abs(error(one, jr.key(0), 10, 40) - 1 / 6) < 0.01
    x, y = sample(jr.key(1), 4, 3)
    assert squared_error(one, x, y) == pytest.approx(np.mean((1 - np.asarray(y)) ** 2))


@pytest.mark.parametrize(("units", "channels"), tiers([(100, 27), (100, 6), (5, 2)], (100, 27), (5, 2)))
def test_both_have_as_many_weights(units, channels):
    """The tanh RNN's are the wave RNN's, to half of what one unit more would bring."""
    wave, tanh = (count_parameters(network) for network in networks(units, channels, jr.key(0)).values())
    assert abs(wave - tanh) <= tanh**0.5 + 3


def test_solved_is_held_out():
    """The first reading at or under the limit decides; no reading under it is no solution."""
    assert solved_at([(10, 0.2), (20, 0.05), (30, 0.06)]) == 20
    assert solved_at([(10, 0.2)]) is solved_at([]) is None


def _row(error: float, solved: bool = True) -> dict:
    return {"held_out": [(300, 0.04 if solved else 0.06)], "error": error, "parameters": 9}


def test_the_worst_seed_decides():
    """One seed of the wave RNN that does not solve it, or one of the tanh RNN that does, is enough to differ."""
    outcomes = lambda wave, tanh: [n.outcome for n in adding._numbers({"wave": wave, "tanh": tanh}, 600)][:3]
    good, bad, plain = _row(1e-3), _row(0.06, False), _row(0.17, False)
    assert outcomes([good, good], [plain, plain]) == ["met", "met", "met"]
    assert outcomes([good, bad], [plain, plain]) == ["differs", "differs", "met"]
    assert outcomes([good, good], [plain, good]) == ["met", "met", "differs"]


@pytest.mark.slow
def test_a_run_that_was_stopped_reads_every_error_once(tmp_path, monkeypatch):
    """Stopped after the first reading, the job goes on and ends with what it would have had, to the bit."""
    with jax.enable_x64(False):
        whole = job(SMALL, tmp_path / "whole")
        fit = adding.fit

        def stopped(*args, on_chunk, **rest):
            def once(progress: Progress) -> None:
                on_chunk(progress)
                raise KeyboardInterrupt

            return fit(*args, on_chunk=once, **rest)

        monkeypatch.setattr(adding, "fit", stopped)
        with pytest.raises(KeyboardInterrupt):
            job(SMALL, tmp_path / "stopped")
        monkeypatch.undo()
        again = job(SMALL, tmp_path / "stopped")
    assert [step for step, _ in whole["held_out"]] == [READ, 2 * READ]
    assert {**again, "seconds": 0} == {**whole, "seconds": 0}
