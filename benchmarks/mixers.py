"""Every mixer against its public implementations and against the limit: forward, and forward with gradient.

    python -m benchmarks.mixers [--peers FOLDER] [--time 4096] [--width 512] [--heads 8] [--rounds 5] [--budget 2]
                                [--only gla,rg_lru] [--parts peers,limits,length,step,import] [--write FILE.md]

Batch 1, float32. Sides of a comparison get the same numbers and run in turn; outputs and gradients are compared in the same
run. The gradient is that of sum(y * cotangent), with respect to tokens and all weights (or to queries, keys, values and
gates, where the operator alone is compared, since that is all that the peer has for a CPU). PyTorch runs with one and with
two threads, and the faster one counts; JAX's peers are compiled. A side that takes longer than `--budget` seconds a round
is run once. To have the peers:

    pip install torch==2.13.0 transformers==5.23.0 einops flax
    pip download --no-deps fla-core==0.6.0 recurrentgemma==1.0.1 mingru-scans==0.2.0 mambapy==1.2.0 minGRU-pytorch==0.2.1
    for wheel in *.whl; do unzip -q -o $wheel -d FOLDER; done

What is not there is a row that says how to get it.
"""

import argparse
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch

from benchmarks import mixer_limits
from benchmarks.alternate import alternate, ratio, verdict, write
from benchmarks.mixer_peers import Comparison, Peer, comparisons

PASSES = ("forward", "with gradient")
THREADS = (1, 2)
EIGHTH = 8
"""How much shorter the sequence is where a peer's gradient is quadratic in time."""


class Side(NamedTuple):
    """A way to run one pass: call it and it is done; `numbers` gives what it found, y or (y, gradients)."""

    run: Callable[[], Any]
    numbers: Callable[[Any], Any]
    compiled: bool = False


class Row(NamedTuple):
    """One peer in one pass: median milliseconds of both, how many times ahead ours is, errors of y and of gradients."""

    mixer: str
    what: str
    peer: str
    theirs: float
    ours: float
    ahead: float
    goal: float
    error: float


def jax_sides(
    function: Callable[[Any], Any], arrays: Mapping[str, np.ndarray], cotangent: np.ndarray
) -> dict[str, Side]:
    """Both passes of a function of arrays, compiled."""
    given, g = {name: jnp.asarray(a) for name, a in arrays.items()}, jnp.asarray(cotangent)

    def pull(a, g):
        y, back = jax.vjp(function, a)
        return y, back(g)[0]

    forward, both = jax.jit(function), jax.jit(pull)
    return {
        "forward": Side(lambda: jax.block_until_ready(forward(given)), np.asarray, compiled=True),
        "with gradient": Side(
            lambda: jax.block_until_ready(both(given, g)),
            lambda found: (np.asarray(found[0]), {name: np.asarray(a) for name, a in found[1].items()}),
            compiled=True,
        ),
    }


def torch_sides(
    function: Callable[[Any], Any], arrays: Mapping[str, np.ndarray], cotangent: np.ndarray, threads: int
) -> dict[str, Side]:
    """Both passes of a function of tensors, run as it is."""
    given, g = {name: torch.tensor(a) for name, a in arrays.items()}, torch.tensor(cotangent)

    def forward():
        torch.set_num_threads(threads)
        with torch.no_grad():
            return function(given)

    def both():
        torch.set_num_threads(threads)
        leaves = {name: a.detach().requires_grad_() for name, a in given.items()}
        y = function(leaves)
        y.backward(g)
        return y, {name: a.grad for name, a in leaves.items()}

    grad = lambda a: np.zeros(1, np.float32) if a is None else a.numpy()
    return {
        "forward": Side(forward, lambda y: y.numpy()),
        "with gradient": Side(
            both, lambda found: (found[0].detach().numpy(), {name: grad(a) for name, a in found[1].items()})
        ),
    }


def difference(ours: Any, theirs: Any) -> float:
    """The largest relative error (Euclidean) among y and gradients."""
    if isinstance(ours, tuple):
        names = [name for name, a in theirs[1].items() if a.shape == ours[1][name].shape]
        return max(difference(ours[0], theirs[0]), *(difference(ours[1][name], theirs[1][name]) for name in names))
    return float(np.linalg.norm(ours - theirs) / max(np.linalg.norm(theirs), 1e-30))


def turns(sides: Mapping[str, Side], rounds: int, budget: float) -> tuple[dict[str, Any], dict[str, list[float]]]:
    """What each side gives, and its seconds in every round: as many rounds as fit in `rounds` times `budget` seconds.

    Each side is run once before, to warm up, and twice where it compiles. Where the last of these takes longer than
    `budget`, the side is not run again, and that time counts.
    """
    found, first = {}, {}
    for name, side in sides.items():
        for _ in range(1 + side.compiled):
            begin = time.perf_counter()
            found[name] = side.run()
            first[name] = time.perf_counter() - begin
    slow = {name for name in sides if name != "ours" and first[name] > budget}
    quick = {name: side.run for name, side in sides.items() if name not in slow}
    total = sum(first[name] for name in quick)
    count = max(3, min(rounds, int(rounds * budget / max(total, 1e-9))))
    seconds = alternate(quick, count, warm=1)
    return found, seconds | {name: [first[name]] * count for name in slow}


