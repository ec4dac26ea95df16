"""Automata as networks: exact at any length, and refused, with the argument, where an architecture cannot hold them."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dualform import dual_form
from dualform.checkpoints import load_weights, save_weights
from dualform.errors import InputError
from dualform.mixers import DeltaRule, Mamba
from dualform.programs.automata import (
    HOLDERS,
    KNOWN,
    Automaton,
    certify_automata,
    compile_automata,
    interpret,
    spelled,
)
from dualform.programs.automata import known as automata
from dualform.programs.automata.automaton import side_by_side
from tests.tiers import tiers

EVERY = ("rnn", "gru", "lstm")
REFUSED = {
    ("even_pairs", "delta"): "symbol 0 leads states 0, 1, ... to 1, 1, 1, 3, 3.*this is neither. rnn, gru and lstm",
    ("cycle_navigation", "delta"): "symbol 1 leads states 0, 1, ... to 1, 2, 3, 4, 0.*neither, but several swaps",
    ("remainder", "delta"): "neither, but several swaps: see `spelled`",
    ("clock", "delta"): "neither, but several swaps: see `spelled`",
    ("word_problem", "delta"): "neither, but several swaps: see `spelled`",
    **{(name, "mamba"): "has [35] states. The transitions of Mamba are numbers" for name in KNOWN},
    **{(name, "linear-rnn"): "symbol 1 leads elsewhere than symbol 0" for name in KNOWN},
}
for held in (("parity", "mamba"), ("flip_flop", "mamba"), ("clock", "linear-rnn")):
    del REFUSED[held]

PAIRS = [(name, to) for name in KNOWN for to in HOLDERS]
QUICK = [pair for pair in PAIRS if pair in REFUSED] + [
    ("parity", "delta"),
    ("parity", "mamba"),
    ("flip_flop", "delta"),
    ("flip_flop", "mamba"),
    ("cycle_navigation", "rnn"),
    ("cycle_navigation", "gru"),
    ("cycle_navigation", "lstm"),
    ("clock", "linear-rnn"),
]


def error_allowed(to):
    """What rounding does to an output: nothing where all numbers are whole, one rounding of tanh(1), the eigenvectors' ones."""
    return {"lstm": 2e-7, "linear-rnn": 1e-5}.get(to, 0.0)


@pytest.mark.parametrize(("name", "to"), tiers(PAIRS, *QUICK))
def test_known_automata(name, to):
    """In float32 each of the literature's automata is exact in every architecture that holds it; others say why not."""
    if (name, to) in REFUSED:
        with pytest.raises(InputError, match=REFUSED[name, to]):
            compile_automata(KNOWN[name](), to)
        return
    certificate = certify_automata(compile_automata(KNOWN[name](), to), inputs=10, lengths=(99,))
    assert certificate.wrong == 0 and certificate.error <= error_allowed(to)


def long_run(found, tokens=20_000):
    x = found.automata[0].one_hot(np.random.default_rng(0).integers(0, found.automata[0].symbols, tokens))
    y, _ = found.model(jnp.asarray(x, found.dtype))
    return np.asarray(y, np.float64), interpret(found.automata, x)


LONG = {
    "parity, delta": (automata.parity, "delta"),
    "s5, delta": (lambda: spelled(automata.word_problem("s5")).automata, "delta"),
    "cycle navigation, rnn": (automata.cycle_navigation, "rnn"),
    "parity, mamba": (automata.parity, "mamba"),
    "a5, delta": (lambda: spelled(automata.word_problem("a5")).automata, "delta"),
    "s3, delta": (lambda: spelled(automata.word_problem("s3")).automata, "delta"),
    "cycle navigation, delta": (lambda: spelled(automata.cycle_navigation()).automata, "delta"),
    "flip-flop, delta": (lambda: automata.flip_flop(5), "delta"),
    "a5, rnn": (lambda: automata.word_problem("a5"), "rnn"),
    "cycle navigation, gru": (automata.cycle_navigation, "gru"),
    "cycle navigation, lstm": (automata.cycle_navigation, "lstm"),
    "even pairs, rnn": (automata.even_pairs, "rnn"),
}


