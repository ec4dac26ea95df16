"""Tools of this package graded on networks of which everything is known: compiled programs.

    python -m benchmarks.program_grades [--write FILE.md]

Each tool is asked what a program answers: whether a network is linear attention, from which token an output comes, what an output
would be without a token, and what a layer's activations hold. Beside each answer stands a case in which the right answer is no.
"""

import argparse
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.alternate import verdict, write
from dualform import discover, lenses, mixers
from dualform.dual import ModelForm, layer_form, model_form
from dualform.programs import Input, Program, compile_program, counter, interpret
from dualform.programs.library import program
from dualform.programs.library.attention import attention

TIME = 24


class Grade(NamedTuple):
    """A question to a tool: what is asked of which network, what is right, what the tool says, and whether that is right."""

    tool: str
    question: str
    right: str
    answer: str
    passed: bool


def matrices(seed: int, d: int = 3) -> Any:
    """Three matrices of a head."""
    return np.random.default_rng(seed).standard_normal((3, d, d)) / d**0.5


def product_of_sums() -> Program:
    """A gated RNN's function that is no attention: the product of two sums."""
    x = Input(3)
    return Program(counter(x) * counter(x[0] - x[1]), "the product of two sums")


def discovery() -> list[Grade]:
    """`discover` on a compiled attention, on one that is not the teacher's, and on what is no attention."""
    own, other = matrices(0), matrices(1)
    inputs = np.random.default_rng(2).standard_normal((64, 32, 3))
    teacher = mixers.LinearAttention(*own)
    cases: Sequence[tuple[str, Program, bool]] = (
        ("linear attention, compiled, against its own matrices", attention(*own), True),
        ("linear attention, compiled, against other matrices", attention(*other), False),
        ("the product of two sums, compiled", product_of_sums(), False),
    )
    found = []
    for question, made, yes in cases:
        said = discover.discover(compile_program(made, "gated-rnn").model, teacher, inputs)
        right = "identified" if yes else "not identified"
        found.append(Grade("discover", question, right, said.verdict, (said.verdict == "identified") == yes))
    return found


Sources = Callable[[np.ndarray, int], set[int]]
"""(inputs, a row) -> the tokens that its output comes from; none where it is 0."""


def copied(x: np.ndarray, row: int, by: int = 3) -> set[int]:
    """Of a delayed copy."""
    return {row - by} if row >= by and x[row - by, 0] == 1 else set()


def recalled(x: np.ndarray, row: int, keys: int = 4) -> set[int]:
    """Of recall: the tokens that wrote to the key that is asked for."""
    asked = np.flatnonzero(x[row, -keys:])
    return {s for s in range(row + 1) if len(asked) and x[s, asked[0]] == 1}


def maps() -> list[Grade]:
    """The exact map of a model: of each output that comes from one token, or a few, which token brings the most.

    The last case is one that it cannot show: a step that is full is a constant, which a dual form puts into its bias.
    """
    cases: Sequence[tuple[str, dict[str, Any], str, Sources, bool]] = (
        ("delayed_copy", {"by": 3, "form": "shift"}, "rnn", copied, True),
        ("recall", {}, "gated-rnn", recalled, True),
        ("recall", {}, "gated-linear-rnn", recalled, True),
        ("delayed_copy", {"by": 3, "form": "digits"}, "linear-rnn", copied, False),
    )
    found = []
    for name, options, to, sources, yes in cases:
        made = program(name, **options)
        model = compile_program(made, to).model
        x = made.inputs(np.random.default_rng(3), TIME)
        form = (model_form if hasattr(model, "stages") else layer_form)(model, jnp.asarray(x))
        size = np.linalg.norm(form.total() if isinstance(form, ModelForm) else form.contributions(), axis=-1)
        rows = [row for row in range(TIME) if sources(x, row)]
        hits = sum(size[row].max() > 1e-6 and int(np.argmax(size[row])) in sources(x, row) for row in rows)
        answer = f"{hits} of {len(rows)}, residual {form.residual:.0e}"
        how = f" by {options['form']}" if options else ""
        question = f"{name}{how} as {to}: outputs whose strongest source is the right token"
        right = f"{len(rows)} of {len(rows)}" if yes else "none: a full step is a constant, and stands in the bias"
        found.append(Grade("the exact map", question, right, answer, hits == (len(rows) if yes else 0)))
    return found