def measured(each: Comparison, rounds: int, budget: float) -> tuple[dict[str, list[Row]], list[str]]:
    """The rows of every peer that is there, by pass, and a line for each that is not."""
    there, absent = [], []
    for peer in each.peers:
        try:
            there.append((peer, peer.load()))
        except ImportError:
            absent.append(f"| {each.mixer} | {peer.name} | {peer.how} |")
    loops = [(peer, function) for peer, function in there if peer.loop]
    others = [(peer, function) for peer, function in there if not peer.loop]
    rows = {
        "forward": compared(each, there, "forward", rounds, budget),
        "with gradient": compared(each, others, "with gradient", rounds, budget),
    }
    rows["with gradient"] += compared(
        each.shortened(EIGHTH), loops, "with gradient", rounds, budget, "; an eighth of the tokens"
    )
    return rows, absent


def compared(
    each: Comparison, there: list[tuple[Peer, Any]], which: str, rounds: int, budget: float, note: str = ""
) -> list[Row]:
    """One pass of ours and of the peers that are there, in turn."""
    if not there:
        return []
    shape = jax.eval_shape(each.ours, {name: jnp.asarray(a) for name, a in each.arrays.items()})
    cotangent = np.random.default_rng(1).standard_normal(shape.shape, np.float32)
    sides = {"ours": jax_sides(each.ours, each.arrays, cotangent)[which]}
    for peer, function in there:
        sides |= peer_sides(peer, function, each, cotangent, which)
    found, seconds = turns(sides, rounds, budget)
    ours, rows = sides["ours"].numbers(found["ours"]), []
    for name in list(sides)[1:]:
        error = difference(ours, sides[name].numbers(found[name]))
        times = 1e3 * median(seconds[name]), 1e3 * median(seconds["ours"])
        rows.append(Row(each.mixer, each.what + note, name, *times, ratio(seconds, name, "ours"), each.goal, error))
    return fastest(rows)


def peer_sides(peer: Peer, function: Any, each: Comparison, cotangent: np.ndarray, which: str) -> dict[str, Side]:
    """A peer's side by its name; of PyTorch's one for each number of threads."""
    if peer.library == "jax":
        return {peer.name: jax_sides(function, each.arrays, cotangent)[which]}
    name = lambda threads: f"{peer.name}, {threads} thread{'s' * (threads > 1)}"
    return {name(threads): torch_sides(function, each.arrays, cotangent, threads)[which] for threads in THREADS}


def fastest(rows: list[Row]) -> list[Row]:
    """Of each peer, the number of threads with which it is fastest."""
    best: dict[str, Row] = {}
    for row in rows:
        peer = row.peer.split(", 1 thread")[0].split(", 2 threads")[0]
        if peer not in best or row.theirs < best[peer].theirs:
            best[peer] = row
    return list(best.values())


def peers_table(rows: list[Row]) -> str:
    """One line for each peer, with the goal and whether it is met."""
    lines = [
        "| mixer | what | peer | peer ms | dualform ms | times ahead | goal | verdict | largest difference |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        met = verdict(row.ahead >= row.goal)
        numbers = f"{row.theirs:.1f} | {row.ours:.1f} | {row.ahead:.2f} | {row.goal:g} | {met} | {row.error:.1e}"
        lines.append(f"| {row.mixer} | {row.what} | {row.peer} | {numbers} |")
    return "\n".join(lines)


def against_peers(options: argparse.Namespace, only: set[str]) -> list[str]:
    """The part of the report on peers."""
    rows: dict[str, list[Row]] = {name: [] for name in PASSES}
    absent = []
    for each in comparisons(Path(options.peers), options.time, options.width, options.heads):
        if not only or each.mixer in only:
            found, missing = measured(each, options.rounds, options.budget)
            absent += missing
            for name in PASSES:
                rows[name] += found[name]
                print(peers_table(found[name]) if found[name] else "", flush=True)
    parts = [f"## Peers, {name}\n\n{peers_table(rows[name])}" for name in PASSES]
    if absent:
        parts.append(
            "## Peers that were not there\n\n| mixer | peer | how to get it |\n|---|---|---|\n" + "\n".join(absent)
        )
    return parts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", default="peers", help="the folder where peers are unzipped")
    parser.add_argument("--time", type=int, default=4096)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--heads", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--budget", type=float, default=2.0, help="seconds; a peer slower than that is run once")
    parser.add_argument("--only", default="", help="mixers, separated by commas; all if not given")
    parser.add_argument("--parts", default="peers,limits,length,step,import")
    parser.add_argument("--write", default=None)
    options = parser.parse_args()
    only, parts = set(filter(None, options.only.split(","))), set(options.parts.split(","))
    sizes = options.time, options.width, options.heads
    report = []
    if "limits" in parts:
        report += mixer_limits.limits(*sizes, 4 * options.rounds)
    if "import" in parts:
        report += mixer_limits.import_time(options.rounds)
    if "peers" in parts:
        report += against_peers(options, only)
    if "length" in parts:
        report += mixer_limits.lengths(options.width, options.heads, only)
    if "step" in parts:
        report += mixer_limits.steps(options.width, options.heads, only)
    shown = ("time", "width", "heads", "rounds", "budget", "parts", *(("only",) if options.only else ()))
    command = "python -m benchmarks.mixers " + " ".join(f"--{name} {getattr(options, name)}" for name in shown)
    introduction = (
        f"{options.time} tokens of width {options.width} ({options.heads} heads), float32, batch 1, a CPU. Medians of "
        "rounds run in turn; ratios are medians over rounds, pair by pair. A goal that is not met says **missed**."
    )
    print(write(options.write, "The mixers", command, [introduction, *report]))


if __name__ == "__main__":
    main()
