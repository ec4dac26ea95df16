"""What the benchmarks' reports say of their goals: a goal that is not met says so."""

from benchmarks.alternate import against, verdict
from benchmarks.planted_faults import ROOT, faults


def test_a_goal_that_is_not_met_is_missed():
    """The word behind a goal."""
    assert verdict(True) == "met" and verdict(False) == "**missed**"


def test_each_kind_of_peer_has_its_goal():
    """Of each kind of peer the fastest is named, with the goal, met or missed."""
    said = against({"eager": (2.76, "PyTorch eager"), "compiled": (1.72, "PyTorch compiled")}, 2.5)
    assert "2.76 times faster than PyTorch eager (the fastest eager; goal 2.5: met)" in said
    assert "1.72 times faster than PyTorch compiled (the fastest compiled; goal 2.5: **missed**)" in said


def test_every_planted_fault_can_be_planted():
    """Its text stands once in its file, what is put there differs, and the tests that should see it are there."""
    found = faults()
    assert len({fault.name for fault in found}) == len(found) >= 40
    assert all(fault.old != fault.new for fault in found)
    assert [test for fault in found for test in fault.tests.split() if not (ROOT / test.split("::")[0]).exists()] == []
