"""The language: what every construct gives, to the fraction, and what is said of a program that cannot be."""

import itertools
import re
from fractions import Fraction

import numpy as np
import pytest

from dualform.errors import FileError, InputError
from dualform.programs.graph import run
from dualform.programs.lowering import lowered
from dualform.programs.program import Program, from_file, interpret
from dualform.programs.sugar import (
    CONDITIONALS,
    RAMPS,
    both,
    bump,
    counter,
    cycle,
    delay,
    differ,
    either,
    equal,
    first_token,
    if_else,
    invert,
    larger,
    look_up,
    modulo,
    one_hot,
    running_maximum,
    select,
    shift_register,
    smaller,
    step,
    unless,
)
from dualform.programs.values import Constant, Input, Linear, Product, Register, Value, concat, relu, state, summed


def given(output: Value, tokens) -> list:
    """What a program gives: (time,) where its output has one entry; the interpreter gives the same to rounding."""
    tokens = [token if isinstance(token, list | tuple) else [token] for token in tokens]
    exact = run(lowered(output), tokens)
    np.testing.assert_allclose(
        interpret(Program(output), np.asarray(tokens, float)), np.asarray(exact, float), atol=1e-9
    )
    return [row[0] for row in exact] if output.width == 1 else exact


def test_operators():
    """Sums, differences, products and quotients, with numbers on either side; entries and slices."""
    x = Input(2)
    output = concat(2 * x[0] - x[1] / 4 + 1, 1 - x[0], x[0] * x[1], -x, x[-1], summed(x), x[0:2] * [2, 0])
    assert given(output, [[3, 8]]) == [[5, -2, 24, -3, -8, 8, 11, 6, 0]]


def test_one_entry_fits_every_width():
    """In sums and products a value of one entry, and a number, is as wide as the other side."""
    x = Input(3)
    assert given(x * x[0] + x[1] - 1, [[2, 3, 4]]) == [[6, 8, 10]]
    assert given(x[0] + Constant([1, 2]), [[2, 3, 4]]) == [[3, 4]]


def test_a_register_holds_what_was_written_a_token_ago():
    """Read, it is the past; `now` is the present; `start` is read first."""
    x, count = Input(1), Register(1, 10)
    now = count.becomes(count + x)
    assert given(concat(count, now), [1, 2, 3]) == [[10, 11], [11, 13], [13, 16]]


def test_registers_that_write_each_other():
    """Two registers that are exchanged at every token, and a third one that follows the first."""
    x, a, b, c = Input(1), Register(1, 1), Register(1, 2), Register(1)
    a.becomes(b + x)
    b.becomes(a)
    c.becomes(a)
    assert given(concat(a.now, b.now, c.now), [0, 0, 5]) == [[2, 1, 1], [1, 2, 2], [7, 1, 1]]


def test_a_state_of_matrices():
    """s_t = A s_{t-1} + B x_t + b from s_0."""
    x = Input(2)
    s = state(x, a=[[0, 1], [1, 0]], b=[[1, 0], [0, 2]], bias=[0, 1], start=[5, 7])
    assert given(s, [[1, 1], [0, 0]]) == [[8, 8], [8, 9]]


@pytest.mark.parametrize("x, y", [*itertools.product(range(-2, 3), repeat=2)])
def test_comparisons(x, y):
    """Of whole numbers, and of one of them and a half."""
    pair = Input(2)
    a, b = pair[0], pair[1]
    output = concat(larger(a, b), smaller(a, b), equal(a, b), differ(a, b), bump(a, b, b + 1), step(a - b - 0.5))
    expected = [x > y, x < y, x == y, x != y, y < x <= y + 1, x > y]
    assert given(output, [[x, y]]) == [[int(each) for each in expected]]


@pytest.mark.parametrize("ramp", RAMPS)
def test_ramps(ramp):
    """Both are 0 up to 0, x scale up to 1 / scale, and 1 from there on."""
    tokens = [-1, 0, Fraction(1, 8), Fraction(1, 4), 7]
    assert given(step(Input(1), 4, ramp), tokens) == [0, 0, Fraction(1, 2), 1, 1]


def test_unless():
    """x where the condition is 0, and nothing where it is 1."""
    x = Input(2)
    assert given(unless(x[0], concat(x[1], 2 * x[1])), [[0, 3], [1, 3]]) == [[3, 6], [0, 0]]


