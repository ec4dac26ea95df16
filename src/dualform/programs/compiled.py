"""A program compiled: graph, path, network, and what it is worth against the interpreter."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from dualform.arrays import count_parameters
from dualform.errors import InputError, require
from dualform.programs.emit import target
from dualform.programs.emit.registration import Target
from dualform.programs.graph import Block, Graph, Relu, Times
from dualform.programs.lowering import lowered, nodes
from dualform.programs.passes import passed
from dualform.programs.path import Path
from dualform.programs.program import Program, interpret
from dualform.programs.values import Register

DTYPES = ("float64", "float32", "bfloat16")
SHORT = 65
"""Tokens of most of a certificate's inputs."""


@dataclass(frozen=True)
class Compiled:
    """A program and the network that it was compiled to.

    - model: a layer of this package, (time, d_in) -> (time, d_out).  to: the architecture.  dtype: of its weights.
    - passes: the graph after each pass.  path: the layers that were emitted.
    """

    program: Program
    to: str
    dtype: str
    model: Any
    passes: Sequence[tuple[str, Graph]]
    path: Path

    @property
    def parameters(self) -> int:
        """Numbers in the network, zeros too."""
        return count_parameters(self.model)

    @property
    def stored(self) -> int:
        """Those that are not 0."""
        leaves = jax.tree_util.tree_leaves(eqx.filter(self.model, eqx.is_inexact_array))
        return int(sum(np.count_nonzero(np.asarray(leaf, np.float64)) for leaf in leaves))

    @property
    def layers(self) -> int:
        """Layers of the path."""
        return len(self.path.layers)

    def sizes(self) -> dict[str, str]:
        """What the graph is made of, and how large the network is.

        No network that runs the graph step by step can be written with fewer numbers than the graph.
        """
        graph = self.passes[-1][1]
        states = sum(step.size for step in graph.steps if isinstance(step, Block))
        return {
            "states": f"{states:,}",
            "ReLUs": f"{graph.count(Relu):,}",
            "products": f"{graph.count(Times):,}",
            "layers": f"{self.layers:,}",
            "numbers between layers, at most": f"{self.path.width:,}",
            "parameters": f"{self.parameters:,}",
            "of which not 0": f"{self.stored:,}",
            "numbers of the program's graph": f"{graph.numbers():,}",
        }


def compile_program(program: Program, to: str, dtype: str = "float64") -> Compiled:
    """The program as the weights of a network.

    **Arguments:** to: an architecture, see `targets`.  dtype: of the weights, "float64" (which needs JAX's float64), "float32" or
    "bfloat16".

    **Raises:** `InputError`, with file and line where it is the program's, for what cannot be compiled.
    """
    require(dtype in DTYPES, f"there is no dtype {dtype!r}; there are {', '.join(DTYPES)}.")
    require(
        dtype != "float64" or jax.config.read("jax_enable_x64"),
        "weights in float64 need JAX's float64: jax.config.update('jax_enable_x64', True).",
    )
    emitter = target(to)
    check_roundoff(program, emitter, dtype)
    passes = passed(lowered(program.output))
    path = emitter.path(passes[-1][1])
    if path.graph.count(Times):
        path = replace(path, drawn=drawn(program))
    largest = max(
        (abs(float(each)) for form in path.graph.forms for each in (form.constant, *form.terms.values())), default=0
    )
    limit = float(jnp.finfo(dtype).max)
    require(
        largest < limit,
        f"{program.name} has a factor of {largest:.3g}; {dtype} ends at {limit:.3g}. Compile it in float64, or use smaller "
        "constants.",
    )
    return Compiled(program, to, dtype, emitter.emit(path, jnp.dtype(dtype)), passes, path)


def check_roundoff(program: Program, to: Target, dtype: str) -> None:
    """Raise `InputError` where float64 or float32 is too coarse for a register.

    bfloat16 is refused nothing: its certificate says how far off it is.
    """
    epsilon = to.roundings * float(jnp.finfo(dtype).eps)
    for each in nodes(program.output):
        if isinstance(each, Register) and each.roundoff is not None and dtype != "bfloat16":
            require(
                epsilon <= each.roundoff,
                f"{each.place}: {each.name} holds digits that are told apart down to a rounding of {float(each.roundoff):.2g}, "
                f"and {dtype} as {to.name} rounds by {epsilon:.2g}. "
                + ("Compile it in float64, or" if dtype == "float32" else "Use")
                + " a shorter delay, or delay by shifts (form='shift'), which rnn, gru and lstm have.",
            )


def drawn(program: Program, inputs: int = 64) -> Float[np.ndarray, "batch time d"]:
    """Inputs of `SHORT` tokens on which scales are chosen; no certificate is made on them."""
    random = np.random.default_rng([2**32 - 1, inputs])
    return np.stack([program.inputs(random, SHORT) for _ in range(inputs)])


