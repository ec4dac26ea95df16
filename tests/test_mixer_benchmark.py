"""The arithmetic of the benchmark of mixers: who is ahead, by how much, and what is missed."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the benchmark's peers run on PyTorch")

from benchmarks import mixer_limits  # noqa: E402 - behind the skip
from benchmarks.mixer_peers import Comparison, Peer  # noqa: E402 - behind the skip
from benchmarks.mixers import Row, Side, difference, fastest, measured, peers_table, turns  # noqa: E402 - behind the skip


def row(peer: str, theirs: float, ahead: float, goal: float = 3) -> Row:
    return Row("gla", "recurrence", peer, theirs, 10.0, ahead, goal, 1e-7)


def test_the_faster_number_of_threads_counts():
    """Of one peer the row with the least time is kept, whatever its threads; other peers keep their own."""
    rows = [row("a, 1 thread", 30, 3), row("a, 2 threads", 20, 2), row("b, 1 thread", 5, 0.5), row("c", 7, 0.7)]
    assert [r.peer for r in fastest(rows)] == ["a, 2 threads", "b, 1 thread", "c"]


def test_a_goal_is_met_or_said_to_be_missed():
    """Ahead by the goal itself is met; less is missed, in bold."""
    lines = peers_table([row("a", 30, 3.0), row("b", 29, 2.9)]).splitlines()
    assert "| 3.00 | 3 | met |" in lines[2] and "| 2.90 | 3 | **missed** |" in lines[3]


def test_growth_is_the_longest_against_the_shortest():
    """Cost per token at the longest length over that at the shortest, whatever lies between."""
    assert mixer_limits.growth({1024: 2.0, 65536: 2.6, 4096: 9.0}) == pytest.approx(1.3)


def test_difference_is_the_worst_of_output_and_gradients():
    """The relative error of y, or of the gradient that is farthest off."""
    y, gradients = np.array([3.0, 4.0]), {"x": np.array([1.0]), "w": np.array([2.0])}
    assert difference(y, y) == 0
    assert difference(y + np.array([0.0, 0.5]), y) == pytest.approx(0.1)
    assert difference((y, gradients | {"w": np.array([3.0])}), (y, gradients)) == pytest.approx(0.5)


def test_a_slow_side_is_run_once():
    """A side past its budget is not run again; the others run in every round."""
    count = {"ours": 0, "slow": 0}

    def side(name):
        def run():
            count[name] += 1
            return name

        return run

    found, seconds = turns({name: Side(side(name), str) for name in count}, rounds=4, budget=0.0)
    assert found == {"ours": "ours", "slow": "slow"}
    assert count["slow"] == 1 and count["ours"] > 2 and len(seconds["slow"]) == len(seconds["ours"])


def test_a_comparison_measures_both_and_says_what_is_absent():
    """y and gradients of a peer in PyTorch are those of ours, and a peer that is not there becomes a line."""

    def absent():
        raise ImportError

    arrays = {"x": np.ones((16, 2), np.float32), "w": np.full((2,), 3, np.float32)}
    square = lambda a: a["x"] * a["w"][None] * a["x"]
    peers = (
        Peer("same", lambda: square, "how"),
        Peer("loop", lambda: square, "how", loop=True),
        Peer("none", absent, "buy"),
    )
    rows, lines = measured(Comparison("toy", "square", arrays, square, peers), rounds=1, budget=1.0)
    assert lines == ["| toy | none | buy |"]
    assert len(rows["forward"]) == len(rows["with gradient"]) == 2
    assert all(r.error < 1e-6 for found in rows.values() for r in found)
    assert "an eighth" in rows["with gradient"][1].what
