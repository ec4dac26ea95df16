"""Every program of the library against its reference, and, compiled, against the interpreter."""

import functools

import numpy as np
import pytest

from dualform.errors import InputError
from dualform.programs.compiled import certify, compile_program
from dualform.programs.emit import targets
from dualform.programs.library import library, program
from dualform.programs.program import interpret
from tests.programs.library.held import VARIANTS, held, quick, refusal, tolerance
from tests.tiers import tiers

LENGTHS = (1, 2, 3, 12, 33, 65)
NAMES = list(VARIANTS)
PAIRS = [(name, to) for name in NAMES for to in targets()]
HELD = [pair for pair in PAIRS if held(*pair)]
COMPILED = [pair for i, pair in enumerate(HELD) if i % 4 == 0 or quick(*pair)] + [p for p in PAIRS if not held(*p)]
CERTIFIED = [(*pair, ("float64", "float32")[i % 2]) for i, pair in enumerate(HELD[2::8])]
"""Of the pairs that are held a part, which has every program and every architecture; all that are refused. The whole table is
docs/benchmarks/program_certificates.md, by its command."""


@functools.cache
def made(name):
    return program(VARIANTS[name].program, **VARIANTS[name].options)


def expected(name, x):
    reference = made(name).expected
    assert reference is not None
    return reference(x)


def test_the_part_has_everything():
    """Every architecture compiles some program, and every program is compiled, in the part of the table that is tested."""
    tried = [pair for pair in COMPILED if held(*pair)]
    assert {to for _, to in tried} == set(targets())
    assert {VARIANTS[name].program for name, _ in tried} == set(library())


def test_every_program_has_a_variant():
    """The table of what is tried has every program of the library, so that none is left out."""
    assert {variant.program for variant in VARIANTS.values()} == set(library())


@pytest.mark.parametrize("name", tiers(NAMES, *(name for name in NAMES if "tok2tok" not in name or name == "tok2tok")))
def test_interpreted_is_expected(name):
    """What the interpreter gives is what the reference in plain Python gives: to the digit where outputs are whole numbers."""
    found, random, counted = made(name), np.random.default_rng(0), 0
    for time in LENGTHS:
        inputs = np.stack([found.inputs(random, time) for _ in range(12)])
        for x, y in zip(inputs, interpret(found, inputs), strict=True):
            where, right = found.counted(x), expected(name, x)
            assert right.shape == y.shape
            # Exact sums of whole numbers; others carry float64's rounding of some hundred terms.
            allowed = VARIANTS[name].off if found.discrete else 1e-12 * max(1, np.abs(right).max())
            np.testing.assert_allclose(y[where], right[where], rtol=0, atol=allowed)
            counted += where.sum()
    assert counted > 100


@pytest.mark.parametrize("name", NAMES)
def test_outputs_vary(name):
    """The inputs that a program is tried on bring different outputs, so that none is tried on one answer alone."""
    found, random = made(name), np.random.default_rng(1)
    inputs = [found.inputs(random, 101) for _ in range(12)]
    outputs = np.concatenate([expected(name, x)[found.counted(x)] for x in inputs])
    assert len(np.unique(outputs, axis=0)) > 1
    if found.discrete and found.width_out == 1:
        _, counts = np.unique(outputs, return_counts=True)
        assert counts.max() < 0.97 * counts.sum()


@pytest.mark.parametrize("name", NAMES)
def test_inputs_of_any_length(name):
    """Inputs can be drawn in any length, and are finite."""
    found, random = made(name), np.random.default_rng(2)
    for time in (*range(1, 12), 129):
        x = found.inputs(random, time)
        assert x.shape == (time, found.width_in) and np.isfinite(x).all()


@pytest.mark.parametrize(("name", "to"), tiers(COMPILED, *(pair for pair in COMPILED if quick(*pair))))
def test_compiled_is_interpreted(name, to):
    """Compiled, a program gives what its interpreter gives, in every architecture that holds it; the others say why not."""
    says = refusal(name, to)
    if says is not None:
        with pytest.raises(InputError, match=says):
            compile_program(made(name), to)
        return
    certificate = certify(compile_program(made(name), to), inputs=16, lengths=(33,), seed=3)
    assert certificate.error <= tolerance(name, to)
    assert certificate.wrong in (None, 0)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "to", "dtype"), CERTIFIED)
def test_certified(name, to, dtype):
    """Over 1,000 inputs of 65 tokens the error is at most 1e-9 in float64, 1e-4 in float32, and no whole number is wrong.

    An output has seen what stands before it alone: these are inputs of every length up to there.
    """
    certificate = certify(compile_program(made(name), to, dtype), inputs=1000, lengths=(65,), seed=4)
    assert certificate.error <= (tolerance(name, to) if dtype == "float64" else 1e-4)
    assert certificate.wrong in (None, 0)


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("mayority", {}, "the library has no program 'mayority'; it has .*majority"),
        ("majority", {"n": 3}, "majority has no option 'n'; it has none"),
        ("sorting", {"n": 3}, r"sorting has no option 'n'; it has values \(4\)"),
        ("sorting", {"values": 0}, "values must be a whole number, at least 1; got 0"),
        ("parity", {"longest": 0}, "longest is 0; it must be at least 1"),
        ("dyck", {"deepest": 0}, "deepest is 0; it must be at least 1"),
        ("delayed_copy", {"form": "digit"}, "there is no delay 'digit'; there are shift and digits"),
        ("token_count", {"form": "circle"}, "there is no cycle 'circle'; there are rotation and ring"),
        ("n_gram", {"n": 1}, "n is 1; the shortest context is one symbol"),
        ("n_gram", {"n": 9, "symbols": 3}, "3 symbols have 6561 contexts of 8"),
        ("induction", {"symbols": 1}, "symbols is 1; one symbol always follows itself"),
        ("in_context_map", {"length": 7}, "length is 7; digits of more than 6 tokens are not told apart"),
        ("in_context_map", {"vocabulary": 1}, "vocabulary is 1; a map needs at least 2 tokens"),
        ("remainder", {"base": 1}, "the base of a division is 2 or more"),
        ("token_count", {"form": "division", "longest": 0}, "largest must be a whole number, at least 1; got 0"),
        ("tok2tok", {"vocabulary": 1}, "vocabulary is 1; a map needs at least 2 tokens"),
        ("vec2vec", {"d_in": 0}, "d_in must be a whole number, at least 1; got 0"),
        ("brackets", {"form": "product"}, "there is no conditional 'product'"),
    ],
)
def test_bad_options(name, options, says):
    """What the library has not, and options that are of no use, get a sentence."""
    with pytest.raises(InputError, match=says):
        program(name, **options)
