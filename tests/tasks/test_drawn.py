"""Tasks that are drawn: every target is what a plain reading of the input says."""

import itertools

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from dualform import tasks
from dualform.errors import InputError
from dualform.tasks import scores
from dualform.tasks.multi_query_recall import distinct
from dualform.tasks.state_tracking import GROUPS, members, products


def rows(task, seed: int = 0) -> list[tuple[list[int], list[int]]]:
    """Tokens and targets of each sequence of a batch."""
    x, y = jax.jit(task.sample)(jr.key(seed))
    return list(zip(np.asarray(x).tolist(), np.asarray(y).tolist(), strict=True))


@pytest.mark.parametrize("blanks", [False, True])
def test_copy(blanks):
    """Symbols, blanks, a cue, and the symbols as targets; the blanks before them too where they are asked for."""
    task = tasks.Copy(time=5, tokens=3, symbols=4, blanks=blanks)
    for x, y in rows(task):
        assert all(1 <= symbol <= 4 for symbol in x[:3]) and x[3:] == [0] * 4 + [5] + [0] * 3
        assert y == [0 if blanks else -1] * 8 + x[:3]
    assert task.vocabulary == 6


def test_induction():
    """The target is what stands behind the first mark; the mark stands twice, the second time at the end."""
    task, places = tasks.Induction(time=10, symbols=5, batch=256), set()
    for x, y in rows(task):
        first, last = (i for i, token in enumerate(x) if token == 5)
        assert last == 9 and y == [-1] * 9 + [x[first + 1]] and x[first + 1] < 5
        places.add(first)
    assert places == set(range(8)) and task.vocabulary == 6
    assert [x.shape for x, _ in tasks.Induction(time=8, lengths=(16,), held=64).held_out("length 16")] == [(64, 16)]


@pytest.mark.parametrize("filled", [False, True])
def test_multi_query_recall(filled):
    """Each key comes once behind the pairs, at an even place, and its target there is the value that it was shown with."""
    task = tasks.MultiQueryRecall(time=24, pairs=4, size=20, filled=filled)
    noise = []
    for x, y in rows(task):
        keys, values = x[:8:2], x[1:8:2]
        assert len(set(keys)) == len(set(values)) == 4
        assert all(1 <= key < 10 for key in keys) and all(10 <= value < 20 for value in values)
        asked = [i for i, target in enumerate(y) if target >= 0]
        assert all(i >= 8 and i % 2 == 0 for i in asked) and sorted(x[i] for i in asked) == sorted(keys)
        assert all(y[i] == values[keys.index(x[i])] for i in asked)
        noise += [token for i, token in enumerate(x) if i >= 8 and i not in asked]
    assert (set(noise) == set(range(20))) if filled else (set(noise) == {0})
    assert task.vocabulary == 20


