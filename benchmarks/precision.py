"""Values and gradients in a user's dtype against float64, of every recurrence and every mixer, at the lengths around a chunk.

    python -m benchmarks.precision [--kinds recurrence mixer] [--asked float32:1,63,64,65,257 bfloat16:65] [--write FILE.md]

A case holds where every output and every gradient (of weights, tokens and first state, at 0.01, 1 and 10 times fresh weights) is
finite, as near to float64 on naive recurrences as a stated number of roundings allows, and independent of its neighbours in the
batch: `tests/precision`, with XLA's optimiser on and 64 bits off, as users have them.
"""

import argparse
import json
from pathlib import Path

from tests.precision.measure import ALIKE, ERASED, INSIDE, ROUNDINGS
from tests.precision.measured import wrong_in
from tests.recurrences.every import RECURRENCES

from benchmarks.alternate import keep, write
from dualform.mixers import registry

KINDS = {"recurrence": list(RECURRENCES), "mixer": list(registry())}


def wrong(kind: str, names: list[str], dtype: str, time: int) -> dict[str, list[str]]:
    """What is wrong with each case: the law's lines, or the error that ended it."""
    cases = [f"{kind}:{name}" for name in names]
    try:
        return dict(zip(names, wrong_in(dtype, time, cases).values(), strict=True))
    except AssertionError as error:
        if len(names) == 1:
            return {names[0]: [next(line for line in (*str(error).splitlines()[::-1], str(error)) if "Error" in line)]}
    half = len(names) // 2
    return wrong(kind, names[:half], dtype, time) | wrong(kind, names[half:], dtype, time)


def held(record: Path) -> set[tuple[str, str, str, int]]:
    """The cases of an earlier call that held."""
    cases = json.loads(record.read_text())["cases"]
    return {(each["kind"], each["name"], each["dtype"], each["time"]) for each in cases if not each["wrong"]}


def is_there(name: str, dtype: str) -> bool:
    """Whether there are numbers of this kind: there are no complex ones of bfloat16."""
    return dtype != "bfloat16" or not name.startswith("complex")


def word(lines: list[str]) -> str:
    """A cell: whether the case holds, or of how many parts something is wrong."""
    return f"**{len(lines)}**" if lines else "holds"


def main() -> None:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=list(KINDS))
    parser.add_argument(
        "--asked", nargs="+", default=["float32:1,63,64,65,257", "bfloat16:65"], help="dtypes, each with its lengths"
    )
    parser.add_argument(
        "--record",
        type=Path,
        default=None,
        help="the JSON that an earlier call left: what held there is not asked again",
    )
    parser.add_argument("--write", default=None)
    options = parser.parse_args()
    kept = set() if options.record is None else held(options.record)
    columns = [
        (dtype, int(time))
        for each in options.asked
        for dtype, _, times in [each.partition(":")]
        for time in times.split(",")
    ]
    paragraphs = [
        (__doc__ or "").split("\n\n")[2].replace("\n", " "),
        f"An error may be {ROUNDINGS['float32']:g} roundings in float32 and {ROUNDINGS['bfloat16']:g} in bfloat16 (delta rules: "
        f"{INSIDE:g} times as many, and {INSIDE * ERASED:g} times in the gradient of their first state), or as many times what "
        "float64 itself moves where its inputs are rounded once more, or "
        f"{ALIKE:g} times what the naive recurrence is off by in the same dtype. A number "
        "counts the outputs and gradients of which something is wrong; below the table is the first of each.",
    ]
    found, below = [], []
    for kind in options.kinds:
        lines = [
            "| " + " | ".join([kind, *(f"{dtype}, {time}" for dtype, time in columns)]) + " |",
            "|---" * (len(columns) + 1) + "|",
        ]
        answers = {}
        for dtype, time in columns:
            asked = [name for name in KINDS[kind] if is_there(name, dtype) and (kind, name, dtype, time) not in kept]
            answers[dtype, time] = dict.fromkeys(KINDS[kind], []) | (wrong(kind, asked, dtype, time) if asked else {})
            print(
                kind, dtype, time, {name: faults for name, faults in answers[dtype, time].items() if faults}, flush=True
            )
        for name in KINDS[kind]:
            told = [(dtype, time, answers[dtype, time][name]) for dtype, time in columns if is_there(name, dtype)]
            cells = [word(faults) for _, _, faults in told] + [""] * (len(columns) - len(told))
            lines.append("| " + " | ".join([name, *cells]) + " |")
            found += [{"kind": kind, "name": name, "dtype": d, "time": t, "wrong": faults} for d, t, faults in told]
            below += [f"- {name}, {d}, {t} tokens: {faults[0]}" for d, t, faults in told if faults]
        paragraphs.append("\n".join(lines))
    if kept:
        paragraphs.insert(2, f"{len(kept)} of the cases held in an earlier call, and are taken from its record.")
    paragraphs.append("\n".join(below) if below else "Nothing is wrong.")
    command = f"python -m benchmarks.precision --kinds {' '.join(options.kinds)} --asked {' '.join(options.asked)}"
    print(write(options.write, "Precision", command, paragraphs))
    keep(options.write, {"cases": found})


if __name__ == "__main__":
    main()
