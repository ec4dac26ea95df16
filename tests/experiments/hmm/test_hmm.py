"""What networks make of hidden Markov models: how results are measured and judged, and filters written into weights."""

import functools
from typing import Any

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from dualform.errors import InputError
from dualform.experiments.hmm import beliefs, depth, exact
from dualform.experiments.hmm.networks import Size, apart, blocks_of, hidden_states, recipe, task_of, tokens_of
from dualform.experiments.hmm.readout import explained, ridge
from dualform.experiments.papers import PAPERS
from dualform.experiments.reproduction import Workshop, reproduce
from dualform.experiments.trained import Trained
from dualform.reports.paper_figures import figures_of
from dualform.tasks.hmm import cyclic_det, cyclic_rnd, random_hmm

SMALL = Size(width=4, time=6, steps=10)


def test_names_say_what_networks_are():
    """Layers and blocks of attention; a recipe of each opens and makes a model."""
    assert blocks_of("gru") == (0, 0) and blocks_of("transformer-3") == (3, 0)
    assert blocks_of("transformer-4-block-12") == (4, 12)
    told = recipe("transformer-3-block-8", "cyclic-det", SMALL)
    assert told.model.layers == 3 and told.settings["feedback"] == 8 and told.model.options["context"] == 6
    for grid in (*depth.GRIDS.values(), *beliefs.GRIDS.values()):
        for name in grid["models"]:
            assert recipe(name, "random", grid["size"]).open_task().splits == ("validation", "test")


@functools.cache
def model(name: str) -> tuple[Any, Any]:
    told = recipe(name, "random", SMALL, "next", 3)
    return told.make_model(task_of(told)), task_of(told)


def test_the_distance_at_each_token_is_the_tasks_own():
    """Its mean is the score of the same name; at a token of a power of two, that of the token."""
    from dualform.training.measuring import measure

    network, task = model("gru")
    found, scores = apart(task, network), measure(task, network, task.held_out("test"))
    assert found.mean() == pytest.approx(scores["distance"]) and found[3] == pytest.approx(scores["distance at 4"])


@pytest.mark.parametrize("name", ["gru", "transformer-1"])
def test_states_are_what_the_readout_reads(name):
    """What the last layer or block gives, and the rest of the model, is the model."""
    network, task = model(name)
    x, exactly = tokens_of(task, "test")
    states, outputs = hidden_states(network, x[:3]), task.outputs(network, x[:3])
    if name == "gru":
        assert np.abs(states @ np.asarray(network.w).T + np.asarray(network.b) - outputs).max() < 1e-10
    else:
        rest = network.norm(jnp.asarray(states[0]))
        rest = rest[0] if isinstance(rest, tuple) else rest
        assert (
            np.abs(np.asarray(rest) @ np.asarray(network.w_out).T + np.asarray(network.b_out) - outputs[0]).max()
            < 1e-10
        )
    assert exactly.shape == (len(x), 6, 3) and np.abs(exactly.sum(axis=2) - 1).max() < 1e-12


def test_a_planted_map_is_read_and_noise_is_not():
    """R^2 of 1 where y is affine in x; about 0 where it is of other rows; the mean explains nothing."""
    random = np.random.default_rng(0)
    x, w = random.normal(size=(2000, 5)) + 3, random.normal(size=(5, 2))
    y = x @ w + 7
    read = ridge(x[:1000], y[:1000], 0.0)
    assert np.abs(read.weights - w).max() < 1e-10 and explained(read(x[1000:]), y[1000:]) == pytest.approx(1)
    mixed = random.permutation(y)
    assert abs(explained(ridge(x[:1000], mixed[:1000])(x[1000:]), mixed[1000:])) < 0.05
    assert explained(np.broadcast_to(y.mean(axis=0), y.shape), y) == 0
    assert np.isfinite(ridge(np.ones((5, 2)), y[:5]).weights).all()  # of states that never change


def of_scores(distance: float) -> Trained:
    return Trained(3e-3, {}, [{"test": {"test": {"distance": distance}}}])