@pytest.mark.parametrize("name", tiers(LONG, "parity, delta"))
def test_no_drift(name):
    """Over 20,000 tokens in float32 no output is off by a rounding: states are whole numbers, or full on and off."""
    make, to = LONG[name]
    y, expected = long_run(compile_automata(make(), to, "float32"))
    assert np.abs(y - expected).max() <= error_allowed(to)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
@pytest.mark.parametrize("name", LONG)
def test_no_drift_in_other_dtypes(name, dtype):
    """Over 20,000 tokens no output is wrong in float64 and in bfloat16."""
    make, to = LONG[name]
    y, expected = long_run(compile_automata(make(), to, dtype))
    # bfloat16 rounds the factor 1 / (2 tanh 1) of an LSTM's readout; outputs here are 0 and 1.
    assert np.abs(y - expected).max() <= (0.01 if (to, dtype) == ("lstm", "bfloat16") else 1e-15)


@pytest.mark.parametrize("cell", tiers(EVERY, "rnn"))
def test_random_automata(cell):
    """Random tables, starts and outputs are exact in every recurrent cell."""
    random = np.random.default_rng(0)
    parts = [
        Automaton(
            random.integers(0, states, (states, 3)),
            int(random.integers(0, states)),
            random.integers(-8, 9, (states, 2)).astype(float),
        )
        for states in (1, 2, 4, 7, 9)
    ]
    certificate = certify_automata(compile_automata(parts, cell), inputs=20, lengths=(65,))
    assert certificate.wrong == 0 and certificate.error <= 10 * error_allowed(cell)


@pytest.mark.slow
def test_random_permutations_and_resets():
    """Random permutations and resets, spelled in swaps, are exact in a delta rule, whatever the start and the outputs."""
    random = np.random.default_rng(1)
    for states in (2, 3, 4, 5, 8, 9):
        columns = [random.permutation(states) for _ in range(3)] + [np.full(states, each) for each in (0, states - 1)]
        outputs = random.integers(0, 3, (states, 2)).astype(float)
        automaton = Automaton(np.stack(columns, axis=1), int(random.integers(0, states)), outputs)
        spelling = spelled(automaton)
        found = compile_automata(spelling.automata, "delta")
        x = automaton.one_hot(random.integers(0, 5, 60))
        y, _ = found.model(jnp.asarray(spelling.written(x), jnp.float32))
        # The query of several states that share an output has length 1 but for a rounding.
        np.testing.assert_allclose(spelling.read(np.asarray(y)), automaton.interpret(x), rtol=0, atol=1e-6)


@pytest.mark.slow
def test_two_states_of_every_kind():
    """All automata of two states and three symbols are exact in a delta rule and in Mamba, side by side or alone."""
    tables = [[[a, b, c], [d, e, f]] for a, b, c, d, e, f in np.ndindex(2, 2, 2, 2, 2, 2)]
    parts = [Automaton(table, start) for table in tables for start in (0, 1)]
    for to in ("delta", "mamba"):
        certificate = certify_automata(compile_automata(parts, to), inputs=4, lengths=(65,))
        # Mamba's resets take exp(-log 2) for 1/2.
        assert certificate.wrong == 0 and certificate.error <= (1e-6 if to == "mamba" else 0)


@pytest.mark.parametrize("to", ["delta", "mamba"])
def test_positive_eigenvalues_cannot(to):
    """The same weights without negative eigenvalues fail at parity: what holds it is the sign, not something else."""
    found = compile_automata(automata.parity(), to)
    mixer = found.model.blocks[0].mixer
    assert isinstance(mixer, DeltaRule | Mamba) and mixer.negative
    fields = {field.name: getattr(mixer, field.name) for field in dataclasses.fields(mixer) if field.init}
    twin = eqx.tree_at(lambda model: model.blocks[0].mixer, found.model, type(mixer)(**fields | {"negative": False}))
    x = found.automata[0].one_hot(np.random.default_rng(0).integers(0, 2, 200))
    y, _ = twin(jnp.asarray(x, jnp.float32))
    wrong = np.mean(np.rint(np.asarray(y)) != interpret(found.automata, x))
    assert wrong > 0.3


