"""Values and gradients as users run them: float32 and bfloat16, XLA's optimiser on, 64 bits off, in a process of its own.

The law is `measure.measure`: finite, within rounding of float64 on naive recurrences, and independent of the rest of a batch.
The recurrences that divide or halve are held to it at the length at which they begin to.
"""

import pytest

from dualform.mixers import registry
from tests.precision.measured import wrong_in
from tests.precision.models import families
from tests.recurrences.every import RECURRENCES, specification

FAST = ("outer head chunked", "outer columns chunked", "delta chunked", "diagonal scan", "selective fused")
OTHERS = ("outer none chunked", "outer rows parallel", "delta parallel", "complex diagonal associative", "wkv naive")
OTHERS += ("wkv associative", "softmax_scan associative", "convolution", "dense", "cell", "attend")
NARROW = tuple(name for name in OTHERS if "complex" not in name)  # there are no complex numbers of bfloat16
SEVERAL = ("lru", "gla", "hgrn2", "mamba")
NARROW_MIXERS = (*SEVERAL, "min_gru", "rwkv4_channel", "lstm", "gru", "gru_chung", "tanh_rnn", "dense_gated_rnn")

ELSEWHERE = (1, 63, 64, 257)
"""More lengths around a chunk's end. Every recurrence is asked at each, every mixer at one in turn, since the forms are the same;
`python -m benchmarks.precision` asks all of them at all."""


def holds(dtype: str, time: int, cases: list[str]) -> None:
    """Nothing is wrong with any of the cases."""
    wrong = wrong_in(dtype, time, cases)
    assert list(wrong) == cases
    lines = [f"{case}: {line}" for case, found in wrong.items() for line in found]
    assert not lines, f"{dtype}, {time} tokens:\n" + "\n".join(lines[:40])


def test_decays_of_a_half_in_float32():
    """The outer product over 65 tokens, on which HGRN2 runs; quotients that float32 cannot hold are found."""
    outer, squared = wrong_in("float32", 65, ["recurrence:outer rows chunked", "broken:squared"]).values()
    assert not outer, outer
    assert any("gradient" in line and "variant 1: not finite" in line for line in squared), squared


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dtype", "time", "names"),
    [("bfloat16", 65, FAST + NARROW)] + [("float32", time, FAST + OTHERS) for time in (65, *ELSEWHERE)],
)
def test_recurrences(dtype, time, names):
    """The written gradients, the chunked and the parallel forms, on both sides of a chunk's end."""
    holds(dtype, time, [f"recurrence:{name}" for name in names])


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "names"), [("float32", tuple(registry())), ("bfloat16", NARROW_MIXERS)])
def test_mixers(dtype, names):
    """Gradients of weights, tokens and the first state, at 0.01, 1 and 10 times fresh weights, over 65 tokens."""
    holds(dtype, 65, [f"mixer:{name}" for name in names])


@pytest.mark.slow
@pytest.mark.parametrize("time", ELSEWHERE)
def test_mixers_at_other_lengths(time):
    """The same in float32, each mixer at one of the other lengths."""
    holds("float32", time, [f"mixer:{name}" for name in list(registry())[ELSEWHERE.index(time) :: len(ELSEWHERE)]])


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_first_backward_pass_of_every_published_family(dtype):
    """Losses and gradients of fresh models over 129 tokens are finite; the loss is that of not knowing, within 1 nat."""
    holds(dtype, 0, [f"model:{name}" for name in families()])


@pytest.mark.slow
def test_a_choice_for_a_whole_batch_is_found():
    """One choice of form for all sequences of a batch changes the bits of those beside which it changes."""
    (neighbours,) = wrong_in("float32", 65, ["broken:neighbours"]).values()
    assert any("variant 3: depends on neighbours" in line for line in neighbours), neighbours


def test_every_recurrence_has_a_specification():
    """Of every recurrence there is a naive form in the table, or only one form."""
    naive = [name for name in RECURRENCES if name.endswith(" naive")]
    for name in RECURRENCES:
        assert specification(name) in [RECURRENCES[each] for each in (*naive, name)]
