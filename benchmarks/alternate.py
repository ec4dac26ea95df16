"""Measure several sides in turn, so that a machine that slows down slows them all, and report medians and ratios."""

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any


def alternate(sides: Mapping[str, Callable[[], object]], rounds: int = 15, warm: int = 2) -> dict[str, list[float]]:
    """Seconds of every run: each side once a round, in turn; `warm` rounds are run first and not counted.

    A side returns when its work is done (block on the result).
    """
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(warm + rounds):
        for name, run in sides.items():
            begin = time.perf_counter()
            run()
            if turn >= warm:
                seconds[name].append(time.perf_counter() - begin)
    return seconds


def ratio(seconds: Mapping[str, Sequence[float]], slow: str, fast: str) -> float:
    """The median over rounds of slow / fast, pair by pair."""
    return statistics.median(a / b for a, b in zip(seconds[slow], seconds[fast], strict=True))


def table(seconds: Mapping[str, Sequence[float]], per: float, unit: str, base: str) -> str:
    """A Markdown table: median, least and most of each side (divided by `per`), and its ratio to `base`."""
    lines = [f"| side | median {unit} | least | most | times `{base}` |", "|---|---|---|---|---|"]
    for name, runs in seconds.items():
        low, mid, high = (1e3 * value / per for value in (min(runs), statistics.median(runs), max(runs)))
        lines.append(f"| {name} | {mid:.3f} | {low:.3f} | {high:.3f} | {ratio(seconds, name, base):.2f} |")
    return "\n".join(lines)


def machine() -> str:
    """Where and with what it was measured."""
    named = ("dualform", "jax", "jaxlib", *(["torch"] if find_spec("torch") else []))
    packages = ", ".join(f"{name} {version(name)}" for name in named)
    return f"{os.cpu_count()} cores ({platform.machine()}), Python {platform.python_version()}, {packages}."


def verdict(met: bool) -> str:
    """The word behind a goal."""
    return "met" if met else "**missed**"


def against(fastest: Mapping[str, tuple[float, str]], goal: float) -> str:
    """How many times faster than the fastest peer of each kind, the goal, and whether it is met.

    **Arguments:** fastest: by kind, (times faster, the peer's name).
    """
    return "; ".join(
        f"{value:.2f} times faster than {name} (the fastest {kind}; goal {goal:g}: {verdict(value >= goal)})"
        for kind, (value, name) in fastest.items()
    )


def write(path: str | None, title: str, command: str, paragraphs: Sequence[str]) -> str:
    """The report as Markdown, also written to `path` where one is given."""
    text = f"# {title}\n\nMade by `{command}` on {machine()}\n\n" + "\n\n".join(paragraphs) + "\n"
    if path:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(text)
    return text


def keep(path: str | None, record: Mapping[str, Any]) -> None:
    """Write what a benchmark that trains found, with versions and machine, as JSON beside its report at `path`."""
    packages = ("dualform", "jax", "jaxlib", "equinox", "optax", "numpy")
    versions = {name: version(name) for name in packages} | {"python": platform.python_version()}
    machine = {"cores": os.cpu_count(), "architecture": platform.machine()}
    if path:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({**record, "versions": versions, "machine": machine}, indent=1)
        Path(path).with_suffix(".json").write_text(text + "\n")
