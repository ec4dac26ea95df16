"""A graph in terms of decisions: it gives what the graph gives, to the fraction, with as few units as can be."""

from collections import Counter
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualform.programs import (
    Input,
    concat,
    counter,
    equal,
    if_else,
    larger,
    look_up,
    modulo,
    relu,
    shift_register,
    state,
    step,
)
from dualform.programs.decisions import Decisions, Ramp, Threshold, decided, evaluated, valued
from dualform.programs.graph import Graph, run
from dualform.programs.lowering import lowered
from dualform.programs.passes import passed
from dualform.programs.ranges import Range
from dualform.programs.sugar import CONDITIONALS
from tests.programs.drawn import programs
from tests.tiers import tiers

WHOLE = Range(Fraction(-3), Fraction(3), Fraction(0), Fraction(1))


def bits(width=1):
    return Input(width, low=0, high=1, whole=True)


def graph_of(output) -> Graph:
    return passed(lowered(output))[-1][1]


def outputs(found: Decisions, inputs: np.ndarray) -> np.ndarray:
    """What decisions give, (batch, time, outputs), in fractions."""
    one = np.full(inputs.shape[:2], Fraction(1), object)
    atoms = evaluated(found, inputs)
    return np.stack([valued(form, atoms, one) for form in found.outputs], axis=-1)


def same(graph: Graph, inputs: np.ndarray) -> bool:
    """Whether a graph's decisions give what it gives."""
    expected = np.array([run(graph, [list(token) for token in each]) for each in inputs], object)
    return bool((outputs(decided(graph), inputs) == expected).all())


def drawn_inputs(seed: int, width: int, denominator: int = 1) -> np.ndarray:
    random = np.random.default_rng(seed)
    found = np.empty((2, 6, width), object)
    for place in np.ndindex(found.shape):
        found[place] = Fraction(int(random.integers(-3 * denominator, 3 * denominator + 1)), denominator)
    return found


@pytest.mark.parametrize("most", tiers([8, 20], 8))
@given(data=st.data())
def test_decisions_are_the_graph(most, data):
    """Of random programs, declared to have whole inputs and not, decisions give what the graph gives, to the fraction."""
    graph = graph_of(data.draw(programs(most=most)))
    seed = data.draw(st.integers(0, 2**16))
    assert same(graph, drawn_inputs(seed, graph.width, denominator=6))
    assert same(replace(graph, declared=(WHOLE,) * graph.width), drawn_inputs(seed, graph.width))


def kinds(output) -> Counter:
    return Counter(type(each).__name__ for each in decided(graph_of(output)).steps)


@pytest.mark.parametrize("form", CONDITIONALS)
def test_conditionals_of_bits_are_two_thresholds(form):
    """Each form of a conditional of bits is [t + c >= 2] + [o - c >= 1], without the 1e10 that it is written with."""
    x = bits(3)
    found = decided(graph_of(if_else(x[0], x[1], x[2], form=form)))
    assert all(isinstance(each, Threshold) for each in found.steps) and len(found.steps) == 2
    largest = max(abs(factor) for each in found.steps for factor in each.forms[0].terms.values())
    assert largest == 2


def test_known_decisions():
    """Steps of whole numbers are single thresholds, steps of others ramps; neighbours of a table share theirs."""
    x = bits()
    assert kinds(larger(counter(x), counter(1 - x))) == {"Block": 2, "Threshold": 1}
    y = Input()
    assert kinds(larger(counter(y), counter(1 - y))) == {"Block": 2, "Ramp": 1}
    assert kinds(shift_register(x, 3, "digits"))["Ramp"] == 2  # numbers with digits in base 3 are no lattice
    three = bits(3)
    assert kinds(look_up(three[0] + 2 * three[1] + 4 * three[2], list(range(8)))) == {"Threshold": 7}
    assert kinds(modulo(5) + 0 * x) == {"Block": 2, "Threshold": 5}  # the first token, and where a point on a circle is
    assert kinds(larger(counter(Fraction(1, 10**6)), 1) + 0 * x)["Ramp"] == 1  # what never comes round may be anywhere
    assert kinds(three[0] * three[1]) == {"Threshold": 1}
    assert kinds(three[0] * counter(three[1]))["Gated"] == 1
    assert kinds(y * counter(y)) == {"Block": 1, "Times": 1}


def test_a_slope_is_ramps():
    """ReLUs of one number at three places that are read as differences alone are ramps; read alone, one ReLU is left."""
    x = Input()
    hat = relu(x) - 2 * relu(x - 1) + relu(x - 2)
    assert kinds(hat) == {"Ramp": 2}
    assert kinds(concat(hat, relu(x))) == {"Ramp": 2, "Relu": 1}
    ramp = decided(graph_of(step(x, ramp="published"))).steps[0]
    assert isinstance(ramp, Ramp) and ramp.form.terms == {0: 1000} and ramp.form.constant == 0


def test_large_constants_are_not_taken_away_again():
    """Where nothing bounds the branches, 1e10 is multiplied by what is 0 where a branch is taken, and added to nothing."""
    x = Input(3)
    found = decided(graph_of(if_else(larger(x[0], 0), x[1], x[2], form="direct")))
    for each in found.steps:
        for form in each.forms:
            assert abs(form.constant) < 10**10
    assert same(graph_of(if_else(larger(x[0], 0), x[1], x[2], form="direct")), drawn_inputs(0, 3, 4))


def test_a_lie_is_not_found_here():
    """Decisions rest on what is declared: of an input that is no whole number they are others than the graph, as they say."""
    graph = replace(graph_of(equal(Input(), 1, scale=4)), declared=(WHOLE,))
    assert not same(graph, np.full((1, 1, 1), Fraction(5, 8), object))


def test_states_of_products_and_gates():
    """Bits times bits, accumulated, times a bit: a threshold, a count, and a value that a bit lets through."""
    x = bits(3)
    graph = graph_of(state(x[0] * x[1]) * x[2])
    random = np.random.default_rng(0)
    inputs = np.vectorize(Fraction, otypes=[object])(random.integers(0, 2, (3, 9, 3)))
    assert same(graph, inputs) and kinds(state(x[0] * x[1]) * x[2]) == {"Threshold": 1, "Block": 1, "Gated": 1}
