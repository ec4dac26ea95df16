"""What `benchmarks.mixers` measures without peers: the limits, cost against length, memory of a step, and import time."""

import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import torch

from benchmarks.alternate import alternate, ratio, verdict
from dualform.mixers import AbstractMixer, registry
from dualform.recurrences import diagonal, outer
from dualform.recurrences.chunks import CHUNK

LENGTHS = (1024, 4096, 16384, 65536)
FLAT = 1.3
"""How many times a token may cost at the longest length, against the shortest."""

LINEAR = (
    *("linear_attention", "gla", "hgrn2", "retnet", "gsa", "delta_rule", "gated_delta_rule", "mamba", "mamba2"),
    *("hgrn", "rg_lru", "griffin_recurrent", "min_gru", "min_lstm", "lru", "gated_rnn", "aaren", "rwkv4"),
    *("causal_convolution", "local_attention", "lstm", "gru"),
)
"""One registered mixer of each class whose cost is linear in time, of those that a language model would use."""


def made(name: str, width: int, heads: int) -> AbstractMixer:
    """A registered mixer in float32, with as many heads where it has heads."""
    make = registry()[name]
    for options in ({"heads": heads}, {}):
        try:
            return make(width, key=jr.key(0), dtype=jnp.float32, **options)
        except TypeError:
            continue
    raise TypeError(f"{name} cannot be made of width {width} in float32")


