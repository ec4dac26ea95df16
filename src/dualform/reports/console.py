"""What the command line shows: progress, verdicts and tables."""

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import rich.console
from rich.panel import Panel
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from dualform.checkpoints.catalogue import Known
from dualform.construct import Construction, StackConstruction
from dualform.errors import printable
from dualform.experiments.gated_rnn.evidence import COLUMNS, MEANING, PAPER, construction_sentence, recipe_name
from dualform.experiments.gated_rnn.identification import Moment
from dualform.experiments.memory import Row
from dualform.experiments.numerals import count, number
from dualform.experiments.reproduction import Paper
from dualform.generation import Perplexity
from dualform.mixers.card import WIDTH, Card
from dualform.reports.attend import strongest
from dualform.reports.attention_view import AttentionView, KeptView
from dualform.reports.memory import labels, percent
from dualform.training import Row as SweepRow

OUTCOME = {"met": "green", "better": "bold green", "differs": "yellow", "ours alone": "dim"}
VERDICT = {"reproduced": "green", "better": "green", "differs": "yellow", "ours alone": "dim"}
WIDE = 120
"""Columns of a terminal from which on the list of mixers says where each is from."""
STYLE = {"identified": "green", "function only": "yellow", "not identified": "red"}


class _Terminal(rich.console.Console):
    """Nothing in a text is a sign for rich: a name prints as it is, with its brackets and colons."""

    def __init__(self):
        super().__init__(markup=False, emoji=False, highlight=False)

    def on_broken_pipe(self) -> None:
        """Say so, as every file does; rich ends the program."""
        raise


