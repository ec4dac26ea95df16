"""What `dualform reproduce` prints: the papers, each run as it ends, and numbers beside the paper's."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from dualform.experiments.reproduction import Paper
from dualform.reports.terminal import Terminal
from dualform.training import Row

OUTCOME = {"met": "green", "better": "bold green", "differs": "yellow", "ours alone": "dim"}
VERDICT = {"reproduced": "green", "better": "green", "differs": "yellow", "ours alone": "dim"}


def papers(terminal: Terminal, known: Iterable[Paper]) -> None:
    """Every paper with its results, and how one is made."""
    for paper in known:
        terminal.unbroken((paper.name, "bold"), f"  {paper.title}. {paper.citation}")
        width = max(map(len, paper.results))
        for name, experiment in paper.results.items():
            terminal.unbroken(f"  {name:{width}}  ", (experiment.title, "dim"))
    terminal.unbroken("To make some of a paper's results, or all of them: dualform reproduce PAPER [RESULT ...]")


def begin(terminal: Terminal, name: str, title: str) -> None:
    """What is made next."""
    terminal.unbroken((name, "bold"), f"  {title}")


def left_out(terminal: Terminal, name: str, error: Exception) -> None:
    """A result that is not made, and why."""
    terminal.unbroken((name, "bold"), "  ", ("left out", "yellow"), f": {error}")


def row(terminal: Terminal, sweep: str, run: Row, done: int, total: int) -> None:
    """One run of a sweep, as it is done or has failed."""
    what = (f"{run.seconds:.0f} s",) if run.status == "done" else (("failed", "red"), f": {run.reason}")
    terminal.unbroken("  ", (f"{sweep} {done}/{total}", "dim"), f"  {run.name}  ", *what)


def reproduction(terminal: Terminal, record: Mapping[str, Any], page: Path) -> None:
    """The numbers of one result beside the paper's, the verdict, and where the report is."""
    table = Table("", title_justify="left")
    for name in ("paper", "by formula", "ours"):
        table.add_column(name, justify="right")
    table.add_column("outcome")
    for entry in record["numbers"]:
        style = OUTCOME[entry["outcome"]]
        cells = (_cell(entry["paper"]), _cell(entry.get("expected")), _cell(entry["ours"]))
        table.add_row(entry["name"], *cells, Text(entry["outcome"], style))
    terminal.print(table)
    for reason in record["failed"]:
        terminal.unbroken("  ", ("failed", "red"), f" {reason}")
    style = VERDICT[record["verdict"]]
    terminal.unbroken(
        (record["verdict"], f"bold {style}"),
        f"; {record['seeds']} seed(s), {record['seconds']:.0f} s; report: {page}",
    )


def reproductions(terminal: Terminal, records: Sequence[Mapping[str, Any]], page: Path) -> None:
    """One row for each result of a paper."""
    table = Table(
        "result", "verdict", "numbers met", "differ", "seconds", title=records[0]["paper"], title_justify="left"
    )
    for record in records:
        outcomes = [entry["outcome"] for entry in record["numbers"]]
        met = sum(outcome in ("met", "better") for outcome in outcomes)
        differ = outcomes.count("differs") + len(record["failed"])
        verdict = Text(record["verdict"], VERDICT[record["verdict"]])
        table.add_row(record["name"], verdict, str(met), str(differ), f"{record['seconds']:.0f}")
    terminal.print(table)
    terminal.unbroken(f"report: {page}")


def _cell(value: Any) -> str:
    """A number, words, or nothing."""
    if value is None:
        return ""
    return value if isinstance(value, str) else f"{value:.4g}"
