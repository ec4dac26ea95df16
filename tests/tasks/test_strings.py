"""Strings with an answer behind each: every target is what a plain reading of the string says."""

import functools
import re

import jax
import jax.random as jr
import numpy as np
import pytest

from dualform import tasks
from dualform.errors import InputError
from dualform.tasks import DrawnTask, Strings

NAMES = sorted(name for name, kind in tasks.known().items() if issubclass(kind, Strings))


def stack_left(string):
    stack = []
    for token in string:
        if token == 2:
            stack = stack[:-1]
        else:
            stack.append(token % 3)  # 0, 1 and, pushed, 3, 4
    return [*reversed(stack), 2]


def missing(string):
    half, gap = len(string) // 2, string.index(2)
    return [string[(gap + half) % (2 * half)]]


def evaluated(string, characters):
    """Python's own reading of the expression."""
    text = "".join(characters[token] for token in string)
    assert re.fullmatch(r"[0-4+*()-]+", text)
    return [eval(text) % 5]


ANSWERS = {
    "bucket-sort": sorted,
    "cycle-navigation": lambda string: [sum(token - 1 for token in string) % 5],
    "even-pairs": lambda string: [sum(a != b for a, b in zip(string, string[1:], strict=False)) % 2],
    "majority": lambda string: [int(string.count(1) > string.count(0))],
    "missing-duplicate": missing,
    "modular-arithmetic": lambda string: evaluated(string, "01234+-*"),
    "modular-arithmetic-brackets": lambda string: evaluated(string, "01234+-()"),
    "parity": lambda string: [string.count(1) % 2],
    "reverse-string": lambda string: string[::-1],
    "stack-manipulation": stack_left,
}


@functools.cache
def drawn(name: str, time: int = 12, batch: int = 256) -> tuple[Strings, list[list[int]], list[list[int]]]:
    """The task, tokens and targets of a batch."""
    task = tasks.named(name).open(time=time, batch=batch)
    assert isinstance(task, Strings)
    x, y = jax.jit(task.sample)(jr.key(0))
    return task, np.asarray(x).tolist(), np.asarray(y).tolist()


def check(task: Strings, tokens: list[int], targets: list[int], name: str) -> int:
    """Hold one sequence to the reading of its string, and return how long that is."""
    n = tokens.index(task.alphabet)
    string, answer = tokens[:n], ANSWERS[name](tokens[:n])
    assert all(0 <= token < task.alphabet for token in string)
    assert set(tokens[n:]) == {task.alphabet}  # blanks to the end
    assert targets == [-1] * n + answer + [-1] * (len(tokens) - n - len(answer))
    assert all(0 <= each < task.classes for each in answer)
    return n


@pytest.mark.parametrize("name", NAMES)
def test_answers(name):
    """Of every sequence of a batch; strings are of all lengths, or of all odd ones, as often as they should be."""
    task, x, y = drawn(name)
    lengths = [check(task, tokens, targets, name) for tokens, targets in zip(x, y, strict=True)]
    possible = range(1, 12, 2) if task.odd else range(task.shortest, 13)
    assert set(lengths) == set(possible)
    assert task.vocabulary == max(task.alphabet + 1, task.classes) and max(map(max, x)) == task.alphabet
    assert max(map(max, y)) < task.vocabulary  # an answer is a token that a model can give


def test_every_string_task_is_read():
    """There is a reading of each that is registered."""
    assert sorted(ANSWERS) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_chance(name):
    """No answer of one token is right more often than chance by more than what five standard deviations allow."""
    task, _, y = drawn(name)
    answers = [
        token for targets in y for token in targets if token >= 0 and not (name == "stack-manipulation" and token == 2)
    ]
    counts = np.bincount(answers, minlength=task.classes) / len(answers)
    extra = 1 / 12 / 2 if name == "even-pairs" else 0  # of one symbol alone the ends do not differ
    assert counts.max() < task.chance + extra + 5 * np.sqrt(task.chance / len(y))


QUICK = ("modular-arithmetic", "stack-manipulation")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in NAMES]
)
def test_a_further_length_is_of_that_length_alone(name):
    """Every string of the test has it, an odd one where only these are read."""
    task = tasks.named(name).open(time=6, batch=8, held=8, lengths=(20,))
    assert isinstance(task, Strings)
    [(x, y)] = task.held_out("length 20")
    lengths = {check(task, *both, name) for both in zip(np.asarray(x).tolist(), np.asarray(y).tolist(), strict=True)}
    assert lengths == {19 if task.odd else 20}


def test_shortest():
    """It is within what the task can read, and what it says."""
    with pytest.raises(InputError, match="shortest is 1; it must be from 2 to the longest, 40"):
        tasks.MissingDuplicate(shortest=1)
    with pytest.raises(InputError, match="shortest is 41; it must be from 1 to the longest, 40"):
        tasks.Parity(shortest=41)
    assert isinstance(tasks.Parity(shortest=40), DrawnTask)
