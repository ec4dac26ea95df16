"""The verdict: yes where attention is implemented, no where it is not, with the numbers for both."""

import json
from dataclasses import replace

import jax.random as jr
import numpy as np
import pytest

from dualform.discover import Limits, discover, discovery, verdict
from dualform.discover.lags import LengthError
from dualform.discover.verdict import Moved, _judge
from dualform.errors import InputError
from dualform.mixers import GatedRNN
from dualform.training.second_order import network, weights_of
from tests.discover.students import constructed, disguised, sequences, teacher


def test_a_disguised_construction_is_identified():
    """A construction with copies, mixed and permuted, is identified and reduced to the compact counts."""
    attention, rnn = constructed(form="full")
    found = discover(disguised(rnn), attention, sequences())
    assert found.verdict == "identified", found.reasons
    numbers = found.result()
    assert (numbers["memory_units"], numbers["forget_units"], numbers["other_units"]) == (6, 3, 0)
    assert numbers["readout_units"] == 6
    assert max(numbers["relative_loss"], numbers["kv_score"], numbers["q_score"]) < 1e-18
    assert numbers["polynomial_distance"] < 1e-8 and numbers["recovered_error"] < 1e-6
    json.dumps(numbers)


def test_what_the_result_says():
    """Both networks have their own verdict and numbers; the reduced network's stand at the top, beside the headline."""
    attention, rnn = constructed()
    numbers = discover(rnn, attention, sequences(), horizon=64).result()
    for name in ("given", "reduced"):
        assert numbers[name]["verdict"] == "identified" and numbers[name]["holds_for"] == 64 == numbers[name]["horizon"]
        assert numbers[name]["function_error"] < 1e-12 and numbers[name]["horizon_error"] < 1e-12
    assert numbers["polynomial_distance"] == numbers["reduced"]["polynomial_distance"]
    assert max(numbers["moved"], numbers["moved_at_horizon"]) < 1e-24


def test_an_untrained_student_is_not_identified():
    """Random weights get a verdict of no, with the loss as the reason, and are not trained into a yes."""
    found = discover(GatedRNN.make(3, key=jr.key(5), n=12, m=12), teacher(), sequences())
    assert found.verdict == "not identified"
    assert "outputs are not the teacher's" in found.reasons[0]


def test_another_attention_is_not_identified():
    """A student of one teacher is not taken for a student of another."""
    _, rnn = constructed(seed=0)
    assert discover(rnn, teacher(seed=9), sequences()).verdict == "not identified"


def test_every_failing_is_a_reason():
    """Each number above its limit is a reason of its own."""
    attention, rnn = constructed()
    found = discover(rnn, attention, sequences(), horizon=64).reduced
    bad = replace(found.evidence, kv_score=0.5, q_score=0.5, polynomial_distance=0.5)
    lengths = (LengthError(64, 0.5),)
    said, reasons = _judge(bad, lengths, 0, found.recovered, 0.5, 0.5, Limits(), Moved(0.5, 0.5, 0.5))
    assert said == "function only" and len(reasons) == 6


def test_every_stage_says_what_it_threw_away():
    """The stages are recorded in order; what they throw away is about nothing for a construction."""
    attention, rnn = constructed(form="full")
    seen = []
    found = discover(disguised(rnn), attention, sequences(), horizon=64, on_stage=seen.append)
    assert [stage.name for stage in seen] == ["merge", "prune between", "prune", "set decays", "reduce"]
    assert tuple(seen) == found.stages
    assert all(max(stage.thrown_away, stage.at_horizon) < 1e-14 for stage in seen)


def test_reduction_does_not_see_the_teacher(monkeypatch):
    """Nothing on the way from the network to its reduction fits anything to the teacher's outputs."""
    attention, rnn = constructed()
    refuse = lambda *_, **__: pytest.fail("a reduction has been fitted to data")
    monkeypatch.setattr("dualform.training.second_order.levenberg_marquardt", refuse)
    monkeypatch.setattr("dualform.training.fitting", refuse)
    assert discover(rnn, attention, sequences(), horizon=64).reduced.verdict == "identified"


def test_ablations_and_evidence_are_made_on_different_sequences(monkeypatch):
    """Without `test` the first half of the inputs is for ablations, the second for the evidence; with it, all and it."""
    attention, rnn = constructed()
    x, seen = sequences(count=32), {}
    pruned, measured = discovery.prune, verdict.measure
    monkeypatch.setattr(discovery, "prune", lambda rnn, x, share: seen.update(ablated=x) or pruned(rnn, x, share))
    monkeypatch.setattr(verdict, "measure", lambda rnn, a, x: seen.update(measured=x) or measured(rnn, a, x))
    discover(rnn, attention, x, horizon=32)
    assert np.array_equal(seen["ablated"], x[:16]) and np.array_equal(seen["measured"], x[16:])
    discover(rnn, attention, x, test=x[:4], horizon=32)
    assert np.array_equal(seen["ablated"], x) and np.array_equal(seen["measured"], x[:4])


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (np.ones((4, 3)), "must be .sequence, time, d."),
        (np.ones((2, 4, 5)), "inputs have width 5"),
        (np.full((2, 4, 3), np.nan), "NaN or infinity"),
        (np.ones((0, 4, 3)), "none of them 0"),
    ],
)
def test_bad_inputs(inputs, message):
    """Inputs that cannot be used are refused with a sentence."""
    attention, rnn = constructed()
    with pytest.raises(InputError, match=message):
        discover(rnn, attention, inputs)


def test_a_horizon_of_one_token_is_refused():
    """Within one token nothing is remembered."""
    attention, rnn = constructed()
    with pytest.raises(InputError, match="horizon is 1; with fewer than 2 tokens"):
        discover(rnn, attention, sequences(), horizon=1)


def test_dead_network_gets_a_verdict():
    """A student that gives zero is not identified; nothing divides by its power."""
    attention, rnn = constructed()
    weights = weights_of(rnn)
    found = discover(network(weights._replace(readout=0 * weights.readout)), attention, sequences())
    assert found.verdict == "not identified"