@pytest.mark.parametrize("bits", [*itertools.product((0, 1), repeat=3)])
def test_logic(bits):
    """All of them, one of them, none of them."""
    x = Input(3)
    output = concat(both(x[0], x[1], x[2]), either(x[0], x[1], x[2]), invert(x[0]))
    assert given(output, [list(bits)]) == [[int(all(bits)), int(any(bits)), 1 - bits[0]]]


@pytest.mark.parametrize("form", CONDITIONALS)
@pytest.mark.parametrize("condition", [0, 1])
def test_conditionals(form, condition):
    """Each form gives the branch that was chosen; the optimised one where neither is negative."""
    x = Input(3)
    branches = (7, 4) if form == "optimised" else (7, -4)
    assert given(if_else(x[0], x[1], x[2], form=form), [[condition, *branches]]) == [branches[0 if condition else 1]]
    assert given(if_else(x[0], x[1], form=form), [[condition, *branches]]) == [branches[0] * condition]


@pytest.mark.parametrize("form", ["rotation", "ring"])
@pytest.mark.parametrize("n", [1, 2, 3, 7])
def test_cycles(form, n):
    """One-hot at (first + t - 1) mod n, and its number."""
    x = Input(1)
    times = range(3 * n + 1)
    assert given(modulo(n, form, first=2) + 0 * x, [0 for _ in times]) == [(2 + t) % n for t in times]
    expected = [[int(i == t % n) for i in range(n)] if n > 1 else 1 for t in times]
    assert given(cycle(n, form) + 0 * x, [0 for _ in times]) == expected


def test_counters():
    """A count of tokens, and of what comes in; the first token."""
    x = Input(1)
    assert given(concat(counter(1), counter(x, start=3), first_token() + 0 * x), [2, 5]) == [[1, 5, 1], [2, 10, 0]]


@pytest.mark.parametrize("form", ["shift", "digits"])
def test_delays(form):
    """Of bits, by both forms: x_t, x_{t-1}, x_{t-2}, 0 before the first."""
    x, bits = Input(1), [1, 0, 1, 1, 1, 0, 0, 1, 1, 1, 1, 0]
    expected = [[bits[t - i] if t >= i else 0 for i in range(4)] for t in range(len(bits))]
    assert given(shift_register(x, 4, form), bits) == expected
    assert given(delay(x, 3, form), bits) == [row[3] for row in expected]


def test_a_shift_delays_any_number():
    """Two entries at once."""
    x = Input(2)
    assert given(delay(x, 2), [[1, -0.5], [3, 4], [0, 0]]) == [[0, 0], [0, 0], [1, Fraction(-1, 2)]]


def test_tables():
    """One-hot of a whole number, a row of a table, an entry that is chosen."""
    x = Input(1)
    assert given(one_hot(x, 3), [0, 2, 5]) == [[1, 0, 0], [0, 0, 1], [0, 0, 0]]
    assert given(look_up(x, [[1, 2], [3, 4]]), [1, 0, 2]) == [[3, 4], [1, 2], [0, 0]]
    assert given(select(one_hot(x, 3), [5, 6, 7]), [2, 0]) == [7, 5]


def test_the_running_maximum():
    """Of whole numbers up to a bound."""
    assert given(running_maximum(Input(1), 4), [0, 2, 1, 4, 3]) == [0, 2, 2, 4, 4]


