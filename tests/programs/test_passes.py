"""The compiler's passes: each gives what the one before it gave, to the fraction, on programs that hypothesis draws."""

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st

from dualform.programs.graph import Block, Form, Graph, Relu, Step, Times, atom_form, rebuilt, run
from dualform.programs.lowering import lowered
from dualform.programs.passes import PASSES, passed, used
from dualform.programs.path import as_path
from dualform.programs.program import Program, interpret
from dualform.programs.values import Input, Register, Value, concat, relu, state
from tests.laws import laws
from tests.programs.drawn import TOKENS, programs

FEW, MANY = 60, 1000
ROUNDING = 100 * laws.ROUNDING
"""Of float64 over a few tokens of a few nodes, in units of the output where that is above 1."""


def tokens(width: int, time: int = 6):
    """Sequences of whole numbers."""
    return st.lists(st.lists(TOKENS, min_size=width, max_size=width), min_size=time, max_size=time)


def held(output: Value, inputs: list[list[int]]) -> None:
    """The interpreter, the graph and every pass agree: the first to rounding, all others exactly."""
    graph = lowered(output)
    expected = run(graph, inputs)
    for name, each in passed(graph):
        assert run(each, inputs) == expected, name
    given = interpret(Program(output), np.asarray(inputs, float))
    size = np.maximum(1, np.abs(np.asarray(expected, float)))
    assert np.max(np.abs(np.asarray(expected, float) - given) / size) < ROUNDING


@settings(max_examples=FEW, deadline=None, derandomize=True)
@given(st.data())
def test_passes_change_nothing(data):
    """Of any program, after every pass."""
    output = data.draw(programs())
    held(output, data.draw(tokens(lowered(output).width)))


@pytest.mark.slow
@settings(max_examples=MANY, deadline=None, derandomize=True)
@given(st.data())
def test_passes_change_nothing_of_many(data):
    """The same law of a thousand programs; of ten thousand in docs/benchmarks/random_programs.md, by its command."""
    output = data.draw(programs(most=8))
    held(output, data.draw(tokens(lowered(output).width, 4)))


def of_each(graph: Graph, change: Callable[[Step], Step]) -> Graph:
    """The graph with every step changed."""

    def make(step, add):
        at = add(change(step))
        return [atom_form(at + i) for i in range(step.size)]

    return rebuilt(graph, make)


def first_start(step: Step) -> Step:
    """A state that starts at 0, whatever it started with."""
    return replace(step, start=(Fraction(0),) * step.size) if isinstance(step, Block) else step


def without_carry(step: Step) -> Step:
    """A state of several rows that forgets what is not on its diagonal."""
    if not isinstance(step, Block):
        return step
    return replace(step, matrix=tuple({i: row[i]} if i in row else {} for i, row in enumerate(step.matrix)))


def sizeless(step: Step) -> Step:
    """A ReLU of a form whose factors are all 1 or -1, as if their size did not matter."""
    if not isinstance(step, Relu):
        return step
    return replace(step, form=Form({a: each / abs(each) for a, each in step.form.terms.items()}, step.form.constant))


def always_positive(step: Step) -> Step:
    """A ReLU that lets everything through where its constant is not negative."""
    if isinstance(step, Relu) and step.form.constant >= 0:
        return Times(step.form, Form({}, Fraction(1)))
    return step


BROKEN: dict[str, Callable[[Graph], Graph]] = {
    "known": lambda graph: of_each(graph, always_positive),
    "used": lambda graph: replace(used(graph), outputs=(Form(), Form(), *used(graph).outputs[2:])),
    "apart": lambda graph: of_each(graph, without_carry),
    "merged": lambda graph: of_each(graph, sizeless),
    "from_zero": lambda graph: of_each(graph, first_start),
}
"""A fault for each pass, of the kind that its law is there for."""


@pytest.mark.parametrize("name", PASSES)
def test_a_broken_pass_is_caught(name):
    """Hypothesis finds a program and an input on which the fault shows."""
    inputs = [1, -2, 3, 2]

    def shows(output: Value) -> bool:
        graph = lowered(output)
        tokens = [[token] * graph.width for token in inputs]
        return run(BROKEN[name](graph), tokens) != run(graph, tokens)

    found = find(
        programs(most=6),
        shows,
        settings=settings(
            max_examples=2000,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
        ),
    )
    assert shows(found)


