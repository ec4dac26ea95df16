"""The adding problem: the wave RNN beside a plain tanh RNN with as many weights, trained in the same run on the same data.

    python -m benchmarks.adding_task [--steps 300] [--time 100] [--seed 0] [--write FILE.md]

A sequence holds `time` numbers, uniform between 0 and 1, two of which are marked, one in each half; the last output is to be
their sum. Solved is a mean squared error of 0.05 or less on sequences that are not trained on, read after every ten steps; the
test error is on others again, after the last step. A record with every setting, seed, version and loss is written beside the
report.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float

from benchmarks.alternate import keep, write
from dualform.arrays import affine, count_parameters
from dualform.mixers import AbstractMixer, TanhRNN, WaveRNN
from dualform.mixers.affine import uniform_affine
from dualform.training.config import FitConfig
from dualform.training.state import initial_state
from dualform.training.step import make_chunk

SOLVED = 0.05
PUBLISHED = {"test_error": 4e-6, "solved_at_step": 300}
"""Keller et al. 2023 (arXiv 2309.08045), T = 100, after up to 60,000 steps; solved as read every so many steps."""


class Reader(eqx.Module):
    """w h + b of what a mixer remembers after the last token."""

    mixer: AbstractMixer
    w: Float[Array, "d_out n"]
    b: Float[Array, " d_out"]

    def __call__(self, x):
        """(time, d) -> (time, d_out)."""
        return affine(self.mixer(x)[0], self.w, self.b), None


def sample(key: Array, steps: int, batch: int) -> tuple[Array, Array]:
    """Numbers and marks, (batch, time, 2), and the sums of the marked numbers, (batch, 1)."""
    for_values, first, second = jr.split(key, 3)
    values = jr.uniform(for_values, (batch, steps), jnp.float32)
    half = steps // 2
    places = jnp.stack([jr.randint(first, (batch,), 0, half), jr.randint(second, (batch,), half, steps)], axis=1)
    marks = jnp.sum(jax.nn.one_hot(places, steps, dtype=values.dtype), axis=1)
    return jnp.stack([values, marks], axis=2), jnp.sum(values * marks, axis=1, keepdims=True)


def squared_error(model: Any, x: Array, y: Array) -> Array:
    """The mean squared error of the last output."""
    return jnp.mean(jnp.square(jax.vmap(lambda x: model(x)[0][-1])(x) - y))


def models(seed: int, units: int, channels: int) -> dict[str, Any]:
    """The wave RNN as published, and a tanh RNN with as many weights, to the nearest unit."""
    keys = jr.split(jr.key(seed), 3)
    wave = WaveRNN.make(2, key=keys[0], n=units, channels=channels, noise=0.0, dtype=jnp.float32)
    wave = replace(wave, w_o=wave.w_o[:1], b_o=wave.b_o[:1])
    # n^2 + 2 n + n recurrent, input and bias weights, and n + 1 in the readout.
    n = round((4 + count_parameters(wave) - 1) ** 0.5 - 2)
    plain = TanhRNN.make(2, key=keys[1], n=n, dtype=jnp.float32)
    return {"wave RNN": wave, "tanh RNN": Reader(plain, *uniform_affine(keys[2], 1, n, jnp.float32))}


def train(name: str, model: Any, config: FitConfig, steps: int, batch: int) -> dict[str, Any]:
    """Every training loss, the error on held-out sequences every ten steps, when that was solved, and the error on others."""
    parameters, data = count_parameters(model), partial(sample, steps=steps, batch=batch)
    chunk, state = make_chunk(data, config, loss=squared_error), initial_state(model, config)
    error = lambda model, x, y: float(jnp.mean(jnp.stack([_error(model, *part) for part in _parts(x, y)])))
    watched, test = (sample(jr.key(config.seed + 10**6 + i), steps, count) for i, count in enumerate((200, 1000)))
    begin, losses, held_out = time.perf_counter(), [], []
    while len(losses) < config.steps:
        state, metrics = chunk(state)
        losses += np.asarray(metrics.loss)[: int(metrics.steps)].tolist()
        held_out.append([len(losses), error(state.model, *watched)])
        told = f"loss {losses[-1]:.2e}, held out {held_out[-1][1]:.2e}"
        print(f"{name}: step {len(losses)}, {told}, {time.perf_counter() - begin:.0f} s", flush=True)
    return {
        "parameters": parameters,
        "solved_at_step": solved_at(held_out),
        "test_error": error(state.model, *test),
        "seconds": time.perf_counter() - begin,
        "losses": losses,
        "held_out": held_out,
    }


def solved_at(held_out: Sequence[tuple[int, float]]) -> int | None:
    """The first step after which the held-out error is `SOLVED` or less; None where it never is.

    **Arguments:** held_out: (step, error) pairs, in their order.
    """
    return next((step for step, error in held_out if error <= SOLVED), None)


_error = eqx.filter_jit(squared_error)


def _parts(x: Array, y: Array, size: int = 100) -> list[tuple[Array, Array]]:
    """Sequences a hundred at a time."""
    return [(x[i : i + size], y[i : i + size]) for i in range(0, len(x), size)]


def main() -> None:
    """Train both and write the report and the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--time", type=int, default=100)
    parser.add_argument("--units", type=int, default=100)
    parser.add_argument("--channels", type=int, default=27)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--last", type=float, default=None, help="the last step's rate, fallen to as a half cosine")
    parser.add_argument("--clip", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", default=None)
    options = parser.parse_args()
    config = FitConfig(
        steps=options.steps,
        chunk=10,
        warmup=0,
        learning_rate=options.rate,
        final_learning_rate=options.rate if options.last is None else options.last,
        weight_decay=0.0,
        clip=options.clip,
        seed=options.seed,
    )
    found = {
        name: train(name, model, config, options.time, options.batch)
        for name, model in models(options.seed, options.units, options.channels).items()
    }
    settings = {name: value for name, value in vars(options).items() if name != "write" and value is not None}
    keep(options.write, {"settings": settings, "solved": SOLVED, "published": PUBLISHED, "found": found})
    lines = ["| | parameters | solved at step | test error | seconds |", "|---|---|---|---|---|"]
    for name, each in found.items():
        solved = "not" if each["solved_at_step"] is None else each["solved_at_step"]
        lines.append(f"| {name} | {each['parameters']} | {solved} | {each['test_error']:.1e} | {each['seconds']:.0f} |")
    lines.append(f"| wave RNN, published | | {PUBLISHED['solved_at_step']} | {PUBLISHED['test_error']:.0e} | |")
    paragraph = (
        f"T = {options.time}, {options.steps} steps of Adam at {config.learning_rate:g} to {config.final_learning_rate:g} on "
        f"batches of {options.batch}, gradients clipped to {options.clip:g}, seed {options.seed}; float32. Solved: the first "
        f"step, of every ten, after which the error of 200 held-out sequences is {SOLVED} or less, which later steps may leave "
        f"again; the test error, of 1,000 others, is the last step's. "
        f"Always answering 1, the mean, gives {1 / 6:.3f}. The published error is that of up to 60,000 steps."
    )
    command = "python -m benchmarks.adding_task " + " ".join(f"--{key} {value}" for key, value in settings.items())
    print(write(options.write, "The adding problem", command, [paragraph, "\n".join(lines)]))


if __name__ == "__main__":
    main()
