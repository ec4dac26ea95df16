"""A program's graph as a picture: layers from left to right, in each its states, ReLUs and products."""

from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dualform.programs.graph import Atom, Block, Graph, Relu, Times
from dualform.programs.path import as_path
from dualform.reports.figures import INK

MOST = 600
"""Steps that can be drawn so that something is seen."""

KINDS = {
    "input": ("#8a8a8a", "s"),
    "state": ("#1f5fa8", "o"),
    "ReLU": ("#b8860b", "^"),
    "product": ("#b03a2e", "D"),
    "output": ("#333333", "s"),
}
"""The colour and the mark of each kind of node."""

_NAMES = {Block: "state", Relu: "ReLU", Times: "product"}


def graph_figure(graph: Graph) -> Figure:
    """The graph, (layer, place) for each step; a line for each step that another one reads.

    A layer's states stand before its units, which read them.
    """
    path, owner = as_path(graph), {}
    columns: list[list[tuple[str, str]]] = [[("input", f"i{atom}") for atom in range(graph.width)]]
    owner |= {atom: f"i{atom}" for atom in range(graph.width)}
    reads: list[tuple[str, Atom]] = []
    for layer in path.layers:
        for group in (layer.blocks, layer.units):
            column = []
            for placed in group:
                name = f"s{placed.first}"
                owner |= dict.fromkeys(placed.atoms, name)
                column.append((_NAMES[type(placed.step)], name))
                reads += [(name, atom) for form in placed.step.forms for atom in form.terms]
            if column:
                columns.append(column)
    columns.append([("output", f"o{i}") for i in range(len(graph.outputs))])
    reads += [(f"o{i}", atom) for i, form in enumerate(graph.outputs) for atom in form.terms]
    at = {name: (x, (y + 0.5) / len(column)) for x, column in enumerate(columns) for y, (_, name) in enumerate(column)}
    tallest = max(map(len, columns))
    figure = Figure(figsize=(min(11, 1.1 + 0.75 * len(columns)), min(7, 1.2 + 0.16 * tallest)), layout="constrained")
    axes = figure.subplots()
    lines = [(at[owner[atom]], at[name]) for name, atom in dict.fromkeys(reads)]
    axes.add_collection(
        LineCollection(lines, colors=INK, linewidths=0.5, alpha=max(0.06, min(0.5, 40 / max(1, len(lines)))))
    )
    size = max(8, min(60, 900 / tallest))
    for kind, (colour, mark) in KINDS.items():
        points = [at[name] for column in columns for each, name in column if each == kind]
        if points:
            x, y = zip(*points, strict=True)
            axes.scatter(x, y, s=size, c=colour, marker=mark, zorder=3)
    shown = [Line2D([], [], color=colour, marker=mark, lw=0, label=kind) for kind, (colour, mark) in KINDS.items()]
    axes.legend(handles=shown, fontsize=7, frameon=False, ncols=len(shown), loc="upper center", bbox_to_anchor=(0.5, 0))
    axes.set_xlim(-0.5, len(columns) - 0.5)
    axes.set_ylim(0, 1)
    axes.set_axis_off()
    return figure
