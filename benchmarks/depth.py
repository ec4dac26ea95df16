"""What a deep model costs to compile, to run and to hold, its blocks written out and as one loop.

python -m benchmarks.depth [--models llama gla] [--layers 24] [--width 128] [--tokens 256] [--rounds 5] [--write FILE]

Of a llama and of a GLA language model in float32, a call's loss and its gradient: seconds to trace and compile (the median of
`--rounds`, the ways in turn, nothing cached), seconds to run (the same), and the memory that the program needs beside its
arguments and results. Loss and gradient of each way are held to those of the first.
"""

import argparse
import sys
import time
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr

from benchmarks.alternate import alternate, write
from dualform import models
from dualform.arrays import relative_error
from dualform.models.depth import Depth

WAYS = {
    "written out": Depth(),
    "one loop": Depth(scanned=True),
    "written out, less kept": Depth(rematerialised=True),
    "one loop, less kept": Depth(scanned=True, rematerialised=True),
}


def model(kind: str, layers: int, width: int) -> Any:
    """A language model of float32 weights."""
    sizes: Any = {"vocabulary": 256, "d": width, "layers": layers, "key": jr.key(0), "dtype": jnp.float32}
    return (
        models.gla(**sizes, heads=4)
        if kind == "gla"
        else models.llama(**sizes, heads=4, kv_heads=4, hidden=3 * width, context=512)
    )


def measured(kind: str, layers: int, width: int, tokens: int, rounds: int) -> list[list[str]]:
    """A row of the table for each way."""
    text = jr.randint(jr.key(1), (tokens,), 0, 256)
    plain, took = model(kind, layers, width), {name: [] for name in WAYS}
    made: dict[str, tuple[Any, Any]] = {}
    for _ in range(rounds):
        for name, depth in WAYS.items():
            arrays, rest = eqx.partition(models.with_depth(plain, **depth._asdict()), eqx.is_inexact_array)

            def loss(arrays, text, rest=rest):
                logits, _ = eqx.combine(arrays, rest)(text)
                return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(logits[:-1]), text[1:, None], axis=1))

            jax.clear_caches()
            begin = time.perf_counter()
            made[name] = jax.jit(jax.value_and_grad(loss)).lower(arrays, text).compile(), arrays
            took[name].append(time.perf_counter() - begin)
    runs = {name: (lambda name=name: jax.block_until_ready(made[name][0](made[name][1], text))) for name in made}
    first = runs["written out"]()
    ran, rows = alternate(runs, rounds), []
    middle = lambda seconds: sorted(seconds)[len(seconds) // 2]
    for name, run in runs.items():
        apart = max(float(relative_error(a, b)) for a, b in zip(*map(jax.tree.leaves, (run(), first)), strict=True))
        ratio = middle(ran[name]) / middle(ran["written out"])
        memory = made[name][0].memory_analysis().temp_size_in_bytes / 2**20
        rows.append(
            [
                kind,
                name,
                f"{middle(took[name]):.1f}",
                f"{middle(ran[name]):.2f}",
                f"{ratio:.2f}",
                f"{memory:.0f}",
                f"{apart:.0e}",
            ]
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=["llama", "gla"], default=["llama", "gla"])
    parser.add_argument("--layers", type=int, default=24)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--write", metavar="FILE")
    options = parser.parse_args()
    jax.config.update("jax_enable_compilation_cache", False)
    head = ["model", "blocks", "s to compile", "s to run", "of the first", "MiB beside", "apart"]
    rows = [
        row
        for kind in options.models
        for row in measured(kind, options.layers, options.width, options.tokens, options.rounds)
    ]
    table = ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows)]
    said = f"{options.layers} blocks of width {options.width}, {options.tokens} tokens, float32: a loss and its gradient; seed 0."
    print(
        write(options.write, "Depth", " ".join(["python -m benchmarks.depth", *sys.argv[1:]]), [said, "\n".join(table)])
    )


if __name__ == "__main__":
    main()
