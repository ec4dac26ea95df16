"""Delays by digits: the longest that arithmetic tells apart is right in every architecture, and a longer one is refused."""

import jax.numpy as jnp
import pytest

from dualform.errors import InputError
from dualform.programs import Input, Program, certificates, certify, compile_program, targets
from dualform.programs.compiled import Certificate, fault
from dualform.programs.library import program
from dualform.programs.sugar import delay
from tests.tiers import tiers

LONGEST = {"float32": 11, "float64": 30}
"""Of a recurrence that is written out; the delta rule's writes are rounded more often."""
DELTA = {"float32": 10, "float64": 28}
HOLD = [to for to in targets() if to != "gated-rnn"]
QUICK = [("gated-linear-rnn", "float32")]


def longest(to: str, dtype: str) -> int:
    """The longest delay that is not refused."""
    return (DELTA if to == "delta" else LONGEST)[dtype]


@pytest.mark.parametrize("to, dtype", tiers([(to, dtype) for to in HOLD for dtype in LONGEST], *QUICK))
def test_the_longest_delay_is_right(to, dtype):
    """Every output of 100 random inputs of 130 tokens, at the last delay before they are refused."""
    found = compile_program(program("delayed_copy", by=longest(to, dtype)), to, dtype)
    assert certify(found, inputs=100, lengths=(130,)).wrong == 0


@pytest.mark.parametrize("to", HOLD)
@pytest.mark.parametrize("dtype", LONGEST)
def test_a_longer_one_is_refused(to, dtype):
    """With file and line, and what to do, before anything is emitted."""
    with pytest.raises(InputError, match=rf"delays\.py:\d+: .* {dtype} as {to} rounds by .* delay by shifts"):
        compile_program(program("delayed_copy", by=longest(to, dtype) + 1), to, dtype)


def test_two_more_are_wrong():
    """What is refused would be wrong: the bound is no longer than it has to be by more than one."""
    x = Input(low=0, high=1, whole=True)
    made = Program(delay(x, LONGEST["float32"] + 2, "digits"), draw=program("delayed_copy").draw, discrete=True)
    for each in _registers(made):
        each.roundoff = None
    wrong = certify(compile_program(made, "gated-linear-rnn", "float32"), inputs=200, lengths=(65,)).wrong
    assert wrong is not None and wrong > 0


def test_a_narrower_dtype_is_said_to_refuse():
    """A program that float64 holds has its certificates there; in float32 the reason stands; bfloat16 is measured."""
    found = certificates(program("delayed_copy", by=13), "gated-linear-rnn", inputs=3, longest=9)
    assert [each.dtype for each in found] == ["float64", "float32", "bfloat16"]
    assert found[0].refused is None and found[0].wrong == 0
    assert "rounds by 1.2e-07" in str(found[1].refused) and found[2].refused is None


def test_a_fault_is_named():
    """Whole numbers are right or wrong; of others only what is not finite is a fault; another dtype may be taken."""
    whole = [Certificate(0.0, 0.0, 1, 9, "float64"), Certificate(1.0, 0.125, 1, 9, "float32")]
    assert fault(whole, "float64") is None
    said = fault(whole, "float32")
    assert said is not None and "12.50% of outputs are wrong" in said and "right in float64" in said
    assert fault([Certificate(0.5, None, 1, 9, "float32")], "float32") is None
    said = fault([Certificate(float("inf"), None, 1, 9, "float32")], "float32")
    assert said is not None and "not finite" in said and "right in" not in said


def _registers(made: Program):
    from dualform.programs.lowering import nodes
    from dualform.programs.values import Register

    return [each for each in nodes(made.output) if isinstance(each, Register)]


def test_epsilons_are_those_of_the_dtypes():
    """The bound is 1 / (18 * 3^delay), in epsilons of the dtype that is asked for."""
    for dtype, most in LONGEST.items():
        epsilon = float(jnp.finfo(dtype).eps)
        assert 3**most <= 1 / (18 * epsilon) < 3 ** (most + 1)
