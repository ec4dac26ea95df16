"""Automata: tables, the literature's ones, and spelling in swaps."""

import itertools

import numpy as np
import pytest

from dualform.errors import InputError
from dualform.programs import interpret as interpret_program
from dualform.programs.automata import KNOWN, Automaton, as_program, interpret, spelled
from dualform.programs.automata import known as automata
from dualform.programs.automata.automaton import side_by_side
from dualform.tasks.state_tracking import members, products


def drawn(random, states, symbols):
    return Automaton(random.integers(0, states, (states, symbols)), int(random.integers(0, states)))


def words(length, symbols):
    return np.array(list(itertools.product(range(symbols), repeat=length)))


def test_parity_by_hand():
    """Parity gives the sum modulo 2 of every word of nine bits."""
    x = words(9, 2)
    y = automata.parity().interpret(automata.parity().one_hot(x))
    np.testing.assert_array_equal(y[..., 0], np.cumsum(x, axis=1) % 2)


def test_even_pairs_by_hand():
    """First and last symbol are the same exactly where changes are even in number."""
    x = words(8, 2)
    y = automata.even_pairs().interpret(automata.even_pairs().one_hot(x))[..., 0]
    np.testing.assert_array_equal(y, x == x[:, :1])
    changes = np.cumsum(x[:, 1:] != x[:, :-1], axis=1)
    np.testing.assert_array_equal(y[:, 1:], changes % 2 == 0)


def test_the_others_by_hand():
    """Cycles, remainders, clocks and flip-flops give what one counts."""
    x = words(6, 3)
    one_hot = lambda n, at: np.eye(n)[at]
    found = lambda automaton: automaton.interpret(automaton.one_hot(x))
    np.testing.assert_array_equal(
        found(automata.cycle_navigation(5)), one_hot(5, np.cumsum(np.array([0, 1, -1])[x], axis=1) % 5)
    )
    np.testing.assert_array_equal(found(automata.remainder(4, 3)), one_hot(4, np.cumsum(x == 2, axis=1) % 4))
    np.testing.assert_array_equal(found(automata.clock(4, 3)), one_hot(4, np.tile(np.arange(1, 7) % 4, (len(x), 1))))
    held = np.zeros(x.shape, int)
    for word, row in zip(x, held, strict=True):
        value = 0
        for t, symbol in enumerate(word):
            value = symbol - 1 if symbol else value
            row[t] = value
    np.testing.assert_array_equal(found(automata.flip_flop(2)), one_hot(2, held))


@pytest.mark.parametrize("group", ["s3", "a4", "z5", "s5"])
def test_word_problem_is_the_task(group):
    """The places of all things are those of the element that the package's task of the same group gives."""
    x = np.random.default_rng(0).integers(0, len(members(group)), 40)
    target = list(itertools.accumulate(x, lambda p, q: products(group)[p, q]))
    found = automata.word_problem(group)
    places = np.stack([each.read(x) for each in found], axis=-1)
    np.testing.assert_array_equal(places, np.array(members(group))[target])


def test_automata_side_by_side():
    """Outputs of automata side by side stand one behind the other."""
    pair = (automata.parity(), automata.flip_flop(1))
    x = pair[0].one_hot([1, 0, 1])
    assert interpret(pair, x).tolist() == [[1, 1], [1, 1], [0, 1]]


@pytest.mark.parametrize("name", KNOWN)
def test_every_known_automaton_reaches_all_its_states(name):
    """No automaton of the package has a state that nothing leads to."""
    for each in side_by_side(KNOWN[name]()):
        assert each.reachable.all()


def test_reachable():
    """A state that only unreachable ones lead to is not reached."""
    found = Automaton([[1, 0], [0, 1], [3, 0], [2, 2]])
    assert found.reachable.tolist() == [True, True, False, False]


def test_spelled_is_the_same():
    """Spelled in swaps and resets, random permutations and resets lead where they led, whatever the start."""
    random = np.random.default_rng(0)
    for states in (2, 3, 5, 6):
        columns = [random.permutation(states) for _ in range(4)] + [np.full(states, 1), np.arange(states)]
        automaton = Automaton(np.stack(columns, axis=1), int(random.integers(0, states)))
        spelling = spelled(automaton)
        x = automaton.one_hot(random.integers(0, 6, (5, 30)))
        letters = spelling.written(x)
        assert letters.shape == (5, 30 * spelling.length, spelling.automata[0].symbols)
        np.testing.assert_array_equal(spelling.read(interpret(spelling.automata, letters)), automaton.interpret(x))