def limits(steps: int, width: int, heads: int, rounds: int) -> list[str]:
    """The chunked outer forms against their matrix products, and the diagonal scan against x + y."""
    return [
        "## Chunked outer forms against the matrix-product limit\n\n" + _products_text(heads, width // heads),
        outer_table(steps, heads, width // heads, rounds),
        "## The diagonal scan against memory traffic (x + y)\n\n" + diagonal_table(steps, width, rounds),
    ]


def _products_text(heads: int, d: int) -> str:
    return (
        f"The limit is what the products of the chunked form alone take, Q K^T, A V, K^T V and Q S, {heads} heads of {d}, "
        f"chunks of {CHUNK}, by the faster of XLA's and PyTorch's batched products (1 and 2 threads) in the same run; with "
        "gradient three times that, since each product has two in its gradient. The masked half of Q K^T and A V counts as "
        "needed, since a product of whole blocks does it; products that the gradient computes again do not count."
    )


def product_sides(steps: int, heads: int, d: int) -> dict[str, Callable[[], Any]]:
    """The four products of all chunks, by XLA and by PyTorch."""
    chunks = steps // CHUNK * heads
    keys = jr.split(jr.key(0), 5)
    q, k, v = (jr.normal(each, (chunks, CHUNK, d), jnp.float32) for each in keys[:3])
    a, s = jr.normal(keys[3], (chunks, CHUNK, CHUNK), jnp.float32), jr.normal(keys[4], (chunks, d, d), jnp.float32)

    @jax.jit
    def products(q, k, v, a, s):
        return jnp.einsum("ctk,csk->cts", q, k), a @ v, jnp.einsum("csk,csv->ckv", k, v), q @ s

    sides: dict[str, Callable[[], Any]] = {"XLA": lambda: jax.block_until_ready(products(q, k, v, a, s))}
    tensors = [torch.tensor(jax.device_get(each)) for each in (q, k, v, a, s)]

    def in_torch(threads):
        torch.set_num_threads(threads)
        q, k, v, a, s = tensors
        return q @ k.mT, a @ v, k.mT @ v, q @ s

    for threads in (1, 2):
        sides[f"PyTorch, {threads}"] = lambda threads=threads: in_torch(threads)
    return sides


def outer_table(steps: int, heads: int, d: int, rounds: int) -> str:
    """Each kind of decay, forward and with gradient, as a share of the limit."""
    keys = jr.split(jr.key(1), 5)
    q, k, v, g = (jr.normal(each, (steps, heads, d), jnp.float32) for each in keys[:4])
    decay = jax.nn.sigmoid(jr.normal(keys[4], (steps, heads, d), jnp.float32)) ** (1 / 16)
    kinds = {
        "no decay": ({}, ()),
        "one for each head": ({"decay": 0}, (decay[..., 0],)),
        "one for each row": ({"decay": 0}, (decay,)),
        "one for each column": ({"value_decay": 0}, (decay,)),
    }
    sides = product_sides(steps, heads, d)
    limit_names = list(sides)
    for kind, (names, gates) in kinds.items():
        run = lambda q, k, v, *gates, names=tuple(names): outer(
            q, k, v, **dict(zip(names, gates, strict=True)), form="chunked"
        )[0]

        def pull(g, *arrays, run=run):
            y, back = jax.vjp(run, *arrays)
            return y, back(g)

        forward, both, arrays = jax.jit(run), jax.jit(pull), (q, k, v, *gates)
        sides[f"{kind}, forward"] = lambda f=forward, a=arrays: jax.block_until_ready(f(*a))
        sides[f"{kind}, with gradient"] = lambda f=both, a=arrays: jax.block_until_ready(f(g, *a))
    seconds = alternate(sides, rounds)
    limit = min(limit_names, key=lambda name: median(seconds[name]))
    work = 4 * 2 * steps * heads * CHUNK * d
    lines = [
        f"The limit here: {limit}, {1e3 * median(seconds[limit]):.2f} ms, {work / median(seconds[limit]) / 1e9:.0f} GFLOP/s.\n",
        "| decay, pass | ms | limit ms | share of the limit | goal | verdict |",
        "|---|---|---|---|---|---|",
    ]
    for name in list(sides)[len(limit_names) :]:
        times = 3 if name.endswith("gradient") else 1
        share = times / ratio(seconds, name, limit)
        least = 1e3 * times * median(seconds[limit])
        lines.append(
            f"| {name} | {1e3 * median(seconds[name]):.1f} | {least:.1f} | {share:.0%} | 40% | {verdict(share >= 0.4)} |"
        )
    return "\n".join(lines)


def diagonal_table(steps: int, width: int, rounds: int) -> str:
    """Forward and with gradient, in times of x + y, at this width and at twice that."""
    lines = ["| array | pass | ms | x + y ms | times x + y | goal | verdict |", "|---|---|---|---|---|---|---|"]
    for units in (width, 2 * width):
        keys = jr.split(jr.key(0), 3)
        decay = jr.uniform(keys[0], (steps, units), jnp.float32)
        drive, cotangent = (jr.normal(key, (steps, units), jnp.float32) for key in keys[1:])
        run = lambda a, b: diagonal(a, b, form="scan")[0]

        @jax.jit
        def pull(a, b, g, run=run):
            h, back = jax.vjp(run, a, b)
            return h, *back(g)

        add, forward = jax.jit(lambda a, b: a + b), jax.jit(run)
        seconds = alternate(
            {
                "x + y": lambda add=add, a=decay, b=drive: add(a, b).block_until_ready(),
                "forward": lambda forward=forward, a=decay, b=drive: forward(a, b).block_until_ready(),
                "with gradient": lambda pull=pull, a=(decay, drive, cotangent): jax.block_until_ready(pull(*a)),
            },
            rounds,
        )
        for name, goal in (("forward", 2.5), ("with gradient", 8.0)):
            times = ratio(seconds, name, "x + y")
            numbers = f"{1e3 * median(seconds[name]):.2f} | {1e3 * median(seconds['x + y']):.2f} | {times:.2f}"
            lines.append(f"| {steps} x {units} | {name} | {numbers} | {goal:g} | {verdict(times <= goal)} |")
    return "\n".join(lines)


def growth(per_token: dict[int, float]) -> float:
    """How many times a token costs at the longest length, against the shortest."""
    return per_token[max(per_token)] / per_token[min(per_token)]


def lengths(width: int, heads: int, only: set[str], rounds: int = 2) -> list[str]:
    """Microseconds a token, forward, of each class of mixer at growing lengths."""
    header = " | ".join(f"{length:,}" for length in LENGTHS)
    lines = [
        f"| mixer | {header} | {LENGTHS[-1]:,} against {LENGTHS[0]:,} | goal | verdict |",
        "|---" * (len(LENGTHS) + 4) + "|",
    ]
    for name in LINEAR:
        if only and name not in only:
            continue
        mixer = made(name, width, heads)
        arrays, rest = eqx.partition(mixer, eqx.is_inexact_array)
        run = jax.jit(lambda arrays, x, rest=rest: eqx.combine(arrays, rest)(x))
        sides = {}
        for length in LENGTHS:
            x = jr.normal(jr.key(1), (length, width), jnp.float32)
            # Short lengths often enough that each side takes about as long.
            times = _times(length)
            sides[str(length)] = partial(_repeat, partial(run, arrays, x), times)
        seconds = alternate(sides, rounds, warm=1)
        per_token = {length: 1e6 * median(seconds[str(length)]) / length / _times(length) for length in LENGTHS}
        cost = " | ".join(f"{per_token[length]:.2f}" for length in LENGTHS)
        lines.append(f"| {name} | {cost} | {growth(per_token):.2f} | {FLAT} | {verdict(growth(per_token) <= FLAT)} |")
        print(lines[-1], flush=True)
    return ["## Microseconds a token, forward, by length\n\n" + "\n".join(lines)]


def _times(length: int) -> int:
    """How often a length is run in a row: short ones a few times."""
    return max(1, min(4, LENGTHS[-1] // length // 8))


def _repeat(run: Callable[[], Any], times: int) -> None:
    for _ in range(times):
        jax.block_until_ready(run())


def resident() -> float:
    """Megabytes of this process in memory."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 1e6


def steps(width: int, heads: int, only: set[str], count: int = LENGTHS[-1]) -> list[str]:
    """Token by token: bytes of the state and memory of the process, early and late, and microseconds a step."""
    lines = [
        f"| mixer | state, bytes | state after {count:,} | us a step, first 1,024 | last 1,024 | times | process grew, MB | "
        "goal | verdict |",
        "|---" * 9 + "|",
    ]
    for name in [each for each in ("gla", "rg_lru", "min_gru", "mamba") if not only or each in only]:
        mixer = made(name, width, heads)
        step = eqx.filter_jit(lambda mixer, x, state: mixer.step(x, state))
        x, state = jr.normal(jr.key(1), (width,), jnp.float32), mixer.init_state()
        size = lambda state: sum(leaf.nbytes for leaf in jtu.tree_leaves(state))
        before, late, early, grew = size(state), 0.0, 0.0, 0.0
        for t in range(count + 1024):
            begin = time.perf_counter()
            _, state = jax.block_until_ready(step(mixer, x, state))
            taken = time.perf_counter() - begin
            if 1024 <= t < 2048:  # the first ones compile
                early += taken
            if t == 2048:
                grew = -resident()
            late += taken if t >= count else 0.0
        grew += resident()
        times = late / early
        flat = verdict(times <= FLAT and size(state) == before and grew < 16)
        numbers = f"{1e6 * early / 1024:.0f} | {1e6 * late / 1024:.0f} | {times:.2f} | {grew:.1f}"
        lines.append(f"| {name} | {before} | {size(state)} | {numbers} | {FLAT}, 16 MB | {flat} |")
    return ["## Token by token\n\n" + "\n".join(lines)]


def import_time(rounds: int) -> list[str]:
    """Seconds that importing dualform takes once JAX is imported, in a fresh process each."""
    code = "import time, jax; begin = time.perf_counter(); import dualform; print(time.perf_counter() - begin)"
    run = lambda: subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    seconds = median(float(run()) for _ in range(rounds))
    return [
        f"## Import\n\n`import dualform` takes {seconds:.2f} s beyond `import jax` (goal 1 s: {verdict(seconds < 1)})."
    ]
