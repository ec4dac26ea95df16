"""The repeat task and its experiment: what is asked, what mends a state, what decides, and a run from end to end."""

import dataclasses
import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from dualform.experiments.onion import interventions, measuring, probes, storing
from dualform.experiments.onion.measuring import PLANTED, job, repeats
from dualform.experiments.onion.network import all_right, drawn, held_out, network, remembered, said
from dualform.experiments.onion.slots import Slots
from dualform.lenses import Onion, trace
from dualform.tasks import Repeat

TASK = Repeat(time=4, symbols=5, batch=64, held=128)
STEPS = {"network": 4, "linear": 4, "layers": 4, "probe": 4, "onion probe": 4}


@functools.cache
def small():
    """An untrained network."""
    with jax.enable_x64(False):
        return network("gru", 6, TASK, key=jr.key(0))


def test_a_sequence_and_its_halves():
    """Symbols, the cue, and the symbols again, each to be said one token before it is read; no length but those."""
    x, y = TASK.sample(jr.key(0))
    for row, targets in zip(np.asarray(x), np.asarray(y), strict=True):
        length = int((targets >= 0).sum())
        symbols = row[:length]
        assert 2 <= length <= 4 and row[length] == 6 and (targets[length : 2 * length] == symbols).all()
        assert (row[length + 1 : 2 * length] == symbols[:-1]).all() and not row[2 * length :].any()
        assert ((symbols >= 1) & (symbols <= 5)).all()
    batch = drawn(TASK, jr.key(0))
    assert (np.asarray(batch.inputs)[:, 0] == 6).all() and (np.asarray(batch.targets).max(1) >= 1).all()
    alone, asked = dataclasses.replace(TASK, autonomous=True).sample(jr.key(0))
    assert (np.asarray(alone)[np.asarray(asked) >= 0] == 6).all()


def test_a_state_is_all_that_is_remembered():
    """Said from the state after the symbols is what the model's own call gives behind them."""
    x, y = (row[0] for row in TASK.sample(jr.key(1)))
    length = int(np.sum(np.asarray(y) >= 0))
    h = remembered(small(), x[:4], jnp.asarray(length))
    whole = small()(x)[0]
    np.testing.assert_allclose(said(small(), h, x[length:])[:length], whole[length : 2 * length], atol=1e-5)


def test_all_right_does_not_depend_on_who_is_read():
    """Whether a network says a whole sequence right is the same where it reads what it says and where it reads what it should."""
    model, step = small(), eqx.filter_jit(lambda model, token, state: model.step(token, state))
    batch = drawn(TASK, jr.key(2))
    for i in range(12):
        symbols, length, inputs, targets = (each[i] for each in batch)
        h = remembered(model, symbols, length)
        token, state, free = int(inputs[0]), (h,), True
        for wanted in np.asarray(targets)[: int(length)]:
            logits, state = step(model, token, state)
            token = int(jnp.argmax(logits))
            free &= token == wanted
        assert bool(all_right(said(model, h, inputs), targets)) == free


def test_mended_states_are_what_a_trace_with_an_edit_gives():
    """The batched interventions do to the network what an edit of its state does."""
    model, x = small(), TASK.sample(jr.key(3))[0][0]
    length = int(jnp.argmax(x == 6))
    onion = Onion.make(TASK.vocabulary, 6, key=jr.key(4), dtype=jnp.float32)
    h = remembered(model, x[:4], jnp.asarray(length))
    mended = onion.exchanged(h, 0, int(x[0]), 1)
    edited = trace(model, x, {f"block 1.state@{length - 1}": lambda _: mended}, record=()).y
    np.testing.assert_allclose(said(model, mended, x[length:]), edited[length:], atol=1e-5)