class Console:
    """Writes to the terminal; plain text where there is none."""

    def __init__(self):
        self.console = _Terminal()

    def _line(self, *parts: str | tuple[str, str]) -> None:
        """A line that is not broken at the terminal's width; a part may have a style."""
        whole = lambda text: printable(text, len(text))
        safe = (whole(part) if isinstance(part, str) else (whole(part[0]), part[1]) for part in parts)
        self.console.print(Text.assemble(*safe), soft_wrap=True)

    @contextmanager
    def progress(self, run: Path) -> Iterator[Callable[[Moment], None]]:
        """A bar for each stage of a run: loss, the split of the decays, the time left."""
        self._line(("run folder", "dim"), f" {run}")
        columns = (
            TextColumn("{task.description:<12}", markup=False),
            BarColumn(bar_width=10),
            TextColumn("{task.fields[note]:<44}", markup=False),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
        )
        bars: dict[str, Any] = {}
        with Progress(*columns, console=self.console) as progress:

            def show(moment: Moment) -> None:
                if moment.stage not in bars:
                    bars[moment.stage] = progress.add_task(moment.stage, total=moment.total, note="")
                progress.update(bars[moment.stage], completed=moment.done, note=moment.note)

            yield show

    def verdict(self, result: Mapping[str, Any], page: Path) -> None:
        """The verdict in plain words, the table of evidence beside the paper's, and where the report is."""
        style = STYLE[result["verdict"]]
        reasons = "\n".join(f"• {reason}" for reason in result["reasons"])
        title = Text(result["verdict"], f"bold {style}")
        self.console.print(Panel(reasons, title=title, title_align="left", border_style=style))
        self.console.print(self._evidence(result))
        for name, what in COLUMNS.items():
            self.console.print(f"  {name}: {what}")
        self.console.print(construction_sentence(result))
        self.console.print(
            f"attention weights read back give the teacher's outputs to {number(result['recovered_error'])} (relative); "
            f"{result['steps']} training steps in {result['training_seconds']:.0f} s, {result['seconds']:.0f} s in all"
        )
        self._line(f"report: {page}   (dualform view {page.parent})")

    def _evidence(self, result: Mapping[str, Any]) -> Table:
        recipe = result.get("paper_recipe")
        table = Table("evidence", title_justify="left")
        for name in (*COLUMNS, "paper", *([recipe_name(result["steps"])] if recipe else [])):
            table.add_column(name, justify="right")
        table.add_row("verdict of its own", *(result[name]["verdict"] for name in COLUMNS))
        for key, meaning in MEANING.items():
            shown = count if isinstance(PAPER[key], int) else number
            row = [
                meaning.name,
                *(shown(column[key]) for column in (*(result[name] for name in COLUMNS), PAPER)),
            ]
            table.add_row(*row, *([shown(recipe[key])] if recipe else []))
        return table

    def summary(self, results: Sequence[Mapping[str, Any]]) -> None:
        """One row for each seed."""
        table = Table("seed", "verdict", title="all seeds", title_justify="left")
        for meaning in MEANING.values():
            table.add_column(meaning.name, justify="right")
        table.add_column("seconds", justify="right")
        for result in results:
            numbers = [(count if isinstance(PAPER[key], int) else number)(result[key]) for key in MEANING]
            table.add_row(str(result["seed"]), result["verdict"], *numbers, f"{result['seconds']:.0f}")
        self.console.print(table)

    def construction(self, built: Construction, teacher: str, out: Path | None) -> None:
        """What was built, why that form, and its certificate."""
        certificate = built.certificate
        self._line(f"{teacher}: form ", (built.used, "bold"))
        if built.reason is not None:
            self.console.print(f"asked for {built.asked}: {built.reason}")
        table = Table("certificate", "")
        table.add_row("relative error, random input", number(certificate.random_error))
        if certificate.input_error is not None:
            table.add_row("relative error, the teacher's own input", number(certificate.input_error))
        for name in ("memory_units", "forget_units", "readout_units", "parameters", "attention_parameters"):
            table.add_row(name.replace("_", " "), str(getattr(certificate, name)))
        self.console.print(table)
        if out is not None:
            self._line(f"saved: {out}")

    def stack(self, built: StackConstruction, teacher: str, out: Path | None) -> None:
        """What was built, and its certificate."""
        self._line(f"{teacher}: {built.layers} layer(s) of ", (built.form, "bold"), f", {built.dtype}")
        table = Table("certificate", "")
        table.add_row("relative error, random input", number(built.random_error))
        if built.input_error is not None:
            table.add_row("relative error, the teacher's own input", number(built.input_error))
        for name in ("hidden_units", "parameters", "attention_parameters"):
            table.add_row(name.replace("_", " "), str(getattr(built, name)))
        self.console.print(table)
        if out is not None:
            self._line(f"saved: {out}")

    def papers(self, papers: Iterable[Paper]) -> None:
        """Every paper with its results, and how one is made."""
        for paper in papers:
            self._line((paper.name, "bold"), f"  {paper.title}. {paper.citation}")
            width = max(map(len, paper.results))
            for name, experiment in paper.results.items():
                self._line(f"  {name:{width}}  ", (experiment.title, "dim"))
        self._line("To make some of a paper's results, or all of them: dualform reproduce PAPER [RESULT ...]")

    def begin(self, name: str, title: str) -> None:
        """What is made next."""
        self._line((name, "bold"), f"  {title}")

    def left_out(self, name: str, error: Exception) -> None:
        """A result that is not made, and why."""
        self._line((name, "bold"), "  ", ("left out", "yellow"), f": {error}")

    def row(self, sweep: str, row: SweepRow, done: int, total: int) -> None:
        """One run of a sweep, as it is done or has failed."""
        what = (f"{row.seconds:.0f} s",) if row.status == "done" else (("failed", "red"), f": {row.reason}")
        self._line("  ", (f"{sweep} {done}/{total}", "dim"), f"  {row.name}  ", *what)

    def reproduction(self, record: Mapping[str, Any], page: Path) -> None:
        """The numbers of one result beside the paper's, the verdict, and where the report is."""
        table = Table("", title_justify="left")
        for name in ("paper", "by formula", "ours"):
            table.add_column(name, justify="right")
        table.add_column("outcome")
        for entry in record["numbers"]:
            style = OUTCOME[entry["outcome"]]
            cells = (_cell(entry["paper"]), _cell(entry.get("expected")), _cell(entry["ours"]))
            table.add_row(entry["name"], *cells, Text(entry["outcome"], style))
        self.console.print(table)
        for reason in record["failed"]:
            self._line("  ", ("failed", "red"), f" {reason}")
        style = VERDICT[record["verdict"]]
        self._line(
            (record["verdict"], f"bold {style}"),
            f"; {record['seeds']} seed(s), {record['seconds']:.0f} s; report: {page}",
        )

    def reproductions(self, records: Sequence[Mapping[str, Any]], page: Path) -> None:
        """One row for each result of a paper."""
        table = Table(
            "result", "verdict", "numbers met", "differ", "seconds", title=records[0]["paper"], title_justify="left"
        )
        for record in records:
            outcomes = [entry["outcome"] for entry in record["numbers"]]
            met, differ = (
                sum(o in ("met", "better") for o in outcomes),
                outcomes.count("differs") + len(record["failed"]),
            )
            verdict = Text(record["verdict"], VERDICT[record["verdict"]])
            table.add_row(record["name"], verdict, str(met), str(differ), f"{record['seconds']:.0f}")
        self.console.print(table)
        self._line(f"report: {page}")

    def mixers(self, cards: Sequence[Card]) -> None:
        """The registry as a table, then what its columns mean."""
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
        wide = self.console.width >= WIDE
        for column in ("name", "kept", "step", "runs on", "dual form", "error", *(("source",) if wide else ())):
            table.add_column(
                column,
                no_wrap=column not in ("runs on", "source"),
                justify="right" if column in ("kept", "step") else "left",
            )
        for each in cards:
            recurrences = ", ".join(form.partition(":")[0] for form in each.forms)
            error = "none stored" if each.error is None else f"{each.error:.0e}"
            kind = "linear" if each.exact.startswith("linear") else "frozen"
            row = (each.name, f"{each.numbers:,}", f"{each.operations:,}", recurrences, kind, error)
            table.add_row(*row, *((_first_reference(each.source),) if wide else ()))
        self.console.print(table)
        self.console.print(
            f"kept: numbers in the state; step: operations for one token, both at width {WIDTH}. Dual form: linear given its "
            "gates, or with a frozen nonlinearity. Error: the largest against public implementations, gradients included. "
            "`dualform mixers NAME` shows one in full."
        )

    def mixer(self, card: Card) -> None:
        """One mixer in full: what its docstring says, then what it costs and how it was checked."""
        self.console.print(Text.assemble((card.name, "bold"), f": {card.kind}\n"))
        for paragraph in card.text.split("\n\n"):
            # Equations, lists and examples keep their lines; prose is wrapped anew.
            kept = paragraph.startswith((" ", "- ", ">>>"))
            text = paragraph if kept else " ".join(paragraph.split())
            parts = re.split(r"\*\*(\w+:)\*\*", text)  # every other one is a word in bold
            styled = ((part, "bold" if place % 2 else "") for place, part in enumerate(parts))
            self.console.print(Text.assemble(*styled, "\n"))
        table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
        table.add_column(style="bold", no_wrap=True)
        table.add_column()
        shapes = ", ".join(f"({', '.join(map(str, shape))})" for shape in card.state)
        error = "none stored" if card.error is None else f"{card.error:.0e}, the largest, gradients included"
        rows = {
            f"state at d = {WIDTH}": f"{shapes}: {card.numbers:,} numbers",
            "one token": f"{card.operations:,} operations",
            "runs on": "; ".join(card.forms),
            "dual form": card.exact,
            "attention map": "in closed form" if card.closed_form else "from the contributions",
            "error": error,
        }
        for name, value in rows.items():
            table.add_row(name, value)
        self.console.print(table)

    def attention(self, view: AttentionView, path: Path) -> None:
        """The certificates of the whole and of each layer, what the last token takes most from, and where the page is."""
        self._line((view.title, "bold"), f": {view.target}")
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
        for column in ("layer", "residual", "maps", "over", "of the maps", "kind"):
            table.add_column(column, no_wrap=column != "kind", justify="right" if column == "maps" else "left")
        number = lambda residual: "no sum" if math.isnan(residual) else f"{residual:.1e}"
        for layer in view.layers:
            over, worst = ", ".join(dict.fromkeys(layer.over)), max(layer.map_residuals, default=math.nan)
            own = number(worst) if layer.map_residuals else ""
            table.add_row(layer.name, number(layer.residual), str(len(layer.maps)), over, own, layer.kind)
        self.console.print(table)
        row, most = strongest(view)
        shown = ", ".join(f"{view.tokens[s]!r} at {s} ({value:+.3f})" for s, value in most)
        self.console.print(
            f"Token {row}, {view.tokens[row]!r}, takes most from {shown}."
            if most
            else f"Token {row}, {view.tokens[row]!r}, takes nothing from any token."
        )
        self._line(f"The whole model's residual is {view.residual:.1e}. {path}")

    def kept(self, kept: KeptView) -> None:
        """What a bounded model keeps: who keeps the first token, then a row for each kind of token."""
        time = kept.dropped.shape[2]
        first, heads = int((kept.dropped[:, :, 0] == time).sum()), kept.dropped[:, :, 0].size
        at_once = float((kept.dropped == np.arange(time)).mean())
        self.console.print(
            f"\nKept under {kept.policy}, over {len(kept.layers)} layers: the first token by {first} of {heads} heads; "
            f"{at_once:.1%} of tokens are dropped at once."
        )
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
        for column in ("kind of token", "tokens", "kept in the end", "kept k later", "mean life"):
            table.add_column(column, justify="left" if column == "kind of token" else "right")
        percent = lambda share: "none so old" if math.isnan(share) else f"{share:.1%}"
        for kind, tokens, end, later, life in kept.kinds:
            table.add_row(kind, str(tokens), percent(end), percent(later), f"{life:.1f}")
        self.console.print(table)
        self.console.print(
            "kept k later: still kept after as many more tokens as a layer has states; a window keeps none so long."
        )

    def models(self, models: Sequence[tuple[Known, bool]], folder: Path) -> None:
        """The known models as a table, and where those that are there lie."""
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
        for column in ("name", "cached", "MB", "licence", "what it does"):
            table.add_column(column, no_wrap=column != "what it does", justify="right" if column == "MB" else "left")
        for model, there in models:
            size, what = sum(member.bytes for member in model.members) / 1e6, f"{model.what} ({model.architecture})"
            table.add_row(model.name, "yes" if there else "no", f"{size:.1f}", model.licence, what)
        self.console.print(table)
        self._line(f"The cache is {folder}. To bring a model there: dualform models get NAME")

    def getting(self, model: Known) -> None:
        """What is brought, from where, and under which licence."""
        size = sum(member.bytes for member in model.members) / 1e6
        self.console.print(
            f"{model.name}: {model.what} ({model.architecture}); {size:.1f} MB of weights under {model.licence}, from the "
            f"package {model.package}=={model.version}"
        )

    def got(self, places: Sequence[Path]) -> None:
        """The files, one on a line."""
        for place in places:
            self._line(f"  {place}")

    def perplexities(self, model: str, text: str, passages: int, length: int) -> None:
        """What is measured, and the table's head."""
        self._line(
            f"{model} on {text}: {passages} passages of {length:,} tokens; intervals of 95%, and nats a token above full"
        )
        self.console.print(f"{'policy':<14}{'states':>8}{'perplexity':>12}  {'interval':<20}{'above full':<20}")

    def perplexity(self, policy: str, states: int | None, found: Perplexity, full: Perplexity | None) -> None:
        """A row of the table; the difference is paired, passage by passage."""
        kept = "all" if states is None else f"{states:,}"
        above = ""
        if full is not None and full is not found:
            gap = Perplexity.of(found.losses - full.losses)
            value, low, high = gap.nats
            above = f"{value:.3f} ({low:.3f} to {high:.3f})"
        interval = f"{found.low:.2f} to {found.high:.2f}"
        self.console.print(f"{policy:<14}{kept:>8}{found.value:>12.2f}  {interval:<20}{above:<20}")

    def remembering(self, about: str, turns: int) -> None:
        """What is measured, and the table's head."""
        self._line(f"{about} Scores in percent, with intervals of 95%.")
        head = "".join(f"{f'turn {i + 1}':<15}" for i in range(turns))
        self.console.print(f"{'task, score':<30}{'policy':<12}{'states':>7}  {head}{'mean':>4}", soft_wrap=True)

    def remembered(self, row: Row) -> None:
        """A row of the table."""
        task, name, states = labels(row)
        cells = "".join(f"{percent(each):<15}" for each in row.turns)
        told = f"{task:<30}{name:<12}{states:>7}  {cells}{100 * row.mean:>4.0f}"
        self._line(told)


def _first_reference(source: str) -> str:
    """A source up to the end of its first arXiv number, without what differs and who else."""
    found = re.match(r".*?\(.*?arXiv [\d.]+[^)]*\)", source)
    return found.group() if found else source


def _cell(value: Any) -> str:
    """A number, words, or nothing."""
    if value is None:
        return ""
    return value if isinstance(value, str) else f"{value:.4g}"
