"""Copying: both networks are as large, start as they are said to, and the worst seed decides."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from dualform.arrays import count_parameters
from dualform.experiments.reproduction import Workshop, verdict_of
from dualform.experiments.trained import SEARCH_SEED
from dualform.experiments.wave import copying
from dualform.experiments.wave.copying import job, networks
from dualform.training import Row
from tests.tiers import tiers

SIZES = tiers([(60, 6), (100, 6), (6, 2)], (60, 6), (6, 2))


@pytest.mark.parametrize(("units", "channels"), SIZES)
def test_both_have_as_many_weights(units, channels):
    """The identity RNN's are the wave RNN's, to half of what one unit more would bring."""
    wave, identity = (count_parameters(network) for network in networks(10, units, channels, jr.key(0)).values())
    assert abs(wave - identity) <= identity**0.5 + 12


def test_the_identity_keeps_and_the_wave_moves():
    """Behind a token that writes, and with tokens that write nothing, one network's state stays and the other's goes around."""
    written = jnp.zeros((5, 10)).at[0, 3].set(1.0)
    for name, network in networks(10, 6, 2, jr.key(0)).items():
        mixer = network.mixer
        v = jnp.zeros_like(mixer.v).at[:, 0, 3].set(1.0)
        for count in (1, 2, 5):
            _, state = replace(mixer, v=v)(written[:count])
            place = 0 if name == "identity" else -(count - 1) % 6
            expected = np.zeros(state.shape)
            expected[place] = 1
            np.testing.assert_array_equal(state, expected)


def _rows(wave, identity):
    """Of each seed (loss, sequences)."""
    of = lambda scores: [{"test": {"loss": a, "sequences": b}, "parameters": 9, "rate": 3e-3} for a, b in scores]
    return {(10, "wave"): of(wave), (10, "identity"): of(identity)}


def test_the_worst_seed_decides():
    """One seed of the wave RNN that does not copy, or is not below the identity RNN's best, is enough to differ."""
    outcomes = lambda wave, identity: [n.outcome for n in copying._numbers(10, _rows(wave, identity))]
    rest = ["ours alone"] * 3
    good, bad, plain = (1e-6, 1.0), (1e-2, 0.98), (0.3, 0.0)
    assert outcomes([good, good], [plain, plain]) == ["met", "met", *rest]
    assert outcomes([good, bad], [plain, plain]) == ["differs", "met", *rest]
    assert outcomes([good, good], [plain, (1e-7, 1.0)]) == ["met", "differs", *rest]
    assert outcomes([(0.0, 1.0)], [(0.0, 1.0)]) == ["met", "met", *rest] and outcomes([], [plain]) == []
    assert copying._numbers(10, _rows([(1e-6, 1.0)], [(1e-2, 0.0)]))[1].ours == pytest.approx(4)


@dataclass
class Pretended(Workshop):
    """A workshop in which the loss is least at 1e-2, and the wave RNN copies."""

    folder: Path = Path("nowhere")
    asked: list[tuple[str, str, int]] = field(default_factory=list)

    def sweep(self, name, jobs):
        rows = []
        for asked in jobs:
            told = asked.config
            self.asked.append((name, asked.name, told["seed"]))
            scores = {"loss": 1e-6 + abs(np.log(told["rate"] / 1e-2)), "sequences": float(told["network"] == "wave")}
            scores = {"loss": scores["loss"] + (told["network"] == "identity"), "sequences": scores["sequences"]}
            result = {"parameters": 9, "rate": told["rate"], "validation": scores, "test": scores}
            rows.append(Row(asked.name, told, "done", (result,)))
        return rows


def test_rates_are_chosen_by_a_seed_that_is_not_reported():
    """Of four rates the best by validation, for each network and T; then the seeds that count, and a verdict of them."""
    workshop = Pretended()
    found = copying.COPYING.run(workshop, "full")
    assert verdict_of(found) == "reproduced" and found.seeds == 3 and len(found.numbers) == 3 * 5
    assert {seed for name, _, seed in workshop.asked if name == "copying-rates"} == {SEARCH_SEED}
    reported = [(name, seed) for sweep, name, seed in workshop.asked if sweep == "copying"]
    assert len(reported) == 3 * 2 * 3 and all("rate=0.01-" in name for name, _ in reported)
    assert {seed for _, seed in reported} == {0, 1, 2} and all(len(row["tried"]) == 4 for row in found.data["rows"])


@pytest.mark.slow
def test_a_run_learns_and_is_read_back(tmp_path):
    """A small network is told what it remembers: its loss falls under that of no memory; the run is read back."""
    told = {
        "network": "wave",
        "seed": 0,
        "time": 1,
        "units": 24,
        "channels": 2,
        "batch": 16,
        "steps": 200,
        "rate": 3e-3,
    }
    with jax.enable_x64(False):
        found = job(told, tmp_path)
        again = job(told, tmp_path)
    nothing = 10 * np.log(8) / 21
    assert 0 < found["test"]["loss"] < 0.9 * nothing and again["test"] == found["test"]
