"""Aaren against softmax attention with a growing cache, token by token: memory, time of a token, and of all so far.

python -m benchmarks.aaren [--rounds 7] [--longest 16384] [--write docs/benchmarks/aaren.md]

The models are the same but for the mixer: `models.llama`, and `models.with_aaren` of it. At each length the cache is as long as
the text, with room for the tokens that are measured and no more. It is measured in two ways: as `mixers.SoftmaxAttention` has it,
and as `generation.bounded(model, "full", ...)` does. Both are written in place.
"""

import argparse
import statistics
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr

from benchmarks.alternate import alternate, ratio, write
from dualform import generation, models

SIZES: dict[str, Any] = {"vocabulary": 256, "d": 256, "layers": 4, "heads": 4, "hidden": 512}
SHORTEST, STEPS = 256, 64


def bytes_of(state: Any) -> int:
    """Bytes of a state's arrays."""
    return sum(leaf.nbytes for leaf in jax.tree_util.tree_leaves(state))


@eqx.filter_jit(donate="all-except-first")
def run(model: Any, carried: Any) -> Any:
    """`STEPS` tokens, the likeliest each time."""

    def step(carried, _):
        token, state = carried
        logits, state = model.step(token, state)
        return (jnp.argmax(logits).astype(jnp.int32), state), None

    return jax.lax.scan(step, carried, None, length=STEPS)[0]


class Side:
    """A model that goes on from `length` tokens."""

    def __init__(self, model: Any, length: int):
        self.model = model
        prompt = jr.randint(jr.key(1), (length,), 0, SIZES["vocabulary"])
        _, self.state = eqx.filter_jit(lambda model, tokens: model.read(tokens))(model, prompt)
        self.bytes = bytes_of(self.state)

    def __call__(self) -> None:
        """`STEPS` tokens from the same state."""
        state = jax.tree_util.tree_map(jnp.copy, self.state)
        jax.block_until_ready(run(self.model, (jnp.zeros((), jnp.int32), state)))


OWN, PLACED, AAREN = "attention, its own cache", "attention, bounded", "Aaren"


def measured(
    rounds: int, longest: int
) -> tuple[list[int], dict[int, dict[str, list[float]]], dict[int, dict[str, int]]]:
    """Lengths; by length the seconds of each round, for each side; and the bytes of each side's state."""
    attention = models.llama(key=jr.key(0), kv_heads=None, context=2 * longest, **SIZES)
    recurrent = models.with_aaren(attention, key=jr.key(1))
    lengths = [SHORTEST << i for i in range(64) if SHORTEST << i <= longest]
    seconds, memory = {}, {}
    for length in lengths:
        sides = {
            OWN: Side(models.with_context(attention, length + STEPS), length),
            PLACED: Side(generation.bounded(attention, "full", length + STEPS), length),
            AAREN: Side(recurrent, length),
        }
        memory[length] = {name: side.bytes for name, side in sides.items()}
        seconds[length] = alternate(sides, rounds)
    return lengths, seconds, memory


def cumulative(lengths: list[int], per_token: list[float]) -> list[float]:
    """Seconds of all tokens up to each length: the time of a token is taken as linear between lengths, and constant before."""
    total, found = per_token[0] * lengths[0], []
    for i, length in enumerate(lengths):
        if i:
            total += (length - lengths[i - 1]) * (per_token[i] + per_token[i - 1]) / 2
        found.append(total)
    return found


def report(lengths: list[int], seconds: Any, memory: Any) -> str:
    """The table: state, time of a token, and of all so far."""
    each = {name: [statistics.median(seconds[n][name]) / STEPS for n in lengths] for name in (OWN, PLACED, AAREN)}
    summed = {name: cumulative(lengths, each[name]) for name in (PLACED, AAREN)}
    rows = [
        "| tokens read | cache, KB | Aaren's state, KB | ms a token: own cache | bounded | Aaren | own cache / Aaren | "
        "bounded / Aaren | s so far: bounded | Aaren |",
        "|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for i, n in enumerate(lengths):
        cache, state = (memory[n][name] / 1e3 for name in (PLACED, AAREN))
        cells = [f"{n:,}", f"{cache:,.0f}", f"{state:,.1f}", *(f"{1e3 * of[i]:.3f}" for of in each.values())]
        cells += [f"{ratio(seconds[n], name, AAREN):.2f}" for name in (OWN, PLACED)]
        rows.append(f"| {' | '.join([*cells, *(f'{of[i]:.2f}' for of in summed.values())])} |")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--longest", type=int, default=16_384)
    parser.add_argument("--write", default=None)
    options = parser.parse_args()
    lengths, seconds, memory = measured(options.rounds, options.longest)
    sizes = ", ".join(f"{name} {value}" for name, value in SIZES.items())
    print(
        write(
            options.write,
            "Aaren and a cache that grows",
            f"python -m benchmarks.aaren --rounds {options.rounds} --longest {options.longest}",
            [
                f"A language model ({sizes}; float32) that writes token by token: with softmax attention over all tokens so far, "
                f"and with Aaren in its place (`models.with_aaren`). {STEPS} tokens are written at each length, medians over "
                "rounds in turn, ratios round by round. The cache is as long as the text, with room for these tokens; the time "
                "of all tokens so far is the integral of the time of one. It is what Feng et al. 2024 (arXiv 2405.13956) show of "
                "memory and of cumulative time. *Own cache* is the mixer's, *bounded* that of `generation.bounded(model, "
                '"full")`; each step writes into either.',
                report(lengths, seconds, memory),
            ],
        )
    )


if __name__ == "__main__":
    main()
