"""What small models remember: what is asked, what is said of it, and a training that is too short."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from dualform.experiments.memory import Row, Score
from dualform.experiments.tova import small_memory
from dualform.experiments.tova.small_memory import ATTENTION, by_turns, fresh, job, sample, tasks_of
from dualform.tasks.memory import TokenMemory

SMALL = {"items": {"kv": 3, "needle": 2}, "turns": 2, "length": 8, "d": 4, "layers": 1, "steps": 2, "batch": 2}
SMALL |= {"count": 3, "states": (5,), "policies": ("full", "tova"), "seed": 0}


def test_every_task_has_its_share():
    """A batch holds as many sequences of each task, and is filled up with what is not asked about."""
    tasks = tasks_of({"kv": 3, "variable-tracking": 2}, 8, 2, 5)
    tokens, targets = sample(jr.key(0), tasks)
    longest = max(task.time for task in tasks.values())
    assert tokens.shape == targets.shape == (10, longest)
    assert ((np.asarray(targets) >= 0).sum(1) == 2).all()


@pytest.mark.slow
def test_each_answer_is_held_to_its_target():
    """An answer is right where the likeliest token is the target; every example has each of its turns once."""
    task = TokenMemory("kv", items=3, turns=2, length=6, names=6, batch=3)
    model = fresh(ATTENTION, task.vocabulary, task.time, 4, 1, jr.key(0))
    found = small_memory.asked(model, task, 3, jr.key(7))
    tokens, targets = task.sample(jr.fold_in(jr.key(7), 0))
    right = (
        np.asarray(by_turns(model, tokens))[np.asarray(targets) >= 0] == np.asarray(targets)[np.asarray(targets) >= 0]
    )
    assert [(each.example, each.turn) for each in found] == [(i, turn) for i in range(3) for turn in range(2)]
    assert [bool(each.score) for each in found] == right.tolist()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "rows"), [(ATTENTION, 4), ("gla", 2)])
def test_a_model_has_a_row_for_each_task_and_policy(tmp_path, name, rows):
    """Of attention there is one for each policy, of a recurrent model one; a row goes through JSON and comes back."""
    with jax.enable_x64(False):
        found = job({"model": name, **SMALL}, tmp_path)
    read = [small_memory._row(each) for each in found["rows"]]
    assert len(read) == rows and {row.task for row in read} == {"kv", "needle"}
    assert all(isinstance(score, Score) for row in read for score in row.turns)
    assert jnp.isfinite(found["train_loss"])


def test_attention_has_to_have_learned_the_task():
    """A policy cannot lose what the whole model never had: then the result differs."""
    row = lambda value, name: Row("kv", "right", name, None, (Score.of([value] * 4),) * 2)
    outcomes = [
        small_memory._number(row(*each)).outcome
        for each in ((1.0, "attention, full"), (0.0, "attention, full"), (0.0, "gla"))
    ]
    assert outcomes == ["met", "differs", "ours alone"]


def test_what_the_page_says_of_policies_and_recurrent_models():
    """docs/memory.md: at each task and size TOVA by head loses most and SnapKV least; no recurrent model had learned a task."""
    record = json.loads((Path(__file__).parents[3] / "docs/reproductions/tova/small-memory.json").read_text())
    rows = [small_memory._row(row) for row in record["data"]["rows"]]
    bounded = [row for row in rows if row.states is not None]
    pairs = {(row.task, row.states) for row in bounded}
    assert record["preset"] == "full" and len(pairs) == 4
    for pair in pairs:
        mean = {row.name: row.mean for row in bounded if (row.task, row.states) == pair}
        assert min(mean, key=mean.__getitem__) == "attention, tova-head"
        assert max(mean, key=mean.__getitem__) == "attention, snapkv"
    recurrent = [row.mean for row in rows if not row.name.startswith("attention")]
    assert len(recurrent) == 6 and max(recurrent) < small_memory.LEARNED
