"""Every program of the package in every architecture: the network's error and size, or why there is none.

    python -m benchmarks.program_certificates [--programs NAME ...] [--to NAME ...] [--inputs 1000] [--long 4095]
                                              [--record FILE.json] [--write FILE.md]

A program is compiled in float64 and in float32, and each network is held against the interpreter on drawn inputs of 65 tokens,
which are inputs of every length up to there, since an output has seen what stands before it alone; and on two of `--long` tokens,
where a state would drift. Nothing of a network was made from these inputs. Compiling is timed up to the weights, once. With a
record, what is there is not measured again.
"""

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from benchmarks.alternate import verdict, write
from dualform.errors import InputError
from dualform.programs import certify, compile_program, targets
from dualform.programs.compiled import SHORT
from dualform.programs.library import library, program

LIMITS = {"float64": 1e-9, "float32": 1e-4}
"""What an error may be."""

SECONDS = 10.0
"""What compiling may take."""


def measured(name: str, to: str, inputs: int, long: int) -> dict[str, Any]:
    """One program in one architecture: its size and errors, or why there is none."""
    made, found = program(name), {"program": name, "to": to}
    for dtype in LIMITS:
        begin = time.perf_counter()
        try:
            compiled = compile_program(made, to, dtype)
        except InputError as reason:
            return found | {"refused": str(reason)}
        seconds = time.perf_counter() - begin
        short = certify(compiled, inputs=inputs, lengths=(SHORT,))
        drift = certify(compiled, inputs=2, lengths=(long,), seed=1)
        found |= {
            "layers": compiled.layers,
            "parameters": compiled.parameters,
            "stored": compiled.stored,
            "graph": compiled.passes[-1][1].numbers(),
            f"{dtype} seconds": seconds,
            f"{dtype} error": short.error,
            f"{dtype} drift": drift.error,
            f"{dtype} wrong": None if short.wrong is None else max(short.wrong, drift.wrong or 0.0),
        }
    return found


HEAD = (
    "program",
    "architecture",
    "layers",
    "not 0",
    "of all",
    "the graph's",
    "s",
    "float64",
    "float32",
    "long, float64",
    "long, float32",
    "wrong",
)
"""The columns of the table."""


def cells(row: Mapping[str, Any]) -> list[str]:
    """A network's row."""
    wrong = [row[f"{dtype} wrong"] for dtype in LIMITS]
    return [
        row["program"],
        row["to"],
        str(row["layers"]),
        f"{row['stored']:,}",
        f"{row['parameters']:,}",
        f"{row['graph']:,}",
        f"{row['float64 seconds']:.2f}",
        *(f"{row[f'{dtype} {kind}']:.1e}" for kind in ("error", "drift") for dtype in LIMITS),
        "" if wrong[0] is None else ", ".join(f"{100 * (each or 0):.3g}%" for each in wrong),
    ]


def tables(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The report."""
    held = [row for row in rows if "refused" not in row]
    good = sum(all(row[f"{dtype} error"] <= limit for dtype, limit in LIMITS.items()) for row in held)
    right = sum(not any(row[f"{dtype} wrong"] for dtype in LIMITS) for row in held)
    slowest = max((row[f"{dtype} seconds"] for row in held for dtype in LIMITS), default=0.0)
    said = (
        f"{len(held)} networks of {len(rows)} pairs; {len(rows) - len(held)} are refused. Of the networks {good} are within "
        f"{LIMITS['float64']:g} in float64 and {LIMITS['float32']:g} in float32 ({verdict(good == len(held))}); no "
        f"whole-numbered output is wrong in {right} of them ({verdict(right == len(held))}). "
        f"Compiling took at most {slowest:.1f} s (goal {SECONDS:g}: {verdict(slowest <= SECONDS)})."
    )
    lines = [HEAD, ["---"] * len(HEAD), *(cells(row) for row in held)]
    reasons = [["program", "architecture", "why there is none"], ["---"] * 3]
    reasons += [[row["program"], row["to"], row["refused"]] for row in rows if "refused" in row]
    joined = lambda rows: "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return [said, joined(lines), joined(reasons)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", nargs="+", default=list(library()))
    parser.add_argument("--to", nargs="+", default=list(targets()))
    parser.add_argument("--inputs", type=int, default=1000)
    parser.add_argument("--long", type=int, default=4095)
    parser.add_argument("--record", type=Path, help="what was measured, as JSON")
    parser.add_argument("--write", help="the report, as Markdown")
    args = parser.parse_args()
    rows = json.loads(args.record.read_text()) if args.record and args.record.exists() else []
    there = {(row["program"], row["to"]) for row in rows}
    with jax.enable_x64(True):
        for name in args.programs:
            for to in args.to:
                if (name, to) not in there:
                    rows.append(measured(name, to, args.inputs, args.long))
                    jax.clear_caches()
                    if args.record:
                        args.record.write_text(json.dumps(rows, indent=1) + "\n")
    asked = [row for row in rows if row["program"] in args.programs and row["to"] in args.to]
    intro = (__doc__ or "").split("\n\n")[2].replace("\n", " ")
    command = f"python -m benchmarks.program_certificates --inputs {args.inputs} --long {args.long}"
    print(write(args.write, "Programs in every architecture", command, [intro, *tables(asked)]))


if __name__ == "__main__":
    main()
