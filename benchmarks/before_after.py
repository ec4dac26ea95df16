"""Two checkouts on one machine: the times of the same benchmarks before and after a change, row by row.

    python -m benchmarks.before_after --before COMMIT --after COMMIT --pair OLD.md NEW.md [--pair ...] [--write FILE.md]

The reports are those that a benchmark writes in a checkout of each commit, with the same settings, one run behind the other. Rows
are found by the words of a table's first columns, times by the name of their column: what is said of dualform in milliseconds or
seconds. A ratio above 1 is faster now. Single rows are as noisy as the machine; over all rows of a report the geometric mean is
given, with the middle half of them.
"""

import argparse
import re
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.alternate import write

OURS = {"dualform ms": 1, "ms": 1, "ms a token": 1, "median ms": 1, "seconds": 1000}
"""Columns that hold a time of ours, and its milliseconds."""

UNITS = re.compile(r"[\d.,]+")


class Time(NamedTuple):
    """A row's words, and its milliseconds."""

    name: str
    ms: float


def times(report: str) -> Iterator[Time]:
    """Every time of ours in a report, in its order.

    A row's words are its first two cells, as far as they stand before the time, with the heading that it stands under.
    """
    head: list[str] = []
    section = ""
    for line in report.splitlines():
        if not line.startswith("|"):
            section = line.lstrip("# ") if line.startswith("#") else section
            head = []
            continue
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not head:
            head = cells
        elif not set(line) <= set("|-: "):
            column = next((i for i, name in enumerate(head) if name in OURS), None)
            theirs = "peer" not in head and "side" in head and not cells[0].startswith("dualform")
            if column is not None and not theirs and UNITS.fullmatch(cells[column]):
                words = ", ".join(cells[: min(2, column)])
                yield Time(f"{section}: {words}", float(cells[column].replace(",", "")) * OURS[head[column]])


def paired(before: str, after: str) -> list[tuple[str, float, float]]:
    """Rows that both reports have, once each: their words, and both times."""
    first: Mapping[str, float] = {time.name: time.ms for time in reversed(list(times(before)))}
    found: dict[str, tuple[float, float]] = {}
    for name, ms in times(after):
        if name in first:
            found.setdefault(name, (first[name], ms))
    return [(name, *both) for name, both in found.items()]


def section(title: str, rows: Sequence[tuple[str, float, float]]) -> str:
    """A report's rows, and what they come to."""
    ratios = [before / after for _, before, after in rows]
    quarters = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else [ratios[0]] * 3
    lines = [f"## {title}", ""]
    lines += [
        f"{len(rows)} rows: {statistics.geometric_mean(ratios):.2f} times as fast as before in the geometric mean, the middle "
        f"half from {quarters[0]:.2f} to {quarters[2]:.2f}.",
        "",
        "| what | before, ms | after, ms | times faster |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {name} | {before:g} | {after:g} | {ratio:.2f} |"
        for (name, before, after), ratio in zip(rows, ratios, strict=True)
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", required=True, help="the older commit")
    parser.add_argument("--after", required=True, help="the newer commit")
    parser.add_argument("--pair", nargs=2, action="append", required=True, type=Path, metavar=("OLD.md", "NEW.md"))
    parser.add_argument("--write", default=None)
    options = parser.parse_args()
    parts = []
    for old, new in options.pair:
        rows = paired(old.read_text(), new.read_text())
        if not rows:
            parser.error(f"{old} and {new} have no row in common; give two reports of one benchmark")
        title = new.read_text().splitlines()[0].lstrip("# ")
        made = [re.search(r"Made by `([^`]*)`", path.read_text()) for path in (old, new)]
        said = " and ".join(dict.fromkeys(f"`{each[1]}`" for each in made if each))
        parts.append(section(f"{title} ({said})", rows))
    said = f"Commit {options.before} against {options.after}. " + " ".join((__doc__ or "").split("\n\n")[2].split())
    command = (
        f"python -m benchmarks.before_after --before {options.before} --after {options.after} --pair OLD.md NEW.md ..."
    )
    print(write(options.write, "Before and after the rebuild of the layers", command, [said, *parts]))


if __name__ == "__main__":
    main()
