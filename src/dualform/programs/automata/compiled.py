"""Automata compiled to networks, and what a network is worth against the table."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from dualform.arrays import count_parameters
from dualform.errors import require
from dualform.programs.automata.automaton import Automata, Automaton, interpret, side_by_side
from dualform.programs.automata.reflections import delta
from dualform.programs.automata.saturated import saturated
from dualform.programs.automata.signs import mamba
from dualform.programs.automata.turning import as_program
from dualform.programs.compiled import DTYPES, SHORT, Certificate, compile_program, lengthened


class Holder(NamedTuple):
    """An architecture that holds automata.

    - emit: (automata, dtype) -> a layer; `InputError`, which says why, where it cannot hold them.
    - what: which automata it holds, in a sentence.
    """

    emit: Callable[[tuple[Automaton, ...], Any], Any]
    what: str


def _cell(name: str) -> Callable[[tuple[Automaton, ...], Any], Any]:
    return lambda automata, dtype: saturated(automata, name, dtype)


def _linear(automata: tuple[Automaton, ...], dtype: Any) -> Any:
    return compile_program(as_program(automata), "linear-rnn", str(jnp.dtype(dtype))).model


HOLDERS: Mapping[str, Holder] = MappingProxyType(
    {
        "rnn": Holder(_cell("rnn"), "every automaton, as a unit for each state and symbol that is full on or full off"),
        "gru": Holder(_cell("gru"), "every automaton, as an RNN in a GRU that neither keeps nor resets"),
        "lstm": Holder(_cell("lstm"), "every automaton, as an RNN in an LSTM that forgets"),
        "delta": Holder(delta, "swaps of two states and resets, as reflections; permutations spelled in swaps"),
        "mamba": Holder(mamba, "automata of two states, as a state whose sign turns"),
        "linear-rnn": Holder(_linear, "automata whose states go on by themselves, whatever is read"),
    }
)
"""The architectures that hold automata, by name."""


@dataclass(frozen=True)
class CompiledAutomata:
    """Automata, and the network that they were compiled to.

    - model: a layer of this package, (time, symbols) -> (time, d_out).  to: the architecture.  dtype: of its weights.
    """

    automata: tuple[Automaton, ...]
    to: str
    dtype: str
    model: Any

    @property
    def parameters(self) -> int:
        """Numbers in the network, zeros too."""
        return count_parameters(self.model)


def compile_automata(automata: Automata, to: str, dtype: str = "float32") -> CompiledAutomata:
    """Automata as the weights of a network.

    **Arguments:** automata: one, or several that read the same tokens.  to: one of `HOLDERS`.  dtype: of the weights, "float64"
    (which needs JAX's float64), "float32" or "bfloat16".

    **Raises:** `InputError` for another architecture, and for one that cannot hold them, with the reason.
    """
    automata = side_by_side(automata)
    require(to in HOLDERS, f"no automaton is compiled to {to!r}; there are {', '.join(HOLDERS)}.")
    require(dtype in DTYPES, f"there is no dtype {dtype!r}; there are {', '.join(DTYPES)}.")
    require(
        dtype != "float64" or jax.config.read("jax_enable_x64"),
        "weights in float64 need JAX's float64: jax.config.update('jax_enable_x64', True).",
    )
    return CompiledAutomata(automata, to, dtype, HOLDERS[to].emit(automata, jnp.dtype(dtype)))


def certify_automata(
    found: CompiledAutomata, *, inputs: int = 100, lengths: Sequence[int] = (1, 3, 17, 65), seed: int = 0
) -> Certificate:
    """Hold a network against its automata's tables, on random symbols.

    **Arguments:** inputs: how many, in equal parts of each length.  lengths: in tokens.  seed: of the symbols.
    """
    random, symbols = np.random.default_rng(seed), found.automata[0].symbols
    worst, wrong, counted = 0.0, 0, 0
    call = eqx.filter_jit(jax.vmap(lambda model, x: model(x)[0], in_axes=(None, 0)))
    levels = [np.unique(each.outputs, axis=0) for each in found.automata]
    for length in lengths:
        x = np.eye(symbols)[random.integers(0, symbols, (max(1, inputs // len(lengths)), length))]
        expected = interpret(found.automata, x)
        given = np.asarray(call(found.model, jnp.asarray(lengthened(x, max(lengths)), found.dtype)), np.float64)
        given = given[:, :length]
        difference = np.abs(given - expected) / np.maximum(1, np.abs(expected))
        worst = max(worst, float(np.max(np.where(np.isnan(difference), np.inf, difference))))
        wrong += int(np.sum(np.any(_nearest(given, levels) != _nearest(expected, levels), axis=-1)))
        counted += x.shape[0] * length
    return Certificate(worst, wrong / counted, inputs, max(lengths), found.dtype)


def _nearest(outputs: np.ndarray, levels: Sequence[np.ndarray]) -> np.ndarray:
    """Of each automaton's part of the outputs, which of its outputs is nearest, (*batch, time, automata)."""
    found, at = [], 0
    for level in levels:
        part = outputs[..., at : at + level.shape[1]]
        found.append(np.argmin(np.sum((part[..., None, :] - level) ** 2, axis=-1), axis=-1))
        at += level.shape[1]
    return np.stack(found, axis=-1)


def automata_certificates(
    automata: Automata, to: str, *, inputs: int = 100, longest: int = 4096, seed: int = 0, long: int = 2
) -> list[Certificate]:
    """Certificates in each of `DTYPES`: many inputs of `SHORT` tokens, and `long` of so many tokens.

    **Raises:** `InputError` as of `compile_automata`.
    """
    found = []
    for dtype in DTYPES:
        compiled = compile_automata(automata, to, dtype)
        if longest > SHORT:
            found.append(certify_automata(compiled, inputs=inputs, lengths=(SHORT,), seed=seed))
        few = min(long, inputs) if longest > SHORT else inputs
        found.append(certify_automata(compiled, inputs=few, lengths=(longest,), seed=seed))
    return found
