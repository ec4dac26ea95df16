"""The verdict: yes where attention is implemented, no where it is not, with the numbers for both."""

import json
from dataclasses import replace

import jax.random as jr
import numpy as np
import pytest

from dualform.discover import Limits, discover
from dualform.discover.discovery import judge
from dualform.errors import InputError
from dualform.mixers import GatedRNN
from dualform.training.second_order import network, weights_of
from tests.discover.students import constructed, disguised, noisy, sequences, teacher


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


def test_a_noisy_student_is_identified_and_its_noise_reported():
    """Small noise is fine-tuned away, and `moved` says by how much the function went."""
    attention, rnn = constructed()
    found = discover(noisy(rnn, 1e-4), attention, sequences())
    assert found.verdict == "identified", found.reasons
    assert found.reduced.relative_loss < 1e-12 < found.given.relative_loss
    assert found.moved == pytest.approx(found.given.relative_loss, rel=0.2)


def test_an_untrained_student_is_not_identified():
    """Random weights get a verdict of no, with the loss as the reason, and are not trained into a yes."""
    found = discover(GatedRNN.make(3, key=jr.key(5), n=12, m=12), teacher(), sequences())
    assert found.verdict == "not identified"
    assert "outputs are not the teacher's" in found.reasons[0]


def test_another_attention_is_not_identified():
    """A student of one teacher is not taken for a student of another."""
    _, rnn = constructed(seed=0)
    assert discover(rnn, teacher(seed=9), sequences()).verdict == "not identified"


def test_function_without_the_means_is_function_only():
    """The right outputs by units that neither keep nor forget: on sequences of one token decays play no part."""
    attention, rnn = constructed()
    weights = weights_of(rnn)
    scattered = network(weights._replace(decay=np.linspace(0.3, 0.7, len(weights.decay))))
    found = discover(scattered, attention, sequences(time=1))
    assert found.verdict == "function only"
    assert any("between 0.01 and 0.99" in reason for reason in found.reasons)


def test_judge_names_every_failing():
    """Each number above its limit is a reason of its own."""
    attention, rnn = constructed()
    good = discover(rnn, attention, sequences()).reduced
    bad = replace(good, other_units=2, kv_score=0.5, q_score=0.5, polynomial_distance=0.5)
    verdict, reasons = judge(good, bad, 0.5, 0.5, Limits())
    assert verdict == "function only" and len(reasons) == 6


def test_every_stage_says_what_it_threw_away():
    """The stages are recorded in order; what they throw away is about nothing for a construction."""
    attention, rnn = constructed(form="full")
    seen = []
    found = discover(disguised(rnn), attention, sequences(), on_stage=seen.append)
    assert [stage.name for stage in seen] == ["prune", "set decays", "merge", "reduce", "fine-tune"]
    assert tuple(seen) == found.stages
    assert all(stage.thrown_away < 1e-14 for stage in seen)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (np.ones((4, 3)), "must be .sequence, time, d."),
        (np.ones((2, 4, 5)), "inputs have width 5"),
        (np.full((2, 4, 3), np.nan), "NaN or infinity"),
    ],
)
def test_bad_inputs(inputs, message):
    """Inputs that cannot be used are refused with a sentence."""
    attention, rnn = constructed()
    with pytest.raises(InputError, match=message):
        discover(rnn, attention, inputs)


def test_dead_network_gets_a_verdict():
    """A student that gives zero is not identified; nothing divides by its power."""
    attention, rnn = constructed()
    weights = weights_of(rnn)
    found = discover(network(weights._replace(readout=0 * weights.readout)), attention, sequences())
    assert found.verdict == "not identified"