def test_gaps_are_of_the_power_law():
    """Two queries take their places as zoology draws them: in turn, without replacement, with odds (i + 1)^(power - 1)."""
    task = tasks.MultiQueryRecall(time=12, pairs=2, size=64, batch=20000)
    odds = np.arange(1, 5) ** (0.01 - 1)
    p = odds / odds.sum()
    x, y = (np.asarray(a) for a in jax.vmap(task.sequence)(jr.split(jr.key(3), 20000)))
    places = [np.argmax((x[:, 4:] == x[:, [2 * i]]) & (y[:, 4:] >= 0), axis=1) // 2 for i in (0, 1)]
    for a, b in itertools.permutations(range(4), 2):
        wanted = p[a] * p[b] / (1 - p[a])
        found = np.mean((places[0] == a) & (places[1] == b))
        assert abs(found - wanted) < 5 * np.sqrt(wanted / 20000), (a, b)


def test_distinct_numbers_are_uniform():
    """Every ordered choice of 3 of 4 is as likely as any other."""
    drawn = np.asarray(jax.vmap(lambda key: distinct(key, 3, 4))(jr.split(jr.key(0), 24000)))
    choices, counts = np.unique(drawn, axis=0, return_counts=True)
    assert sorted(map(tuple, choices.tolist())) == sorted(itertools.permutations(range(4), 3))
    assert abs(counts - 1000).max() < 5 * np.sqrt(1000)


@pytest.mark.parametrize(
    ("group", "order"), [("s3", 6), ("s4", 24), ("a4", 12), ("a5", 60), ("a4xz5", 60), ("z60", 60), ("s5", 120)]
)
def test_groups(group, order):
    """As many elements as the order, number 0 the identity, each row and column of products all elements; and associative."""
    table, elements = products(group), members(group)
    assert len(set(elements)) == order and elements[0] == tuple(range(len(elements[0])))
    numbers = np.arange(order)
    assert (table[0] == numbers).all() and (table[:, 0] == numbers).all()
    assert (np.sort(table, axis=0) == numbers[:, None]).all() and (np.sort(table, axis=1) == numbers).all()
    assert (table[table[:, 1]][:, 2] == table[:, table[1, 2]]).all()
    assert (table == table.T).all() == (group == "z60")


@pytest.mark.parametrize("elements", ["all", "swaps"])
def test_state_tracking(elements):
    """Each target is the permutation that those read so far give, one after the other."""
    task = tasks.StateTracking(time=9, group="s4", elements=elements, batch=64)
    group, seen = members("s4"), set()
    for x, y in rows(task):
        state = (0, 1, 2, 3)
        for token, target in zip(x, y, strict=True):
            state = tuple(group[token][i] for i in state)
            assert group[target] == state
        seen |= set(x)
    assert len(seen) == (24 if elements == "all" else 6) and task.vocabulary == 24
    assert task.chance == (1 / 24 if elements == "all" else 1 / 12)
    assert set(GROUPS) == {"z2", "z5", "z60", "s3", "s4", "s5", "a4", "a5", "a4xz5"}


def test_regression_in_context():
    """The pairs are of one linear map, which the target is of too; and one step of descent has the loss that is known."""
    task = tasks.RegressionInContext(batch=4096)
    x, y = jax.jit(task.sample)(jr.key(0))
    assert x.shape == (4096, 13, 6) and (task.d_in, task.d_out) == (6, 3) and (x[:, -1, 3:] == 0).all()
    w = np.linalg.lstsq(np.asarray(x[0, :-1, :3]), np.asarray(x[0, :-1, 3:]), rcond=None)[0]
    assert np.abs(np.asarray(x[0, -1, :3]) @ w - y[0]).max() < 1e-12
    step = tasks.gradient_descent(x, task.sampler.optimal_rate(), d_x=3)
    loss = float(scores.of_numbers(step, y)["loss"].mean) / 2  # the paper's is half of it
    assert loss == pytest.approx(task.sampler.one_step_loss(), rel=0.1)
    assert jnp.issubdtype(y.dtype, jnp.floating)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: tasks.Copy(symbols=1), "symbols is 1; there must be at least 2"),
        (lambda: tasks.Copy(tokens=0), "tokens is 0; there must be at least 1 to copy"),
        (lambda: tasks.Induction(time=2), "time is 2; it must be at least 3"),
        (lambda: tasks.Induction(symbols=1), "symbols is 1; there must be at least 2"),
        (lambda: tasks.MultiQueryRecall(pairs=0), "pairs is 0; it must be at least 1"),
        (lambda: tasks.MultiQueryRecall(time=63), "time is 63; it must be even"),
        (lambda: tasks.MultiQueryRecall(time=14), "time is 14; 4 pairs and their queries need 16"),
        (lambda: tasks.MultiQueryRecall(size=9), "size is 9; 4 pairs need a vocabulary of 10 at the least"),
        (lambda: tasks.StateTracking(group="s6"), "there is no group 's6'; there are z2, z5, z60, s3"),
        (lambda: tasks.StateTracking(elements="some"), "elements is 'some'; it must be 'all' of the group, or 'swaps'"),
        (lambda: tasks.StateTracking(group="a5", elements="swaps"), "no element of a5 exchanges two things"),
        (lambda: tasks.RegressionInContext(noise=-1.0), "noise is -1.0; a standard deviation cannot be negative"),
    ],
)
def test_bad_settings(make, said):
    """Which one, its value, and what is allowed."""
    with pytest.raises(InputError, match=said):
        make()
