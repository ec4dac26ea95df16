"""What `dualform lens` prints: what layers would say, token by token; of a training a bar, and KL by layer of both lenses."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from dualform.errors import printable
from dualform.intervals import mean_interval
from dualform.lenses import LensConfig
from dualform.lenses.lens_run import LensResult
from dualform.lenses.readings import BITS
from dualform.reports.lens import agreement
from dualform.reports.lens_view import LensView
from dualform.reports.terminal import Terminal, bare_table
from dualform.training import Progress as Trained

MOST_LAYERS, MOST_TOKENS = 6, 40
"""Columns and rows of a table in the terminal; the page has them all."""


def reading(terminal: Terminal, view: LensView) -> None:
    """The likeliest output of some layers after each token, by the last of the lenses, and how near each layer is to the end."""
    name, read = list(view.readings.items())[-1]
    time, layers = len(view.tokens), shown_layers(len(view.layers))
    terminal.unbroken((view.title, "bold"), f": the {name}'s likeliest output after each token, and its probability")
    table = bare_table()
    table.add_column("token")
    for layer in layers:
        table.add_column(Text(view.layers[layer]))
    first = max(0, time - MOST_TOKENS)
    chance = np.exp(read.log_probability[:, :, 0])
    for t in range(first, time):
        words = (f"{said(view.words[int(read.top[layer, t, 0])])} {chance[layer, t]:.0%}" for layer in layers)
        table.add_row(Text(said(view.tokens[t])), *map(Text, words))
    terminal.whole(table)
    left = [f"{first:,} tokens before these"] if first else []
    left += [f"{len(view.layers) - len(layers)} more layers"] if len(layers) < len(view.layers) else []
    if left:
        terminal.print(f"The page has {' and '.join(left)}, too.")
    _by_layer(terminal, view)


def _by_layer(terminal: Terminal, view: LensView) -> None:
    table = bare_table()
    table.add_column("layer")
    for name in view.readings:
        for what in (f"KL, {name}", "entropy", "as the end"):
            table.add_column(what, justify="right")
    for layer, of in enumerate(view.layers):
        cells = []
        for read in view.readings.values():
            kl, entropy = (float(np.mean(each[layer], dtype=np.float64)) for each in (read.kl_bits, read.entropy_bits))
            cells += [f"{kl:.3g}", f"{entropy:.3g}", f"{agreement(read)[layer]:.0%}"]
        table.add_row(Text(of), *cells)
    terminal.print()
    terminal.whole(table)
    terminal.print(
        "Means over tokens, in bits: KL(final || lens), the entropy of what the lens says; and at how many tokens its likeliest "
        "output is the model's."
    )


def shown_layers(count: int) -> list[int]:
    """The first, the last, and some spread evenly between them."""
    return sorted({round(each) for each in np.linspace(0, count - 1, min(count, MOST_LAYERS))})


def said(text: str) -> str:
    """A token in marks, short, and nothing in it moves the cursor."""
    text = printable(text.replace("\n", "\u23ce"), 60)
    return repr(text if len(text) <= 14 else f"{text[:13]}\u2026").replace("\\\\", "\\")


@contextmanager
def progress(terminal: Terminal, model: str, config: LensConfig, folder: Path) -> Iterator[Callable[[Trained], None]]:
    """A bar of the steps, with the KL that is left."""
    terminal.unbroken(f"a tuned lens for {model}, {config.tokens:,} tokens; ", ("run folder", "dim"), f" {folder}")
    columns = (
        MofNCompleteColumn(),
        BarColumn(bar_width=10),
        TextColumn("{task.fields[note]}", markup=False),
        TimeRemainingColumn(compact=True, elapsed_when_finished=True),
    )
    with Progress(*columns, console=terminal) as bars:
        bar = bars.add_task("train", total=config.steps, note="compiling")

        def show(at: Trained) -> None:
            bars.update(bar, completed=at.step, note=f"KL {at.loss * BITS:.4g} bits a token, summed over layers")

        yield show


def trained(terminal: Terminal, result: LensResult, out: Path, model: str) -> None:
    """KL by layer on what was held out, of both lenses, and where the lens is."""
    losses = result.losses
    table = bare_table()
    for column in ("layer", "KL, logit lens", "KL, tuned lens", "less by", "interval"):
        table.add_column(column, justify="left" if column == "layer" else "right")
    for i, layer in enumerate(losses.layers):
        less, low, high = (each * BITS for each in mean_interval(losses.logit[i] - losses.tuned[i]))
        means = (float(np.mean(each[i], dtype=np.float64)) * BITS for each in (losses.logit, losses.tuned))
        table.add_row(Text(layer), *(f"{each:.4g}" for each in (*means, less)), f"{low:.4g} to {high:.4g}")
    terminal.print(table)
    windows = losses.logit.shape[1]
    terminal.print(
        f"KL(final || lens) in bits a token, on {windows} windows of the text's last tenth, which was not trained on; intervals "
        f"of 95% for the paired difference. {result.steps:,} steps in {result.seconds:.0f} s."
    )
    terminal.unbroken(f"saved: {out}   (dualform lens {model} --tuned {out} --text '...')")