@pytest.mark.parametrize(("group", "length", "letters"), [("s3", 3, 3), ("a5", 6, 5), ("s5", 6, 5), ("z5", 4, 5)])
def test_words_of_groups(group, length, letters):
    """Words have the known diameter of the star of swaps: 3 (n - 1) / 2 letters, rounded down, in all of S_n."""
    spelling = spelled(automata.word_problem(group))
    assert (spelling.length, spelling.automata[0].symbols) == (length, letters)
    assert group[0] != "s" or length == 3 * (int(group[1]) - 1) // 2


def test_what_goes_on_by_itself_is_a_program():
    """An automaton that goes on whatever is read is a linear state, as a program."""
    for automaton in (
        automata.clock(5),
        Automaton([[1, 1], [2, 2], [1, 1]], 0, [[0.5], [1], [2]], what="After one token 1 or 2."),
    ):
        made = as_program(automaton)
        x = made.inputs(np.random.default_rng(0), 20)
        np.testing.assert_array_equal(interpret_program(made, x), automaton.interpret(x))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Automaton([[0, 1], [1]]), "a table has a row of whole numbers for each state.*got"),
        (lambda: Automaton([[0.5]]), "a table has a row of whole numbers for each state"),
        (lambda: Automaton([]), "a table has a row of whole numbers for each state"),
        (lambda: Automaton([[0, 2], [1, 0]]), r"the table of 2 states leads to state \[2\]; states count from 0"),
        (lambda: Automaton([[0]], start=1), "it starts in state 1; there are 1 states, from 0"),
        (
            lambda: Automaton([[0]], outputs=[[1], [2]]),
            r"outputs must be \(1, d_out\), numbers of each state; got \[\[1\], \[2\]\]",
        ),
        (
            lambda: Automaton([[0]], outputs=[["a"]]),
            r"outputs must be \(1, d_out\), numbers of each state; got \[\['a'\]\]",
        ),
        (lambda: Automaton([[0]], outputs=[[float("nan")]]), "outputs are finite numbers; got .*nan"),
        (lambda: Automaton.accepting([[0]], [1]), r"state \[1\] is to be accepted; there are 1 states"),
        (lambda: automata.parity().one_hot([0, 2]), "symbols are whole numbers from 0 to 1; got .*2"),
        (lambda: automata.parity().interpret(np.ones((3, 2))), r"tokens of parity are one-hot; got \[1. 1.\]"),
        (lambda: automata.parity().interpret(np.ones((3, 3))), r"parity takes tokens of 2 numbers.*\(3, 3\)"),
        (lambda: interpret((), np.ones((3, 2))), "give an automaton, or several"),
        (
            lambda: interpret((automata.parity(), automata.cycle_navigation()), np.eye(2)),
            r"these have \[2, 3\] of them",
        ),
        (lambda: automata.word_problem("m11"), "there is no group 'm11'; there are z2"),
        (lambda: automata.word_problem("s3", "some"), "elements is 'some'; it must be 'all' of the group, or 'swaps'"),
        (lambda: automata.word_problem("a4", "swaps"), "no element of a4 swaps two things"),
        (lambda: automata.cycle_navigation(0), "n is 0; a circle has at least 1 place"),
        (lambda: automata.flip_flop(0), "values is 0"),
        (
            lambda: spelled(Automaton([[0], [0], [1]], 2)),
            r"symbol 0 leads states \[0, 1, 2\] to \[0, 0, 1\], which is no permutation",
        ),
        (lambda: spelled((automata.parity(), automata.flip_flop(1))), "their tables have to be the same"),
        (lambda: as_program(automata.parity()), "parity: symbol 1 leads elsewhere than symbol 0"),
    ],
)
def test_bad_automata(make, says):
    """What is no automaton, no token and no permutation gets a sentence."""
    with pytest.raises(InputError, match=says):
        make()


def test_random_tables_are_looked_up():
    """The interpreter gives the outputs of the states that a loop over the table gives."""
    random = np.random.default_rng(1)
    for _ in range(10):
        automaton = drawn(random, int(random.integers(1, 8)), int(random.integers(1, 4)))
        symbols = random.integers(0, automaton.symbols, 25)
        state, y = automaton.start, automaton.interpret(automaton.one_hot(symbols))
        for symbol, y_t in zip(symbols, y, strict=True):
            state = automaton.table[state, symbol]
            assert y_t.tolist() == automaton.outputs[state].tolist()
