"""Filters held to each other, and written into weights: what represents which hidden model exactly."""

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float

from dualform.construct import filter_lru, filter_lstm
from dualform.errors import require
from dualform.experiments.reproduction import Experiment, Findings, Workshop, at_most
from dualform.programs.automata import Automaton, compile_automata, spelled
from dualform.tasks.hmm import (
    FAMILIES,
    HMM,
    LinearSystem,
    MatrixProduct,
    Source,
    cyclic_det,
    cyclic_hard,
    cyclic_rnd,
    linear_system,
    matrix_product,
    random_hmm,
)

EXACT = 1e-10
LENGTHS = {"quick": 4096, "full": 65_536}
WRITTEN = 512
"""Tokens for which a filter is held whose states shrink."""


def automaton_of(hmm: HMM) -> Automaton:
    """The automaton of a chain whose observations say where every state goes: its belief is always sure.

    **Raises:** `InputError` where a state may go to several, or the first state is not sure.
    """
    kernels, initial = np.asarray(hmm.kernels), np.asarray(hmm.initial)
    require(
        bool(np.all((kernels > 0).sum(axis=2) == 1) and (initial > 0).sum() == 1),
        "an observation of this model does not say where each state goes, so that it is no automaton.",
    )
    return Automaton(kernels.argmax(axis=2).T, int(initial.argmax()), name="cyclic-det", what="The state, one-hot.")


def hidden_of(family: str) -> Source:
    """A small model of a family, in float64."""
    made: dict[str, Callable[[], Source]] = {
        "random": lambda: random_hmm(3, 3, 0, jnp.float64),
        "linear-system": lambda: linear_system(3, 2, 0, jnp.float64),
        "matrix-product": lambda: matrix_product(3, 2, 0, jnp.float64),
        "cyclic-det": lambda: cyclic_det(5, 2, 0, jnp.float64),
        "cyclic-rnd": lambda: cyclic_rnd(5, 2, 0, jnp.float64),
        "cyclic-hard": lambda: cyclic_hard(3, 2, 0, jnp.float64, stage=2),
    }
    return made[family]()


def filters_apart(hidden: Source, time: int) -> float:
    """The largest difference of beliefs: one token after the other, and as a tree."""
    tokens = hidden.drawn(jr.key(1), time).tokens
    one, tree = (hidden.beliefs(tokens, form=form) for form in ("naive", "associative"))
    return _largest(one - tree)


def written_apart(model: Any, hidden: Source, time: int) -> float:
    """The largest difference of what a network gives, over its sum where it is of probabilities, and the exact belief."""
    drawn = hidden.drawn(jr.key(2), time)
    x = jnp.pad(drawn.tokens, ((0, 0), (0, 1))).at[0, -1].set(1)
    y, _ = eqx.filter_jit(lambda model, x: model(x))(model, x)
    return _largest((y / jnp.sum(y, axis=1, keepdims=True) if hidden.probabilities else y) - drawn.beliefs)


def automata_apart(hmm: HMM, to: str, time: int) -> float:
    """The largest difference of what a compiled automaton gives and the exact belief; a delta rule reads it spelled in swaps."""
    drawn, automaton = hmm.drawn(jr.key(2), time), automaton_of(hmm)
    spelling = spelled(automaton) if to == "delta" else None
    model = compile_automata(automaton if spelling is None else spelling.automata, to, "float64").model
    tokens = drawn.tokens if spelling is None else jnp.asarray(spelling.written(drawn.tokens))
    y, _ = eqx.filter_jit(lambda model, x: model(x))(model, tokens)
    return _largest((y if spelling is None else spelling.read(y)) - drawn.beliefs)


def _largest(difference: Float[Array, "time n"]) -> float:
    found = np.abs(np.asarray(difference, np.float64))
    return float("inf") if np.isnan(found).any() else float(found.max())


def _run(workshop: Workshop, preset: str) -> Findings:
    del workshop
    time, numbers = LENGTHS[preset], []
    rounding = "rounding, of float64"
    held = lambda name, error, why: numbers.append(at_most(name, None, error, EXACT, why))
    with jax.enable_x64(True):
        for family in FAMILIES:
            levels = (time - 1).bit_length()
            held(
                f"{family}: the filter as a tree of {levels} levels against {time:,} steps",
                filters_apart(hidden_of(family), time),
                rounding,
            )
        for family in ("matrix-product", "cyclic-det", "cyclic-rnd"):
            hidden = hidden_of(family)
            assert isinstance(hidden, HMM | MatrixProduct)
            held(
                f"{family}: an LSTM's weights over {time:,} tokens",
                written_apart(filter_lstm(hidden), hidden, time),
                f"{rounding}; its states keep their size",
            )
        for family in ("random", "cyclic-hard"):
            hidden = hidden_of(family)
            assert isinstance(hidden, HMM)
            held(
                f"{family}: an LSTM's weights over {WRITTEN} tokens",
                written_apart(filter_lstm(hidden), hidden, WRITTEN),
                f"{rounding}; its states shrink, and underflow later",
            )
        system, cycle = hidden_of("linear-system"), hidden_of("cyclic-det")
        assert isinstance(system, LinearSystem) and isinstance(cycle, HMM)
        held(
            f"linear-system: an LRU's weights over {time:,} tokens",
            written_apart(filter_lru(system), system, time),
            rounding,
        )
        for to in ("rnn", "gru", "lstm", "delta"):
            held(
                f"cyclic-det: as an automaton in the weights of {to}, over {time:,} tokens",
                automata_apart(cycle, to, time),
                "states that are full on or off" if to != "delta" else "spelled in swaps, which are reflections",
            )
    why = (
        "Nothing is trained. The largest difference of any number of any belief, over one random sequence, in float64: of the "
        "filter's two forms, and of networks whose weights were written, not learnt."
    )
    return Findings(numbers, {"errors": {number.name: number.ours for number in numbers}}, 1, why)


UNKNOWNS: Sequence[tuple[str, str]] = (
    (
        "constructions",
        "the paper's are transformers of logarithmic depth, which approximate a filter; ours are recurrent networks",
    ),
)

EXACT_FILTERS = Experiment("Filters as trees, and in the weights of recurrent networks", UNKNOWNS, _run, beyond=True)