@pytest.mark.parametrize("kind", interventions.KINDS)
def test_cases_are_to_be_mended(kind):
    """What was read differs from what is to be said where the intervention is told to act, and only there."""
    batch = held_out(dataclasses.replace(TASK, shortest=4), "test")
    found = interventions.cases(kind, small(), TASK, batch, key=jr.key(5))
    assert (np.asarray(found.targets) == np.asarray(batch.targets)).all()
    symbols, place = np.asarray(batch.symbols), np.asarray(found.place)
    rows = np.arange(len(place))
    assert (symbols[rows, place] == np.asarray(found.new)).all() and (place < 4).all() and len(set(place)) == 4
    true = jax.vmap(lambda s, n: remembered(small(), s, n))(batch.symbols, batch.length)
    wrong = np.abs(np.asarray(found.h - true)).max(1) > 1e-6
    if kind == "unigram":
        assert found.moved.shape == (len(place), 4) and 0.4 < np.mean(np.asarray(found.moved)) < 0.6
    else:
        assert (wrong == (np.asarray(found.old) != np.asarray(found.new))).all()
    if kind == "bigram":
        moved = np.asarray(found.moved)
        assert ((moved.sum(1) == 2) | (place == 0) | (place == 3)).all() and moved.shape[1] == 3


def test_a_linear_memory_repeats_and_is_mended_exactly():
    """The constructed network says all; each place's own directions, exchanged, mend every state."""
    task = dataclasses.replace(TASK, shortest=4)
    with jax.enable_x64(False):
        model = Slots.make(14, task, key=jr.key(0))
        batch = held_out(task, "test")
        assert float(repeats(model, batch)) == 1.0
        bits = model.codes.shape[1]
        owner = jnp.minimum(jnp.arange(14) // bits, 4)
        exact = interventions.Subspaces(model.basis, jax.nn.one_hot(owner, 5))
        cases = interventions.measured("unigram", model, task, batch, key=jr.key(1))
        assert float(interventions.success(exact, model, cases)) == 1.0
        assert float(interventions.success(None, model, cases)) < 0.4


def _row(**other: float) -> dict:
    good = {"network": 0.98, "unigram": 0.01, "bigram": 0.02, "onion": 0.9, "linear probe": 0.01, "onion probe": 0.95}
    return {**good, **other}


def test_what_decides():
    """Each bar has something that it refuses; what is constructed must be found; a wide network must be linear."""
    outcomes = lambda rows, planted=(): {n.name: n.outcome for n in storing._numbers(rows, planted)}
    good = outcomes({48: [_row(), _row()]})
    assert set(good.values()) == {"met", "ours alone"} and len([each for each in good.values() if each == "met"]) == 5
    for name, bad in (
        ("unigram", 0.06),
        ("bigram", 0.06),
        ("onion", 0.82),
        ("linear probe", 0.06),
        ("onion probe", 0.9),
    ):
        assert outcomes({64: [_row(**{name: bad})]})[f"N = 64: {storing.WORDS[name]}"] == "differs", name
    wide = outcomes({512: [_row(unigram=0.2, bigram=0.7)], 1024: [_row(unigram=0.3)]})
    assert [wide[f"N = {n}: linear {kind} intervention"] for n, kind in ((512, "bigram"), (1024, "unigram"))] == [
        "met",
        "differs",
    ]
    found = outcomes({48: [_row()]}, [{"unigram": 0.5, "unigram closed form": 0.4}])
    assert list(found.values()).count("differs") == 1


@pytest.mark.slow
def test_a_job_from_end_to_end(tmp_path, monkeypatch):
    """All that is trained of a small network, and the same numbers to the bit where it is stopped and goes on."""
    told = {"network": "gru", "width": 12, "seed": 0, "more": True, "batch": 16, "rows": 16, "pool": 64, "steps": STEPS}
    monkeypatch.setattr(measuring, "HELD", 64)
    monkeypatch.setattr(measuring, "POOL", 64)
    monkeypatch.setattr(measuring, "SEEN", 256)
    with jax.enable_x64(False):
        whole = job(told, tmp_path / "whole")
        wanted = {"network", "nothing", "untrained", *interventions.KINDS, *(f"{kind} probe" for kind in probes.KINDS)}
        assert wanted <= set(whole) and all(0 <= whole[name] <= 1 for name in wanted)
        fit = measuring.fit

        def stopped(*given, stage, **rest):
            if stage == "onion":
                raise KeyboardInterrupt
            return fit(*given, stage=stage, **rest)

        monkeypatch.setattr(measuring, "fit", stopped)
        with pytest.raises(KeyboardInterrupt):
            job(told, tmp_path / "stopped")
        monkeypatch.setattr(measuring, "fit", fit)
        assert job(told, tmp_path / "stopped") == whole
        planted = job({**told, "network": PLANTED, "width": 48}, tmp_path / "planted")
        assert set(planted) == {"unigram", "unigram closed form", "unigram nothing"}