def graph_of(output: Value) -> Graph:
    """The graph after all passes."""
    return passed(lowered(output))[-1][1]


def test_what_is_linear_is_folded():
    """Sums, factors, slices and concatenations leave no step behind."""
    x = Input(2)
    graph = lowered(concat(3 * (x[0] - x[1]) / 2 + 1, x)[0:2])
    assert graph.steps == ()
    assert graph.outputs == (Form({0: Fraction(3, 2), 1: Fraction(-3, 2)}, Fraction(1)), atom_form(0))


def test_equal_steps_are_one():
    """Also those that differ by a positive factor; a ReLU of what has the other sign is another one."""
    x = Input(2)
    assert len(graph_of(concat(relu(x[0] - x[1]), relu(2 * x[0] - 2 * x[1]))).steps) == 1
    assert len(graph_of(concat(relu(x[0] - x[1]), relu(x[1] - x[0]))).steps) == 2
    assert len(graph_of(concat(x[0] * x[1], x[1] * (-3 * x[0]))).steps) == 1
    assert len(graph_of(concat(state(x[0]), state(x[0]))).steps) == 1


def test_a_gate_is_made_of_the_present():
    """Of a product of a state and the token, whichever way it is written, the state is the factor on the right."""
    x = Input(1)
    for product in (state(x) * x, x * state(x)):
        *_, step = graph_of(product).steps
        assert isinstance(step, Times) and set(step.left.terms) == {0}


def test_known_signs_are_used():
    """A ReLU of what is never negative is what it reads, and of what is never positive nothing."""
    x = Input(1)
    y = relu(x)
    assert len(graph_of(relu(y + relu(-x) + 1)).steps) == 2
    assert len(graph_of(concat(x, relu(-y - 1))).steps) == 0
    assert graph_of(relu(state(y, a=Fraction(1, 2), start=1))).count(Relu) == 2  # of x, and of the first token
    assert graph_of(relu(state(y, a=-1))).count(Relu) == 2  # of x, and of the state, whose sign changes


def test_unread_rows_go():
    """A state of three rows of which one is read, which reads another: two are left."""
    x, s = Input(1), Register(3)
    s.becomes(concat(s[0] + x, s[0], s[2] + x))
    (block,) = graph_of(s.now[1]).steps
    assert isinstance(block, Block) and block.size == 2


def test_states_start_at_zero():
    """The first token brings what a state would have started with, times what carries it."""
    x, s = Input(1), Register(2, [3, 5])
    graph = graph_of(s.becomes(concat(s[1] + x, Fraction(1, 2) * s[0])))
    assert all(not any(step.start) for step in graph.steps if isinstance(step, Block))
    expected = [[5, Fraction(3, 2)], [Fraction(3, 2), Fraction(5, 2)], [Fraction(7, 2), Fraction(3, 4)]]
    assert run(graph, [[0], [0], [1]]) == expected


@settings(max_examples=FEW, deadline=None, derandomize=True)
@given(programs())
def test_the_path_reads_what_is_there(output):
    """A layer's states read what is given to it; its units read that, and its states; what a later one reads is kept."""
    path = as_path(graph_of(output))
    given = set(range(path.graph.width))
    for layer in path.layers:
        assert set(layer.given) == given
        for block in layer.blocks:
            assert {atom for form in block.step.forms for atom in form.terms} <= given
        for unit in layer.units:
            assert {atom for form in unit.step.forms for atom in form.terms} <= given | set(layer.states)
        own = {atom for each in (*layer.blocks, *layer.units) for atom in each.atoms}
        assert set(layer.kept) <= given | own
        given = set(layer.kept)
    assert {atom for form in path.graph.outputs for atom in form.terms} <= given
    steps = [each.step for layer in path.layers for each in (*layer.blocks, *layer.units)]
    assert len(steps) == len(path.graph.steps)