def knock_outs() -> list[Grade]:
    """A token taken out: the network then gives what the program gives of the text without it."""
    found = []
    for name, to in (("dyck", "gated-linear-rnn"), ("majority", "lstm")):
        made = program(name)
        model = compile_program(made, to).model
        x = made.inputs(np.random.default_rng(4), TIME)
        worst = 0.0
        for gone in range(TIME):
            mask = np.arange(TIME) != gone
            y = np.asarray(model(jnp.asarray(x), mask=jnp.asarray(mask))[0])[mask]
            worst = max(worst, float(np.max(np.abs(y - interpret(made, x[mask])))))
        answer, question = f"{worst:.0e}", f"{name} as {to}: each token taken out in turn, the largest difference"
        found.append(Grade("mask", question, "0", answer, worst < 1e-9))
    return found


def held() -> list[Grade]:
    """What a linear map reads from the last layer's activations: what the program keeps, and what it cannot know."""
    made = program("dyck")
    model = compile_program(made, "gated-linear-rnn").model
    random, found = np.random.default_rng(5), []
    inputs = [made.inputs(random, TIME) for _ in range(60)]
    last = f"block {len(model.blocks)}.out"
    activations = np.stack(
        [np.asarray(lenses.trace(model, jnp.asarray(x), record=[last]).recorded[last]) for x in inputs]
    )
    depth = np.stack([interpret(made, x)[:, :1] for x in inputs])
    coming = np.stack([np.roll(x, -1, axis=0) for x in inputs])
    for what, labels, yes in (("the depth", depth, True), ("the next token", coming, False)):
        score = explained(activations[:, :-1], labels[:, :-1])
        question = f"dyck as gated-linear-rnn: {what}, R^2 on texts that the map was not fitted to"
        passed = score > 0.999 if yes else score < 0.05
        found.append(Grade("a linear probe", question, "1" if yes else "0", f"{score:.4f}", passed))
    return found


def explained(x: np.ndarray, y: np.ndarray) -> float:
    """R^2 of the least squares fit on the first half of the texts, on the second."""
    with_one = np.concatenate([x, np.ones((*x.shape[:2], 1))], axis=-1)
    half = len(x) // 2
    flat = lambda a: a.reshape(-1, a.shape[-1])
    w, *_ = np.linalg.lstsq(flat(with_one[:half]), flat(y[:half]), rcond=1e-10)
    left = flat(y[half:]) - flat(with_one[half:]) @ w
    return 1 - float(np.sum(left**2) / np.sum((flat(y[half:]) - flat(y[half:]).mean(0)) ** 2))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", help="the report, as Markdown")
    args = parser.parse_args()
    with jax.enable_x64(True):
        grades = [*discovery(), *maps(), *knock_outs(), *held()]
    lines = ["| tool | asked | right | answered | |", "|---|---|---|---|---|"]
    lines += [f"| {g.tool} | {g.question} | {g.right} | {g.answer} | {verdict(g.passed)} |" for g in grades]
    intro = (__doc__ or "").split("\n\n")[2].replace("\n", " ")
    said = f"{sum(g.passed for g in grades)} of {len(grades)} are right. Seeds are 0 to 5, in float64, texts of {TIME} tokens."
    print(
        write(
            args.write,
            "Tools on compiled networks",
            "python -m benchmarks.program_grades",
            [intro, said, "\n".join(lines)],
        )
    )


if __name__ == "__main__":
    main()
