"""The report of `dualform reproduce`: the record of one result in, one self-contained HTML page out; and one for a paper's."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

from dualform.errors import FileError, require
from dualform.experiments.numerals import count, number
from dualform.experiments.reproduction import Paper
from dualform.reading import json_of_file
from dualform.reports.page import Section, Table, picture, render
from dualform.reports.paper_figures import figures_of
from dualform.training import write_atomically

FIELDS: dict[str, type | tuple[type, ...]] = {
    "paper": str,
    "name": str,
    "title": str,
    "preset": str,
    "command": str,
    "verdict": str,
    "why": str,
    "numbers": list,
    "unknowns": list,
    "data": dict,
    "seeds": int,
    "failed": list,
    "seconds": (int, float),
    "versions": dict,
}
"""What a record holds, and of which kind."""


def write_reproduction_page(folder: Path) -> Path:
    """Write `report.html` into the folder of one result, and return its path.

    **Raises:** `FileError` where the folder holds no result, a damaged one, or the page cannot be written.
    """
    page = folder / "report.html"
    write_atomically(page, reproduction_page(read_record(folder / "result.json")).encode())
    return page


def read_record(path: Path) -> dict[str, Any]:
    """A record that `dualform reproduce` has stored.

    **Raises:** `FileError` where there is none, it is not JSON, or lacks what every record has.
    """
    record = json_of_file(path, "Make the result again.")
    if record is None:
        raise FileError(f"{str(path)!r} is missing: make it with `dualform reproduce`.")
    wrong = [
        name for name, kind in FIELDS.items() if not isinstance(record, dict) or not isinstance(record.get(name), kind)
    ]
    if not wrong:
        rows = [set(row) if isinstance(row, dict) else set() for row in record["numbers"]]
        wrong += ["numbers"] * any(not {"name", "paper", "ours", "rule", "outcome"} <= row for row in rows)
        wrong += ["unknowns"] * any(not isinstance(row, list) or len(row) != 2 for row in record["unknowns"])
    if wrong:
        raise FileError(f"{str(path)!r} is no result of `dualform reproduce`: {', '.join(wrong)} missing or damaged.")
    return record


def reproduction_page(record: Mapping[str, Any]) -> str:
    """The page's HTML, from the record alone."""
    drawn = [picture(figure, caption) for figure, caption in figures_of(record)]
    sections = [Section("The paper's numbers and ours", table=numbers_table(record))]
    sections += [Section("The picture, from our data", figures=drawn)] if drawn else []
    sections += [Section("Runs that failed", record["failed"])] if record["failed"] else []
    if record["unknowns"]:
        sections.append(Section("What the paper does not say, and what was taken here", table=unknowns_table(record)))
    sections.append(Section("How it was made", [made_with(record)], code=record["command"]))
    return render(
        title=record["title"],
        lead=f"Paper {record['paper']}, preset {record['preset']}, {seeds_and_time(record)}.",
        verdict=record["verdict"].capitalize(),
        reasons=[*([record["why"]] if record["why"] else []), *reasons(record)],
        sections=sections,
    )


def reasons(record: Mapping[str, Any]) -> list[str]:
    """How many numbers came out how, which ones differ, and how many runs failed."""
    outcomes = Counter(row["outcome"] for row in record["numbers"])
    said = [f"{outcomes[name]} {name}" for name in ("met", "better", "differs", "ours alone") if outcomes[name]]
    sentences = [f"Of {len(record['numbers'])} numbers: {', '.join(said)}."] if said else []
    for row in record["numbers"]:
        if row["outcome"] == "differs":
            sentences.append(f"Differs: {row['name']} is {numeral(row['ours'])}; allowed is {row['rule']}.")
    return sentences + ([f"Runs that failed: {len(record['failed'])}."] if record["failed"] else [])


def numbers_table(record: Mapping[str, Any]) -> Table:
    """Every number beside the paper's, with how it came out and what was allowed; what a formula of ours gives has a column."""
    theory = any(row.get("expected") is not None for row in record["numbers"])
    rows = [
        [
            row["name"],
            numeral(row["paper"]),
            *([numeral(row.get("expected"))] if theory else []),
            numeral(row["ours"]),
            row["outcome"],
            row["rule"],
        ]
        for row in record["numbers"]
    ]
    head = ["number", "paper", *(["by formula"] if theory else []), "ours", "outcome", "what is allowed, and why"]
    return Table(head, rows, numeric=[1, 2, 3] if theory else [1, 2])


def unknowns_table(record: Mapping[str, Any]) -> Table:
    """What the paper leaves open, and our choices."""
    return Table(["unknown", "taken here"], record["unknowns"])


def made_with(record: Mapping[str, Any]) -> str:
    """Seeds, time and versions in one sentence."""
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    return f"{seeds_and_time(record)}; {versions}." if versions else f"{seeds_and_time(record)}."


def seeds_and_time(record: Mapping[str, Any]) -> str:
    """Such as: 4 seeds, 12 min."""
    seeds = record["seeds"]
    return f"{seeds} seed{'s' * (seeds != 1)}, {duration(record['seconds'])}"


def duration(seconds: float | int) -> str:
    """A time for a table."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def numeral(value: float | int | str | None) -> str:
    """A number for a table: whole ones as counts, small and large ones by their power of ten, words as they are."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if abs(value) < 1e6 and value == int(value):
        return count(value)
    return f"{value:.4g}" if 1e-2 <= abs(value) < 1e6 else number(value)


def write_summary(folder: Path, paper: Paper, records: Sequence[Mapping[str, Any]]) -> Path:
    """Write `report.html`, the table of a paper's results, beside the results' folders, and return its path.

    **Raises:** `FileError` where it cannot be written; `InputError` where there is no record.
    """
    page = folder / "report.html"
    write_atomically(page, summary_page(paper, records).encode())
    return page


def summary_page(paper: Paper, records: Sequence[Mapping[str, Any]]) -> str:
    """One row for each result, with a link to its report in the folder of its name.

    **Raises:** `InputError` where there is no record.
    """
    require(len(records) > 0, "there is no result to sum up; make one with `dualform reproduce`.")
    verdicts = Counter(record["verdict"] for record in records)
    verdict = next((name for name in ("differs", "better", "reproduced") if verdicts[name]), "ours alone")
    order = ("reproduced", "better", "differs", "ours alone")
    said = ", ".join(f"{verdicts[name]} {name}" for name in order if verdicts[name])
    table = Table(
        ["result", "verdict", "met", "better", "differ", "runs failed", "seeds", "time", "title"],
        [_summary_row(record) for record in records],
        numeric=[2, 3, 4, 5, 6, 7],
    )
    presets = ", ".join(dict.fromkeys(record["preset"] for record in records))
    return render(
        title=f"{paper.title}, reproduced",
        lead=f"{paper.citation}. Preset {presets}; {duration(sum(record['seconds'] for record in records))} in all.",
        verdict=verdict.capitalize(),
        reasons=[f"Of {len(records)} results: {said}."],
        sections=[Section("Results", table=table)],
    )


def _summary_row(record: Mapping[str, Any]) -> list[str]:
    outcomes = Counter(row["outcome"] for row in record["numbers"])
    link = Markup('<a href="{}/report.html">{}</a>').format(quote(record["name"], safe=""), record["name"])
    counts = [count(outcomes[name]) for name in ("met", "better", "differs")]
    failed = count(len(record["failed"]))
    return [
        link,
        record["verdict"],
        *counts,
        failed,
        count(record["seeds"]),
        duration(record["seconds"]),
        record["title"],
    ]
