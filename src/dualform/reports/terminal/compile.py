"""What `dualform compile` prints: the programs, a compiled network, its outputs, its certificate."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.table import Table

from dualform.experiments.numerals import number
from dualform.programs import Certificate, Compiled, targets
from dualform.programs.automata import HOLDERS, KNOWN, CompiledAutomata
from dualform.reports.terminal import Terminal, bare_table

MOST = 40
"""Tokens of a run that are printed."""


def listed(terminal: Terminal) -> None:
    """The programs of the package, and the architectures."""
    from dualform.programs.library import library

    table = bare_table()
    table.add_column("program")
    table.add_column("what it gives at each token")
    for name, entry in library().items():
        table.add_row(name, entry.what)
    terminal.whole(table)
    terminal.print()
    table = bare_table()
    table.add_column("automaton")
    table.add_column("what it gives at each token")
    for name, make in KNOWN.items():
        table.add_row(f"automaton:{name}", " ".join((make.__doc__ or "").split("\n\n")[0].split()))
    terminal.whole(table)
    terminal.print()
    table = bare_table()
    table.add_column("architecture")
    table.add_column("its layers")
    table.add_column("which automata it holds")
    for name, each in targets().items():
        table.add_row(name, each.what, HOLDERS[name].what if name in HOLDERS else "none")
    terminal.whole(table)


def compiled(terminal: Terminal, found: Compiled) -> None:
    """What became of a program: its graph, and the network's size."""
    terminal.unbroken(f"{found.program.name} as ", (found.to, "bold"), f": {found.program.what}")
    table = Table("compiled", "")
    for name, value in found.sizes().items():
        table.add_row(name, value)
    terminal.print(table)


def automata(terminal: Terminal, found: CompiledAutomata) -> None:
    """What became of a table, or of several that read the same symbols."""
    for each in found.automata:
        terminal.unbroken(f"{each.name} as ", (found.to, "bold"), f": {each.what}")
    table, made = Table("compiled", ""), found.automata
    states = ", ".join(f"{each.states:,}" for each in made)
    for name, value in (
        ("states", states),
        ("symbols", f"{made[0].symbols:,}"),
        ("parameters", f"{found.parameters:,}"),
    ):
        table.add_row(name, value)
    terminal.print(table)


def run(terminal: Terminal, found: Compiled, tokens: np.ndarray, given: tuple[np.ndarray, np.ndarray]) -> None:
    """What a program's network and its interpreter give of some tokens."""
    outputs(terminal, found.dtype, tokens, given)


def outputs(terminal: Terminal, dtype: str, tokens: np.ndarray, given: tuple[np.ndarray, np.ndarray]) -> None:
    """What a network and an interpreter give of some tokens."""
    table = Table("token", "input", f"network, {dtype}", "interpreter")
    row = lambda numbers: " ".join(f"{each:.6g}" for each in np.asarray(numbers, np.float64))
    for i, (x, y, expected) in enumerate(zip(tokens, *given, strict=True)):
        if i < MOST:
            table.add_row(str(i + 1), row(x), row(y), row(expected))
    terminal.whole(table)
    if len(tokens) > MOST:
        terminal.print(f"and {len(tokens) - MOST} tokens more")


def certificates(terminal: Terminal, proved: Sequence[Certificate]) -> None:
    """How far the network is from the interpreter, for each dtype and length."""
    whole = any(each.wrong is not None for each in proved)
    table = Table("certificate", "inputs", "tokens", "largest error", *(["wrong outputs"] if whole else []))
    for each in proved:
        wrong: list[Any] = [] if each.wrong is None else [f"{100 * each.wrong:.4g}%"]
        if each.refused is None:
            table.add_row(each.dtype, f"{each.inputs:,}", f"{each.tokens:,}", number(each.error), *wrong)
    terminal.whole(table)
    for each in proved:
        if each.refused is not None:
            terminal.unbroken(f"no network in {each.dtype}: {each.refused}")
