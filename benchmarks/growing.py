"""What a state of a transformer with its whole cache takes by how much was read, and a step from it, beside an earlier checkout.

    python -m benchmarks.growing --before ../earlier/src --write docs/benchmarks/growing.md

A model of SmolLM2-135M's sizes with fresh weights in float32 and a context of 8,192 tokens: a state and a step cost the same,
whatever they hold. A session writes, and an eager loop calls `model.step`, from the same number of tokens on. Each checkout is
a process of its own; they are measured in turn, and medians are given. The first step of a size is compiled, and is told apart.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

SIZES: Any = {"vocabulary": 49_152, "d": 576, "layers": 30, "heads": 9, "kv_heads": 3, "hidden": 1536, "tied": True}
CONTEXT = 8192


def work(tokens: int) -> None:
    """Answer lines from standard input by numbers, in the checkout that is on the path."""
    import jax
    import jax.numpy as jnp
    import jax.random as jr
    import numpy as np

    from dualform import generation, models

    model = models.llama(key=jr.key(0), context=CONTEXT, **SIZES)
    text, kept = np.arange(CONTEXT) % 1000, {}
    size = lambda state: sum(leaf.nbytes for leaf in jax.tree_util.tree_leaves(state))

    def session(read: int) -> Any:
        one: Any = generation.Session(model, history=0)
        one.read(text[:read])
        return one

    def steps(kind: str, read: int) -> float:
        """Milliseconds of a token, of so many that follow each other."""
        if kind == "session":
            one = kept[kind, read]
            begin = time.perf_counter()
            one.write(tokens, temperature=0)
            jax.block_until_ready(one._state)
        else:
            state = kept[kind, read]
            begin = time.perf_counter()
            for t in range(tokens):
                _, state = model.step(jnp.asarray(t, jnp.int32), state)
            jax.block_until_ready(state)
        return 1e3 * (time.perf_counter() - begin) / tokens

    def begun(kind: str, read: int) -> float:
        """Seconds of the first token, compiled."""
        if kind == "session":
            kept[kind, read] = session(read)
        else:
            room: Any = getattr(generation, "state_for", None)
            start = room(model, read + tokens) if room else model.init_state()
            kept[kind, read] = jax.block_until_ready(model(jnp.asarray(text[:read]), start)[1])
        begin = time.perf_counter()
        if kind == "session":
            kept[kind, read].write(1, temperature=0)
        else:
            jax.block_until_ready(model.step(jnp.asarray(1, jnp.int32), kept[kind, read]))
        return time.perf_counter() - begin

    does = {
        "begin": begun,
        "steps": steps,
        "bytes": lambda kind, read: size((session(read) if read else generation.Session(model, history=0)).state),
        "end": lambda kind, read: float(kept.pop((kind, read)) is None),
    }
    print("ready", flush=True)
    for line in sys.stdin:
        what, kind, read = line.split()
        print(does[what](kind, int(read)), flush=True)


class Side:
    """A checkout at work in a process of its own."""

    def __init__(self, source: str, tokens: int):
        command = [sys.executable, __file__, "--work", "--tokens", str(tokens)]
        environment = os.environ | {"PYTHONPATH": source}
        pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen(command, env=environment, **pipes)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def ask(self, what: str, kind: str = "session", read: int = 0) -> float:
        """What it answers."""
        stdin, stdout = self.process.stdin, self.process.stdout
        assert stdin is not None and stdout is not None
        stdin.write(f"{what} {kind} {read}\n")
        stdin.flush()
        return float(stdout.readline())

    def close(self) -> None:
        """End it."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def report(sides: dict[str, Side], reads: list[int], rounds: int) -> list[str]:
    """The tables: bytes of states, and times of steps."""
    names = list(sides)
    lines = [f"| tokens read | {' | '.join(f'{name}, MB' for name in names)} |", f"|---|{'---|' * len(names)}"]
    for read in sorted({0, 100, *reads}):
        found = [side.ask("bytes", read=read) / 1e6 for side in sides.values()]
        lines.append(f"| {read:,} | {' | '.join(f'{each:.1f}' for each in found)} |")
    told = ["**A session's state.** Keys, values and counts, by how many tokens were read.", "\n".join(lines)]
    heads = [f"{name}, ms a token" for name in names] + (["times faster"] if len(names) > 1 else [])
    heads += [f"{name}, first, s" for name in names]
    lines = [f"| | tokens read | {' | '.join(heads)} |", f"|---|---|{'---|' * len(heads)}"]
    for kind in ("session", "eager"):
        for read in reads:
            first = {name: side.ask("begin", kind, read) for name, side in sides.items()}
            took: dict[str, list[float]] = {name: [] for name in names}
            for _ in range(rounds):
                for name, side in sides.items():
                    took[name].append(side.ask("steps", kind, read))
            cells = [f"{statistics.median(each):.1f}" for each in took.values()]
            if len(names) > 1:
                both = zip(*took.values(), strict=True)
                cells.append(f"{statistics.median(old / new for old, new in both):.1f}")
            cells += [f"{each:.1f}" for each in first.values()]
            lines.append(f"| {kind} | {read:,} | {' | '.join(cells)} |")
            print(lines[-1], flush=True)
            for side in sides.values():
                side.ask("end", kind, read)
    return [*told, "**A step.** The first one is compiled.", "\n".join(lines)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", help="the src folder of a checkout to stand beside; none if not given")
    parser.add_argument("--read", default="16,256,1024", help="tokens read before")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--tokens", type=int, default=4, help="of a run")
    parser.add_argument("--write", help="the report, as Markdown")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        work(args.tokens)
        return
    from benchmarks.alternate import write

    here = str(Path(__file__).resolve().parent.parent / "src")
    sources = ({"before": args.before} if args.before else {}) | {"now": here}
    sides = {name: Side(str(Path(source).resolve()), args.tokens) for name, source in sources.items()}
    try:
        told = report(sides, [int(read) for read in args.read.split(",")], args.rounds)
    finally:
        for side in sides.values():
            side.close()
    paragraphs = [
        (__doc__ or "").split("\n\n")[2].replace("\n", " "),
        f"{args.rounds} rounds of {args.tokens} tokens.",
        *told,
    ]
    print(write(args.write, "A cache that grows", "python -m benchmarks.growing", paragraphs))


if __name__ == "__main__":
    main()
