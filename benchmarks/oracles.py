"""The error of every mixer against its stored oracles, for the table of mixers.

python -m benchmarks.oracles [--write FILE.json]

An oracle is a file of `tests/oracles/data`: outputs and gradients of an independent implementation. The error of a mixer is
the largest over its oracles, of outputs, final states and gradients. The installed package carries the file, and
`dualform mixers` and the docs show it.
"""

import argparse
import importlib
import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
from tests.oracles.held import Held, error

from dualform.mixers import registry

TESTS = Path(__file__).resolve().parents[1] / "tests" / "mixers"


def all_held() -> dict[str, Held]:
    """All that is held to a stored oracle, by the oracle's file."""
    found: dict[str, Held] = {}
    for path in sorted(TESTS.glob("test_*oracles.py")):
        found |= importlib.import_module(f"tests.mixers.{path.stem}").HELD
    return found


def measured() -> dict[str, dict[str, Any]]:
    """By mixer: the largest error, and the files and peers behind it."""
    jax.config.update("jax_enable_x64", True)
    mixers: dict[str, dict[str, Any]] = {}
    for stem, held in all_held().items():
        if held.mixer not in registry():
            continue
        found, row = error(stem, held), mixers.setdefault(held.mixer, {"error": 0.0, "oracles": {}})
        row["error"] = max(row["error"], found)
        row["oracles"][stem] = {"peer": held.peer, "error": found}
    return {name: mixers[name] for name in sorted(mixers)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", default=None, help="such as src/dualform/mixers/oracle_errors.json")
    options = parser.parse_args()
    versions = {name: version(name) for name in ("dualform", "jax", "numpy")} | {"python": platform.python_version()}
    text = json.dumps({"mixers": measured(), "versions": versions}, indent=1) + "\n"
    print(text)
    if options.write:
        Path(options.write).write_text(text)


if __name__ == "__main__":
    main()