@pytest.mark.parametrize(
    ("shallow", "deeper", "fed", "outcomes"),
    [((0.9, 2), 5, 20, ["met"] * 3), ((0.09, 5), 5, 5, ["differs"] * 3), ((0.9, 5), 4, 20, ["met", "differs", "met"])],
)
def test_claims_are_judged(shallow, deeper, fed, outcomes):
    """Ten times, longer by one token with depth, and with feedback; of families that never forget alone."""
    found = {"gru": 0.01, "transformer-1": shallow[0], "transformer-2": 0.5, "transformer-2-block-4": 0.1}
    lengths = {"gru": 24, "transformer-1": shallow[1], "transformer-2": deeper, "transformer-2-block-4": fed}
    fits = {name: {"fitted": [length]} for name, length in lengths.items()}
    trained = {name: of_scores(distance) for name, distance in found.items()}
    numbers = depth.numbers_of("matrix-product", trained, fits)
    assert [number.outcome for number in numbers[:3]] == outcomes
    assert [(number.ours, number.expected) for number in numbers[3:]] == [
        (24, None),
        (shallow[1], 2),
        (deeper, 4),
        (fed, None),
    ]
    assert {number.outcome for number in depth.numbers_of("random", trained, fits)} == {"ours alone"}


def test_beliefs_are_judged_beside_their_controls():
    """A belief that is read, and shuffled ones that are not; either alone does not do."""
    row = {"model": "gru", "explained": [0.95, 0.99], "shuffled": [0.0, -0.01], "untrained": 0.7}
    outcome = lambda **other: [number.outcome for number in beliefs.numbers_of([row | other])]
    assert outcome() == ["met", "met", "ours alone"]
    assert outcome(explained=[0.99, 0.5]) == ["differs", "met", "ours alone"]
    assert outcome(shuffled=[0.0, 0.3]) == ["met", "differs", "ours alone"]


def test_a_cycle_is_an_automaton():
    """Its table leads where the observations do, and its states are the beliefs; what slips is none."""
    cycle = cyclic_det(5, 2, 0, jnp.float64)
    drawn, automaton = cycle.drawn(jr.key(0), 64), exact.automaton_of(cycle)
    assert (automaton.interpret(drawn.tokens) == drawn.beliefs).all()
    assert exact.automata_apart(cycle, "rnn", 64) < 1e-12
    for other in (cyclic_rnd(3, 2, 0, jnp.float64), random_hmm(3, 2, 0, jnp.float64)):
        with pytest.raises(InputError, match="does not say where each state goes"):
            exact.automaton_of(other)


@pytest.mark.slow
def test_filters_are_held(monkeypatch, tmp_path):
    """Every number of the result is met, at a length of 256."""
    monkeypatch.setattr(exact, "LENGTHS", {"quick": 256})
    record = reproduce(PAPERS["hmm"], "filters", "quick", Workshop(tmp_path))
    assert record["verdict"] == "ours alone" and {number["outcome"] for number in record["numbers"]} == {"met"}


@pytest.mark.slow
def test_results_are_made_of_trainings(monkeypatch, tmp_path):
    """Trainings of ten steps: every model has a row, a length and a picture; states are read of each."""
    grid = {"families": ("cyclic-det",), "models": ("gru", "transformer-1", "transformer-1-block-4")}
    shared = {"size": SMALL._replace(time=12), "seeds": 1, "rate": 3e-3}
    monkeypatch.setattr(depth, "GRIDS", {"quick": grid | shared})
    monkeypatch.setattr(beliefs, "GRIDS", {"quick": {"models": ("gru",)} | shared})
    workshop = Workshop(tmp_path, backend="here")
    record = reproduce(PAPERS["hmm"], "fit-length", "quick", workshop)
    assert not record["failed"] and [row["model"] for row in record["data"]["rows"]] == list(grid["models"])
    assert all(len(row["apart"]) == 12 and len(row["fitted"]) == 1 for row in record["data"]["rows"])
    assert len(figures_of(record)) == 1
    record = reproduce(PAPERS["hmm"], "beliefs", "quick", workshop)
    assert not record["failed"] and set(record["data"]["drawn"]) == {"gru", "exact"} and len(figures_of(record)) == 1
