"""What `dualform construct` prints: what was built, and its certificate."""

from collections.abc import Iterable
from pathlib import Path

from rich.table import Table

from dualform.construct import Certificate, Construction, StackConstruction
from dualform.experiments.numerals import number
from dualform.reports.terminal import Terminal


def construction(terminal: Terminal, built: Construction, teacher: str, out: Path | None) -> None:
    """A gated RNN: its form, why that one, and its certificate."""
    certificate = built.certificate
    terminal.unbroken(f"{teacher}: form ", (built.used, "bold"))
    if built.reason is not None:
        terminal.print(f"asked for {built.asked}: {built.reason}")
    names = ("memory_units", "forget_units", "readout_units", "parameters", "attention_parameters")
    _certificate(terminal, certificate, names)
    _saved(terminal, out)


def stack(terminal: Terminal, built: StackConstruction, teacher: str, out: Path | None) -> None:
    """A stack: its layers, its precision, and its certificate."""
    terminal.unbroken(f"{teacher}: {built.layers} layer(s) of ", (built.form, "bold"), f", {built.dtype}")
    _certificate(terminal, built, ("hidden_units", "parameters", "attention_parameters"))
    _saved(terminal, out)


def _certificate(terminal: Terminal, proved: Certificate | StackConstruction, names: Iterable[str]) -> None:
    """The relative errors, and these counts."""
    table = Table("certificate", "")
    table.add_row("relative error, random input", number(proved.random_error))
    if proved.input_error is not None:
        table.add_row("relative error, the teacher's own input", number(proved.input_error))
    for name in names:
        table.add_row(name.replace("_", " "), str(getattr(proved, name)))
    terminal.print(table)


def _saved(terminal: Terminal, out: Path | None) -> None:
    if out is not None:
        terminal.unbroken(f"saved: {out}")
