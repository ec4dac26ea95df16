"""Which planted faults the tests catch: one fault at a time is put into a copy of the repository, and its tests are run.

    python -m benchmarks.planted_faults [--only NAME ...] [--list] [--write FILE.md]

A fault of `benchmarks/planted_faults.toml` is a piece of source, what stands in its place, and the tests that should see it: of
the README's command alone, nothing of the thorough tier. The test that fails is run again without the fault, since one that
fails anyway catches nothing. A fault whose source is not found once is an error, so that the list cannot go stale in silence.
"""

import argparse
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LIST = ROOT / "benchmarks" / "planted_faults.toml"
LIMIT = 1800
"""Seconds for the tests of one fault."""
NO_IMPORT, NO_END = "(collection)", f"(no end in {LIMIT:,} s)"
"""Where the package no longer imports, and where its tests go on and on."""
TOO_LONG = 124
"""The exit code of tests that took longer."""


@dataclass(frozen=True)
class Fault:
    """One fault: what is wrong in a sentence, where, what stands there, what is put there, and the tests to run."""

    name: str
    file: str
    old: str
    new: str
    tests: str

    def planted(self, text: str) -> str:
        """The file's text with the fault in it.

        **Raises:** `SystemExit` where what is to be replaced does not stand there exactly once.
        """
        if text.count(self.old) != 1:
            raise SystemExit(
                f"{self.name}: its text stands {text.count(self.old)} times in {self.file}; mend the list."
            )
        return text.replace(self.old, self.new)


@dataclass(frozen=True)
class Outcome:
    """What the tests said of one fault: the first that failed, or None; and how long they took, in seconds."""

    fault: Fault
    test: str | None
    seconds: float


def faults() -> list[Fault]:
    """All of the list, checked against the source."""
    found = [Fault(**entry) for entry in tomllib.loads(LIST.read_text())["fault"]]
    for fault in found:
        fault.planted((ROOT / fault.file).read_text())
    return found


def copy_to(folder: Path) -> None:
    """The repository's tracked and new files, without what git ignores."""
    names = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.splitlines()
    for name in names:
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)


def run_tests(folder: Path, tests: Sequence[str]) -> tuple[int, str]:
    """pytest's exit code and output; it stops at the first failure."""
    environment = os.environ | {"PYTHONPATH": str(folder / "src"), "CI": "1"}
    environment.setdefault("DUALFORM_TEST_CACHE", str(ROOT / ".cache" / "jax"))
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
    try:
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=LIMIT)
    except subprocess.TimeoutExpired:
        return TOO_LONG, ""
    return done.returncode, done.stdout + done.stderr


def measure(chosen: Sequence[Fault]) -> list[Outcome]:
    """Each fault in turn.

    **Raises:** `SystemExit` where a test that fails with a fault fails without it, too.
    """
    outcomes = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "repository"
        copy_to(folder)
        for fault in chosen:
            path = folder / fault.file
            whole = path.read_text()
            path.write_text(fault.planted(whole))
            begin = time.monotonic()
            test = _first_failure(*run_tests(folder, fault.tests.split()))
            path.write_text(whole)
            if test is not None:
                again = {NO_IMPORT: ["--collect-only", *fault.tests.split()], NO_END: fault.tests.split()}.get(
                    test, [test]
                )
                code, said = run_tests(folder, again)
                if code != 0:
                    raise SystemExit(f"{test}: exit code {code} without any fault.\n{said[-2000:]}")
            outcomes.append(Outcome(fault, test, time.monotonic() - begin))
            print(f"{'caught' if test else 'MISSED'}  {fault.name}: {test}", flush=True)
    return outcomes


def _first_failure(code: int, said: str) -> str | None:
    """The test that failed first, words where there is none such, None where all passed."""
    if code in (0, TOO_LONG):
        return NO_END if code else None
    found = re.search(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", said, re.MULTILINE)
    return found.group(1) if found else NO_IMPORT


def report(outcomes: Sequence[Outcome]) -> str:
    """The table."""
    caught = sum(outcome.test is not None for outcome in outcomes)
    packages = ", ".join(f"{name} {version(name)}" for name in ("dualform", "jax", "pytest"))
    lines = [
        "# Planted faults",
        f"Made by `python -m benchmarks.planted_faults --write docs/benchmarks/planted_faults.md` with Python "
        f"{platform.python_version()}, {packages}.",
        f"{len(outcomes)} faults were put into the source, one at a time: **{caught} caught, {len(outcomes) - caught} "
        "missed** by the tests that the README's command runs (those of the folders concerned).",
        "| fault | file | caught by |\n|---|---|---|\n"
        + "\n".join(
            f"| {outcome.fault.name} | {outcome.fault.file.removeprefix('src/dualform/')} | "
            f"{_shown(outcome.test) if outcome.test else '**missed**'} |"
            for outcome in outcomes
        ),
    ]
    return "\n\n".join(lines) + "\n"


def _shown(test: str) -> str:
    return f"`{test.removeprefix('tests/').replace('|', '/')}`"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=None, help="names of faults, or beginnings of them")
    parser.add_argument("--list", action="store_true", help="name them and run nothing")
    parser.add_argument("--write", help="the report's file")
    given = parser.parse_args()
    chosen = [f for f in faults() if given.only is None or any(f.name.startswith(name) for name in given.only)]
    if given.list:
        print("\n".join(f"{fault.name}  ({fault.file})" for fault in chosen))
        return
    text = report(measure(chosen))
    print(text)
    if given.write:
        Path(given.write).write_text(text)


if __name__ == "__main__":
    main()
