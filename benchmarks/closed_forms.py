"""What a closed form is worth: a dual form and a layer's shares beside one pass of the frozen mixer for each token.

    python -m benchmarks.closed_forms [--width 64] [--tokens 256] [--rounds 9] [--mixers NAME ...] [--write FILE.md]

Both sides are of one frozen mixer, in float32, compiled, and measured in turn: what `CausalMap` does for any map, one pass for
each source token, 32 at a time; and what the mixer's map does, which reads the same off its weights. How far they are apart is
said beside the times.
"""

import argparse
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr

from benchmarks.alternate import alternate, ratio, verdict, write
from dualform.arrays import relative_error
from dualform.dual import freeze
from dualform.maps import AttentionMap, CausalMap
from dualform.mixers import registry

MIXERS = ("softmax_attention", "multi_query_attention", "aaren", "linear_attention", "gla", "retnet", "hgrn2", "gsa")
MIXERS += ("mamba2", "mamba")
WHAT = ("contributions", "shares")
GOAL = 4.0
"""Times faster than a pass for each token."""


def contributions(map: CausalMap, x: Any, columns: Callable[..., Any]) -> Any:
    """What every token brings to every output, in blocks of 32 tokens."""
    parts = jnp.arange(len(x)).reshape(-1, 32)
    return jax.lax.map(lambda part: columns(map, x, part), parts).reshape(len(x), len(x), -1)


def measured(name: str, width: int, tokens: int, rounds: int) -> tuple[list[str], list[float]]:
    """A mixer's row of the table, and how many times faster contributions and shares are, where there is a shorter way."""
    mixer, x = (
        registry()[name](width, key=jr.key(0), dtype=jnp.float32),
        jr.normal(jr.key(1), (tokens, width), jnp.float32),
    )
    map = eqx.filter_jit(lambda mixer, x: freeze(mixer, x).map)(mixer, x)
    assert isinstance(map, AttentionMap)
    r = jr.normal(jr.key(2), (1, tokens, mixer.d_out), jnp.float32)
    own, default = type(map), CausalMap
    sides = {
        "contributions, closed": lambda map, x, r: contributions(map, x, own.columns),
        "contributions, passes": lambda map, x, r: contributions(map, x, default.columns),
        "shares, closed": lambda map, x, r: own.project(map, x, r),
        "shares, passes": lambda map, x, r: default.project(map, x, r),
    }
    compiled = {side: eqx.filter_jit(run) for side, run in sides.items()}
    found = {side: run(map, x, r) for side, run in compiled.items()}
    apart = [relative_error(found[f"{what}, closed"], found[f"{what}, passes"]) for what in WHAT]
    runs = {side: (lambda run=run: jax.block_until_ready(run(map, x, r))) for side, run in compiled.items()}
    seconds = alternate(runs, rounds)
    faster = [ratio(seconds, f"{what}, passes", f"{what}, closed") for what in WHAT]
    middle = lambda side: f"{1e3 * sorted(seconds[side])[rounds // 2]:.1f}"
    cells = [name, *map_cells(middle, faster, apart)]
    shorter = map.has_closed_form, map.direct
    return cells, [times for times, there in zip(faster, shorter, strict=True) if there]


def map_cells(middle: Callable[[str], str], faster: list[float], apart: list[Any]) -> list[str]:
    """Milliseconds of both sides, how many times faster, and how far apart, of contributions and of shares."""
    found = []
    for what, times, error in zip(WHAT, faster, apart, strict=True):
        found += [middle(f"{what}, closed"), middle(f"{what}, passes"), f"{times:.1f}", f"{float(error):.0e}"]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=256, help="a multiple of 32")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--mixers", nargs="+", default=list(MIXERS), choices=list(MIXERS))
    parser.add_argument("--write", default=None)
    options = parser.parse_args()
    columns = ("ms", "ms by passes", "times faster", "apart")
    head = ["mixer", *(f"{what}: {column}" for what in WHAT for column in columns)]
    lines, faster = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)], []
    for name in options.mixers:
        cells, times = measured(name, options.width, options.tokens, options.rounds)
        lines.append("| " + " | ".join(cells) + " |")
        faster += times
    paragraphs = [
        f"{options.tokens} tokens of width {options.width}, float32; medians of {options.rounds} rounds, the sides in turn. "
        "*By passes* is one pass of the frozen mixer for each source token, 32 at a time; *apart* is their relative error.",
        "\n".join(lines),
        f"Where there is a shorter way, the least is {min(faster):.1f} times faster (goal {GOAL:g}: "
        f"{verdict(min(faster) >= GOAL)}). A Mamba-2 has none, and a Mamba none for its contributions: what their convolutions "
        "make is of several tokens, and takes a pass for each. A Mamba's shares come from products between halves of it all.",
    ]
    command = (
        f"python -m benchmarks.closed_forms --width {options.width} --tokens {options.tokens} --rounds {options.rounds}"
    )
    print(write(options.write, "What a closed form is worth", command, paragraphs))


if __name__ == "__main__":
    main()
