"""The page of `dualform compile --report`: the program's graph after every pass, the network, and its certificate."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dualform.experiments.numerals import number
from dualform.programs import Certificate, Compiled, targets
from dualform.programs.graph import Block, Graph, Relu, Times
from dualform.reports.page import Picture, Section, Table, picture, render
from dualform.reports.program_figures import MOST, graph_figure
from dualform.tensor_file import write_atomically

PASSES = {
    "folded": "Everything linear is folded into the forms that ReLUs, products and states read.",
    "known": "ReLUs and products of what is known beforehand are gone.",
    "used": "What nothing reads is gone.",
    "apart": "States that do not touch each other are blocks of their own.",
    "merged": "Equal steps are one.",
    "from_zero": "Every state starts at 0, as a network's does.",
}
"""What each pass has done."""


def write_program_page(path: str | os.PathLike[str], compiled: Compiled, proved: Sequence[Certificate]) -> Path:
    """Write the page, and return its path.

    **Raises:** `FileError` where it cannot be written.
    """
    write_atomically(path, program_page(compiled, proved).encode())
    return Path(path)


def program_page(compiled: Compiled, proved: Sequence[Certificate]) -> str:
    """One self-contained HTML page."""
    program = compiled.program
    worst = max(each.error for each in proved if each.dtype == compiled.dtype)
    verdict = f"{program.name} as {compiled.to}: at most {number(worst)} from the interpreter in {compiled.dtype}"
    wrong = [each for each in proved if each.wrong]
    reasons = [
        f"{each.dtype}, {each.tokens:,} tokens: {100 * (each.wrong or 0):.3g}% of outputs are wrong." for each in wrong
    ]
    return render(
        title=f"{program.name}, compiled",
        lead=f"{program.what} The network is {targets()[compiled.to].what}.",
        verdict=verdict,
        reasons=reasons,
        sections=[
            _certificate(proved),
            Section(
                "The network", table=Table(("", ""), list(compiled.sizes().items()), (1,)), figures=_matrices(compiled)
            ),
            *_passes(compiled),
        ],
    )


def _certificate(proved: Sequence[Certificate]) -> Section:
    head = ("dtype", "inputs", "tokens", "largest error", "wrong outputs")
    wrong = lambda each: "" if each.wrong is None else f"{100 * each.wrong:.4g}%"
    made = [each for each in proved if each.refused is None]
    rows = [(p.dtype, f"{p.inputs:,}", f"{p.tokens:,}", number(p.error), wrong(p)) for p in made]
    refused = [f"There is no network in {each.dtype}: {each.refused}" for each in proved if each.refused is not None]
    said = (
        "The largest difference between the network's outputs and the interpreter's, which runs the program token by token in "
        "float64, on inputs drawn anew; divided by the size of the output where that is above 1."
    )
    return Section("Certificate", paragraphs=[said, *refused], table=Table(head, rows, (1, 2, 3, 4)))


def _passes(compiled: Compiled) -> list[Section]:
    """The graph after each pass that changed it, and after the last."""
    found, before = [], None
    for i, (name, graph) in enumerate(compiled.passes):
        if before is not None and graph == before and i + 1 < len(compiled.passes):
            continue
        before = graph
        found.append(Section(f"Pass {i}: {name}", paragraphs=[PASSES[name], _counts(graph)], figures=_drawn(graph)))
    return found


def _counts(graph: Graph) -> str:
    return (
        f"{graph.count(Block):,} blocks of states, {graph.count(Relu):,} ReLUs, {graph.count(Times):,} products, "
        f"{graph.numbers():,} numbers."
    )


def _drawn(graph: Graph) -> list[Picture]:
    if len(graph.steps) > MOST:
        return []
    return [picture(graph_figure(graph), "Layers from left to right; a line for each step that another one reads.")]


def _matrices(compiled: Compiled) -> list[Picture]:
    """Where the network's largest matrix has entries at all."""
    import equinox as eqx
    import jax
    from matplotlib.figure import Figure

    leaves = jax.tree_util.tree_leaves(eqx.filter(compiled.model, eqx.is_inexact_array))
    matrices = [np.asarray(leaf, np.float64) for leaf in leaves if leaf.ndim == 2]
    largest = max(matrices, key=lambda each: each.size)
    figure = Figure(figsize=(4, 3), layout="constrained")
    axes = figure.subplots()
    axes.imshow(largest != 0, cmap="Greys", aspect="auto", interpolation="nearest")
    axes.set_title(f"{largest.shape[0]} by {largest.shape[1]}, {np.count_nonzero(largest):,} entries", fontsize=8)
    return [picture(figure, "The entries of the network's largest matrix that are not 0.")]