def test_attention_of_parity():
    """The map of the delta rule that holds parity: each one is read with a sign that turns at every one behind it."""
    found = compile_automata(automata.parity(), "delta", "float64")
    bits = np.random.default_rng(0).integers(0, 2, 24)
    block = found.model.blocks[0]
    x = jnp.asarray(np.concatenate([found.automata[0].one_hot(bits), np.zeros((24, 1))], axis=1))
    form = dual_form(block.mixer, x)
    assert form.residual == 0
    ones = np.cumsum(bits)
    expected = np.tril(np.where(bits[None] == 1, (-1.0) ** (ones[:, None] - ones[None]), 0))
    contributions = np.asarray(form.contributions)[..., -1]
    odd = ones % 2 == 1  # where the memory is 0, the norm's scale is that of 0
    scale = np.abs(contributions[odd]).max()
    np.testing.assert_allclose(contributions[odd] / scale, expected[odd], rtol=0, atol=1e-12)


def test_saved_and_loaded(tmp_path):
    """A compiled automaton is saved and loaded as every model is, to the bit."""
    for to in ("delta", "rnn"):
        found = compile_automata(automata.cycle_navigation() if to == "rnn" else automata.flip_flop(3), to)
        save_weights(tmp_path / f"{to}.safetensors", found.model)
        again = load_weights(tmp_path / f"{to}.safetensors")
        same = jax.tree_util.tree_map(lambda a, b: bool(jnp.all(a == b)), found.model, again)
        assert all(jax.tree_util.tree_leaves(same))


def test_documents_start_anew():
    """Packed documents begin in the start state, since the memory of the start is 0."""
    found = compile_automata(automata.parity(), "delta")
    x = found.automata[0].one_hot(np.random.default_rng(3).integers(0, 2, 30))
    y, _ = found.model(jnp.asarray(x, jnp.float32), start=jnp.arange(30) % 10 == 0)
    expected = np.concatenate([interpret(found.automata, x[i : i + 10]) for i in (0, 10, 20)])
    np.testing.assert_array_equal(np.asarray(y), expected)


def test_a_broken_network_is_found():
    """A certificate says how many outputs are wrong where one weight of a compiled network is another one."""
    found = compile_automata(automata.parity(), "delta")
    at = lambda model: model.blocks[0].mixer.w_v
    broken = eqx.tree_at(
        lambda found: found.model, _Holder(found.model), eqx.tree_at(at, found.model, -at(found.model))
    )
    object.__setattr__(found, "model", broken.model)
    certificate = certify_automata(found, inputs=10, lengths=(33,))
    assert certificate.wrong is not None and certificate.wrong > 0.2 and certificate.error >= 0.5


class _Holder(eqx.Module):
    model: object


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: compile_automata(automata.parity(), "s4"), "no automaton is compiled to 's4'; there are rnn, gru"),
        (lambda: compile_automata(automata.parity(), "rnn", "float16"), "there is no dtype 'float16'"),
        (
            lambda: compile_automata(automata.word_problem("s3", "swaps"), "delta"),
            "s3 by swaps: the swap of states [012] and [012] closes an odd circle of swaps.*hardly negative.*see `spelled`",
        ),
        (
            lambda: compile_automata(Automaton([[1, 0, 2], [1, 2, 2], [1, 1, 2]]), "delta"),
            "the swap of states [012] and [012] closes an odd circle",
        ),
    ],
)
def test_bad_targets(make, says):
    """What there is not, and swaps that no positive keys can make, get a sentence."""
    with pytest.raises(InputError, match=says):
        make()


def test_odd_circles_have_a_negative_product():
    """Why three swaps of three states are refused: whichever signs their keys are given, two of them have a negative product."""
    (first,) = side_by_side(automata.word_problem("s3", "swaps"))[:1]
    swaps = [np.flatnonzero(first.table[:, symbol] != np.arange(3)) for symbol in range(3)]
    keys = np.array([np.eye(3)[i] - np.eye(3)[j] for i, j in swaps]) / 2**0.5
    for signs in np.ndindex(2, 2, 2):
        turned = keys * (1 - 2 * np.array(signs))[:, None]
        assert np.min(turned @ turned.T) < -0.4