@dataclass(frozen=True)
class Certificate:
    """How far a network is from the program's interpreter, on inputs that nothing was made from.

    - error: the largest difference of outputs, divided by 1 or the size of the output, whichever is larger.
    - wrong: of a program of whole numbers the share of tokens at which a rounded output is another one; None otherwise.
    - inputs, tokens: how many sequences, and of how many tokens the longest.  dtype: in which the network was run.
    - refused: why there is no network in this dtype, and so no error; None where there is one.
    """

    error: float
    wrong: float | None
    inputs: int
    tokens: int
    dtype: str
    refused: str | None = None


def certify(
    found: Compiled, *, inputs: int = 1000, lengths: Sequence[int] = (1, 3, 17, 65), seed: int = 0
) -> Certificate:
    """Hold a compiled network against the interpreter on drawn inputs.

    **Arguments:** inputs: how many, in equal parts of each length.  lengths: in tokens.  seed: of the inputs.

    **Raises:** `InputError` for a program whose outputs count nowhere in such inputs.
    """
    random, program = np.random.default_rng(seed), found.program
    worst, wrong, counted = 0.0, 0, 0
    call = eqx.filter_jit(jax.vmap(lambda model, x: model(x)[0], in_axes=(None, 0)))
    for length in lengths:
        x = np.stack([program.inputs(random, length) for _ in range(max(1, inputs // len(lengths)))])
        expected = interpret(program, x)
        given = np.asarray(call(found.model, jnp.asarray(lengthened(x, max(lengths)), found.dtype)), np.float64)
        given = given[:, :length]
        where = np.stack([program.counted(each) for each in x])
        difference = np.abs(given - expected) / np.maximum(1, np.abs(expected))
        difference = np.where(np.isnan(difference), np.inf, difference)[where]
        worst = max(worst, float(np.max(difference, initial=0)))
        wrong += int(np.sum(np.any(np.rint(given) != np.rint(expected), axis=-1) & where))
        counted += int(np.sum(where))
    if not counted:
        raise InputError(
            f"outputs of {program.name} count nowhere in inputs of {max(lengths)} tokens; give longer ones."
        )
    return Certificate(worst, wrong / counted if program.discrete else None, inputs, max(lengths), found.dtype)


def lengthened(x: Float[np.ndarray, "batch time d"], time: int) -> Float[np.ndarray, "batch longer d"]:
    """Inputs with zeros behind them, which no output before these sees: one compiled program runs inputs of all lengths."""
    return np.pad(x, ((0, 0), (0, time - x.shape[1]), (0, 0)))


def certificates(
    program: Program, to: str, *, inputs: int = 200, longest: int = 4096, seed: int = 0, long: int = 2
) -> list[Certificate]:
    """Certificates in each of `DTYPES`: many inputs of `SHORT` tokens, and `long` of so many tokens, where drift would show.

    An output has seen what stands before it alone, so that an input of `SHORT` tokens is one of every length up to there.

    **Raises:** `InputError` as of `compile_program` in float64; what a narrower dtype refuses is said in its certificate.
    """
    found = []
    for dtype in DTYPES:
        try:
            compiled = compile_program(program, to, dtype)
        except InputError as refusal:
            if dtype == DTYPES[0]:
                raise
            found.append(Certificate(math.nan, None, 0, 0, dtype, str(refusal)))
            continue
        if longest > SHORT:
            found.append(certify(compiled, inputs=inputs, lengths=(SHORT,), seed=seed))
        few = min(long, inputs) if longest > SHORT else inputs
        found.append(certify(compiled, inputs=few, lengths=(longest,), seed=seed))
    return found


def fault(proved: Sequence[Certificate], dtype: str) -> str | None:
    """What is wrong with a network in a dtype, by its certificates, and what to do; None where nothing is.

    Whole numbers have to be right at every token. Of other outputs, whose error the certificate says, none may be infinite.
    """
    bad = lambda each: (
        bool(each.wrong) if each.wrong is not None else not math.isfinite(each.error)
    )  # also of one refused
    worst = [each for each in proved if each.dtype == dtype and bad(each)]
    if not worst:
        return None
    how = (
        "outputs are not finite"
        if worst[0].wrong is None
        else f"{max(each.wrong or 0 for each in worst):.2%} of outputs are wrong"
    )
    held = {each.dtype for each in proved} - {each.dtype for each in proved if bad(each)}
    right = [other for other in DTYPES if other in held]
    cure = f"It is right in {right[0]}: take that, or" if right else "Use"
    return f"In {dtype} {how}, as the certificate says. {cure} smaller constants or another form of the program."


def compiled_run(found: Compiled, tokens: Float[np.ndarray, "time d"]) -> tuple[np.ndarray, np.ndarray]:
    """What the network gives of some tokens, and what the interpreter does, (time, outputs) each."""
    y, _ = found.model(jnp.asarray(tokens, found.dtype))
    return np.asarray(y, np.float64), interpret(found.program, tokens)
