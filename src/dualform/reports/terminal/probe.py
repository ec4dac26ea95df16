"""What `dualform probe` prints: a row for each layer."""

from dualform.lenses.probes.measured import Probed
from dualform.lenses.probes.peeling import Peeled
from dualform.lenses.probes.scores import Rate
from dualform.reports.terminal import Terminal

BY = {
    "types": "a label drawn for each type of token",
    "shuffled": "the labels of other rows, since the probed tokens are of too few types",
}


def head(terminal: Terminal, kind: str, model: str, data: str, row: Probed | Peeled) -> None:
    """What is measured, and the table's head."""
    by = "the labels of other rows" if isinstance(row, Peeled) else BY[row.by]
    terminal.unbroken(
        f"{kind} probe of {model}: {row.fitted:,} rows of {data} fitted, {row.scored:,} of other texts scored; intervals of 95%. "
        f"Control: {by}."
    )
    columns = (
        ("whole lists", "labels", "linear", "control") if isinstance(row, Peeled) else ("accuracy", "AUROC", "control")
    )
    terminal.unbroken(f"{'layer':<20}{''.join(f'{each:<22}' for each in columns)}{'commonest':>9}")


def row(terminal: Terminal, layer: str, row: Probed | Peeled) -> None:
    """A row of the table."""
    rates = (
        (row.whole, row.each, row.linear, row.control)
        if isinstance(row, Peeled)
        else (row.accuracy, row.area, row.control)
    )
    terminal.unbroken(f"{layer:<20}{''.join(f'{_rate(each):<22}' for each in rates)}{row.majority:>9.3f}")


def _rate(rate: Rate) -> str:
    return f"{rate.value:.3f} ({rate.low:.3f}-{rate.high:.3f})"
