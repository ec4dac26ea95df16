"""Programs beside the public code of LSRL: how long compiling takes, what comes out, and how fast it runs.

    python -m benchmarks.programs --public FOLDER [--length 3] [--samples 20] [--rounds 5] [--write FILE.md]

The program is tok2tok, a map between sequences of `length` tokens that is given in the prompt and looked up, with each
conditional. The public side is run as it is: its graph is built, simplified to a path by its own compiler, and run over the same
prompt by its own loop. Ours is compiled to a network of this package, of which one call reads the prompt; XLA compiles that call
before, in the time that stands beside it. Outputs of both are compared with what should come out. To have the public side:

    git clone https://github.com/AleksandarPetrov/LSRL FOLDER
    pip install numpy scipy sympy networkx matplotlib tqdm parameterized

Without it, ours stands alone.
"""

import argparse
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.alternate import alternate, ratio, verdict, write
from dualform.programs import compile_program
from dualform.programs.library import program

FORMS = {"multiplicative": "multiplicative", "direct": "direct", "optimised": "optimized", "step": "step_optimized"}
"""Conditionals, by our name and the public one's."""

COMPILE, FASTER = 2.0, 100.0
"""Goals: seconds to compile, and times faster for each token."""


class Side(NamedTuple):
    """A compiled program: seconds to compile it, numbers that it holds, those that are not 0, and what runs it on a prompt."""

    seconds: float
    parameters: int
    stored: int | None
    run: Any


def ours(form: str, length: int, samples: int, prompt: np.ndarray) -> tuple[Side, float]:
    """The network, and how long XLA takes for the call. Without products it is a linear RNN."""
    begin = time.perf_counter()
    to = "gated-linear-rnn" if form == "multiplicative" else "linear-rnn"
    compiled = compile_program(program("tok2tok", length=length, form=form, samples=samples), to, "float64")
    jax.block_until_ready(eqx.filter(compiled.model, eqx.is_array))
    seconds = time.perf_counter() - begin
    call = eqx.filter_jit(lambda model, x: model(x)[0])
    x = jnp.asarray(prompt[:, None], jnp.float64)
    begin = time.perf_counter()
    jax.block_until_ready(call(compiled.model, x))
    xla = time.perf_counter() - begin
    run = lambda: np.asarray(call(compiled.model, x))[-length:, 0]
    return Side(seconds, compiled.parameters, compiled.stored, run), xla


def public(folder: Path, form: str, length: int, prompt: np.ndarray) -> Side:
    """The public graph, simplified by the public compiler."""
    sys.path.insert(0, str(folder))
    import lsrl  # pyright: ignore[reportMissingImports]
    from lsrl.matrix_tools import MatrixMode  # pyright: ignore[reportMissingImports]
    from tests.test_ua_tok2tok import TestUATok2TokBuldingSteps as Building  # pyright: ignore[reportMissingImports]

    sys.path.pop(0)
    begin = time.perf_counter()
    made = Building()
    made.mode, made.conditional_mode, made.seq_len = MatrixMode.NUMERIC, FORMS[form], length
    made.setUp()
    graph = lsrl.ForEach(made.output, verbose=False)
    graph.simplify(max_steps=20_000)
    seconds = time.perf_counter() - begin

    def run() -> np.ndarray:
        assert made.mode is MatrixMode.NUMERIC  # which holds as long as what set it is there
        graph.reset()
        return graph(prompt[None, :]).numpy()[0, -length:]

    return Side(seconds, int(graph.parameter_count), None, run)


HEAD = (
    "conditional",
    "compiling, s",
    "and XLA, s",
    "public, s",
    "times",
    "not 0, of all",
    "public, all",
    "ms a token",
    "public",
    "times faster",
    "right",
    "public",
)
"""The columns of the table."""


def row(form: str, args: argparse.Namespace, prompt: np.ndarray, expected: np.ndarray) -> list[str]:
    """One conditional."""
    side, xla = ours(form, args.length, args.samples, prompt)
    again = [ours(form, args.length, args.samples, prompt)[0].seconds for _ in range(args.rounds - 1)]
    compiled = median([side.seconds, *again])
    right = lambda run: f"{np.mean(np.rint(run()) == expected):.0%}"
    ms = lambda seconds: f"{1e3 * median(seconds) / len(prompt):.3g}"
    own = f"{compiled:.2f} ({verdict(compiled <= COMPILE)})"
    size = f"{side.stored:,} of {side.parameters:,}"
    if args.public is None:
        seconds = alternate({"ours": side.run}, args.rounds)
        return [form, own, f"{xla:.1f}", "", "", size, "", ms(seconds["ours"]), "", "", right(side.run), ""]
    theirs = public(args.public, form, args.length, prompt)
    seconds = alternate({"ours": side.run, "public": theirs.run}, args.rounds, warm=1)
    ahead = ratio(seconds, "public", "ours")
    return [
        form,
        own,
        f"{xla:.1f}",
        f"{theirs.seconds:.1f}",
        f"{theirs.seconds / compiled:,.0f}",
        size,
        f"{theirs.parameters:,}",
        ms(seconds["ours"]),
        ms(seconds["public"]),
        f"{ahead:,.0f} ({verdict(ahead >= FASTER)})",
        right(side.run),
        right(theirs.run),
    ]


def paragraphs(args: argparse.Namespace) -> Sequence[str]:
    """The report."""
    made, tokens = program("tok2tok", length=args.length, samples=args.samples), args.length * (1 + 2 * args.samples)
    prompt = made.inputs(np.random.default_rng(0), tokens)
    assert made.expected is not None
    expected = made.expected(prompt)[-args.length :, 0]
    lines = [HEAD, ["---"] * len(HEAD), *(row(form, args, prompt[:, 0], expected) for form in FORMS)]
    return [
        (__doc__ or "").split("\n\n")[2].replace("\n", " "),
        f"Sequences of {args.length} tokens, {args.samples} pairs: a prompt of {tokens} tokens. Goals: {COMPILE:g} s to compile, "
        f"{FASTER:g} times faster for each token. With products ours is a gated linear RNN, else a linear RNN, in float64; "
        f"the public side's numbers are those of its path as dense matrices. Times are medians of {args.rounds} rounds.",
        "\n".join(f"| {' | '.join(cells)} |" for cells in lines),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--public", type=Path, help="a checkout of the public code")
    parser.add_argument("--length", type=int, default=3)
    parser.add_argument("--samples", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--write", help="the report, as Markdown")
    args = parser.parse_args()
    warnings.filterwarnings("ignore", module="(lsrl|tests).*")
    with jax.enable_x64(True):
        said = paragraphs(args)
    command = f"python -m benchmarks.programs --length {args.length} --samples {args.samples} --rounds {args.rounds}"
    print(write(args.write, "Programs, compiled", command + (" --public FOLDER" if args.public else ""), said))


if __name__ == "__main__":
    main()