REFUSED = {
    "an own past in a ReLU": (lambda x, r: r.becomes(relu(r + x)), r"r depends on its own past through a ReLU"),
    "an own past in a product": (lambda x, r: r.becomes(r * x), r"r depends on its own past through a product"),
    "an own present": (
        lambda x, r: r.becomes(r.now + x),
        "what r becomes depends on what it becomes at the same token",
    ),
    "two things": (lambda x, r: (r.becomes(x), r.becomes(x)), "what r becomes is said twice"),
    "never written": (lambda x, r: r + x, "r is read, and nothing says what it becomes"),
    "widths": (lambda x, r: r.becomes(concat(x, x)), "r is 1 wide; what it becomes, 2"),
    "widths of a sum": (lambda x, r: concat(x, x) + Constant([1, 2, 3]), r"\+ or - takes values of one width"),
    "widths of a product": (lambda x, r: Product(concat(x, x), x), r"\* takes values of one width"),
    "a matrix": (lambda x, r: Linear(x, [[1, 2]]), r"A has shape \(1, 2\); what it multiplies is 1 wide"),
    "a square": (lambda x, r: state(x, a=[[1], [1]]), "A has 2 rows; what drives the state is 1 wide"),
    "a bias": (lambda x, r: Linear(x, [[1]], [1, 2]), "b has 2 numbers; it must have 1"),
    "NaN": (lambda x, r: x * float("nan"), "numbers are finite real numbers; got nan"),
    "infinity": (lambda x, r: x + float("inf"), "numbers are finite real numbers; got inf"),
    "a word": (lambda x, r: x + "1/0", "numbers are finite real numbers; got '1/0'"),
    "an entry": (lambda x, r: x[1], "there is no entry 1 in a value of 1"),
    "no entry": (lambda x, r: x[1:1], "is empty"),
    "a quotient": (lambda x, r: 1 / x, "nothing can be divided by a value"),
    "a quotient of two": (lambda x, r: x / x, "a value can be divided by a number only"),
    "a zero": (lambda x, r: x / 0, "divided by 0"),
    "an if": (lambda x, r: 1 if x else 0, "a value has no truth in Python"),
    "a width": (lambda x, r: Input(0), "the width of an input must be a whole number, at least 1; got 0"),
    "a form": (lambda x, r: if_else(x, x, form="best"), "there is no conditional 'best'; there are direct"),
    "a cycle": (lambda x, r: cycle(3, "square"), "there is no cycle 'square'"),
    "a delay": (lambda x, r: delay(x, form="tape"), "there is no delay 'tape'"),
    "a ramp": (lambda x, r: step(x, ramp="steep"), "there is no ramp 'steep'; there are whole, published"),
    "two inputs": (lambda x, r: x + Input(1), r"a program has one input; this one has 2"),
    "no input": (lambda x, r: counter(1), r"a program has one input; this one has 0"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name):
    """With a sentence that says why; where it is the program's, the file and the line come first."""
    wrong, said = REFUSED[name]
    with pytest.raises(InputError, match=said) as refused:
        made = wrong(Input(1), Register(1, name="r"))
        Program(made)
        lowered(made)
    inputs = name.endswith(("inputs", "input"))
    assert inputs or re.match(r"test_language\.py:\d+: ", str(refused.value)), str(refused.value)


def test_the_place_is_the_users_line():
    """Not a line of the language."""
    with pytest.raises(InputError) as refused:
        larger(Input(2), Constant([1, 2, 3]))
    line = test_the_place_is_the_users_line.__code__.co_firstlineno + 3
    assert str(refused.value).startswith(f"test_language.py:{line}: ")


def test_inputs_of_another_width():
    """The interpreter says what it takes."""
    with pytest.raises(InputError, match=r"program takes tokens of 2 numbers; got an array of shape \(3, 1\)"):
        interpret(Program(Input(2) * 1), np.zeros((3, 1)))


FILE = """
from dualform.programs import Input, larger, counter

x = Input(1)
program = larger(counter(x), counter(1 - x))
"""


def test_a_program_of_a_file(tmp_path):
    """The value that it calls `program`, or what a function of that name gives."""
    path = tmp_path / "majority.py"
    path.write_text(FILE)
    found = from_file(path)
    assert found.name == "majority"
    assert interpret(found, [[1.0], [0.0], [1.0]]).tolist() == [[1], [0], [1]]
    path.write_text(FILE.replace("program = ", "program = lambda: "))
    assert from_file(path).width_out == 1


BAD_FILES = {
    "x = 1": "defines no program",
    "program = 3": "defines no program",
    "import dualform.nowhere": "does not run: ModuleNotFoundError",
    "def": "does not run: SyntaxError",
    "from dualform.programs import Input\nprogram = Input(1) + Input(1)": "a program has one input",
    "from dualform.programs import Input\n\nprogram = Input(1)[3]": r"bad\.py:3: there is no entry 3",
    "import sys\nsys.exit(0)": "does not run: SystemExit",
}


@pytest.mark.parametrize("text", BAD_FILES)
def test_files_that_define_none(tmp_path, text):
    """A sentence each."""
    path = tmp_path / "bad.py"
    path.write_text(text)
    with pytest.raises(InputError, match=BAD_FILES[text]):
        from_file(path)


def test_a_file_that_is_not_there(tmp_path):
    """And one that is no Python."""
    with pytest.raises(FileError, match="there is no file"):
        from_file(tmp_path / "nowhere.py")
    (tmp_path / "program.txt").write_text(FILE)
    with pytest.raises(InputError, match=r"its name must end in \.py"):
        from_file(tmp_path / "program.txt")
