"""The gradient of the wave RNN at the adding problem's published size, beside its products alone and the cell in PyTorch.

    python -m benchmarks.wave_step [--time 100] [--batch 128] [--units 100] [--channels 27] [--rounds 7] [--write FILE.md]

The loss is of the last output. The limit is what the products of the convolution alone take, forward and two for the gradient at
each step, of arrays of the same shapes, by the faster of JAX and PyTorch in the same run. The peer is the same equations
on PyTorch's circular convolution, eager, as the published cell is, with one and with two threads.
"""

import argparse
from statistics import median
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import torch

from benchmarks.alternate import alternate, ratio, table, verdict, write
from dualform.mixers import WaveRNN

WIDTH, KERNEL = 2, 3
LIMIT, AHEAD = 2.0, 1.0
"""The goals: times the products' time at most, and times faster than the peer."""


def ours(mixer: WaveRNN, x: jax.Array):
    """The loss and its gradient, compiled."""

    @eqx.filter_jit
    @eqx.filter_value_and_grad
    def gradient(mixer: WaveRNN, x: jax.Array) -> jax.Array:
        y, _ = jax.vmap(lambda row: mixer(row))(x)
        return jnp.mean(jnp.square(y[:, -1]))

    return lambda: jax.block_until_ready(gradient(mixer, x))


class TorchWave(torch.nn.Module):
    """The same weights as PyTorch's circular convolution, step by step, read out at the end."""

    def __init__(self, mixer: WaveRNN):
        super().__init__()
        channels, units = mixer.b.shape
        tensor: Any = lambda a: torch.tensor(np.asarray(a))
        self.ring = torch.nn.Conv1d(
            channels, channels, KERNEL, padding=KERNEL // 2, padding_mode="circular", bias=False
        )
        self.ring.weight = torch.nn.Parameter(tensor(mixer.u))
        self.v = torch.nn.Parameter(tensor(mixer.v).reshape(channels * units, WIDTH))
        self.b, self.w_o, self.b_o = (torch.nn.Parameter(tensor(a)) for a in (mixer.b, mixer.w_o, mixer.b_o))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = torch.zeros(len(x), *self.b.shape)
        for x_t in x.unbind(1):
            h = torch.relu(self.ring(h) + (x_t @ self.v.T).reshape(h.shape) + self.b)
        return h.flatten(1) @ self.w_o.T + self.b_o


def peer(mixer: WaveRNN, x: np.ndarray, threads: int):
    """The loss and its gradient, eager."""
    module, given = TorchWave(mixer), torch.tensor(x)

    def run() -> torch.Tensor:
        torch.set_num_threads(threads)
        module.zero_grad()
        loss = module(given).square().mean()
        loss.backward()
        return loss.detach()

    return run


def jax_products(rows: int, channels: int, time: int):
    """The three products of a step, so many times."""
    keys = jr.split(jr.key(2), 3)
    near = jr.normal(keys[0], (rows, KERNEL * channels), jnp.float32)
    weight, back = (
        jr.normal(keys[1], (KERNEL * channels, channels), jnp.float32),
        jr.normal(keys[2], (rows, channels), jnp.float32),
    )

    @jax.jit
    def run(near, weight, back):
        def step(sums, _):
            # Each takes a number of the step before, so that none is left out or moved out of the loop.
            w = weight + 1e-9 * sums
            slope = near.T @ back
            return (near @ w)[0, 0] + (back @ w.T)[0, 0] + slope[0, 0], slope

        return jax.lax.scan(step, jnp.zeros((), jnp.float32), None, length=time)

    return lambda: jax.block_until_ready(run(near, weight, back))


def torch_products(rows: int, channels: int, time: int, threads: int):
    """Likewise."""
    near, weight = torch.randn(rows, KERNEL * channels), torch.randn(KERNEL * channels, channels)
    back = torch.randn(rows, channels)

    def run() -> None:
        torch.set_num_threads(threads)
        for _ in range(time):
            near @ weight
            back @ weight.T
            near.T @ back

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("time", 100), ("batch", 128), ("units", 100), ("channels", 27), ("rounds", 7)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--write", help="the report, as Markdown")
    args = parser.parse_args()
    mixer = WaveRNN.make(WIDTH, key=jr.key(0), n=args.units, channels=args.channels, width=KERNEL, dtype=jnp.float32)
    x = jr.normal(jr.key(1), (args.batch, args.time, WIDTH), jnp.float32)
    rows = args.batch * args.units
    sides = {"dualform": ours(mixer, x), "JAX's products": jax_products(rows, args.channels, args.time)}
    for threads in (1, 2):
        sides[f"PyTorch's products, {threads} threads"] = torch_products(rows, args.channels, args.time, threads)
        sides[f"PyTorch, {threads} threads"] = peer(mixer, np.asarray(x), threads)
    same = abs(float(sides["dualform"]()[0]) - float(sides["PyTorch, 1 threads"]()))
    seconds = alternate(sides, args.rounds, warm=1)
    fastest = lambda names: min(names, key=lambda name: median(seconds[name]))
    limit = fastest([name for name in sides if "products" in name])
    other = fastest([name for name in sides if name.startswith("PyTorch,")])
    times, faster = ratio(seconds, "dualform", limit), ratio(seconds, other, "dualform")
    said = (
        f"{times:.2f} times {limit} alone (goal at most {LIMIT:g}: {verdict(times <= LIMIT)}); {faster:.2f} times as fast as "
        f"{other} (goal {AHEAD:g}: {verdict(faster >= AHEAD)}). Both losses are one to {same:.1g}."
    )
    size = f"{args.units} units in each of {args.channels} channels, {args.batch} sequences of {args.time} tokens, float32."
    options = ("time", "batch", "units", "channels", "rounds")
    command = " ".join(["python -m benchmarks.wave_step", *(f"--{name} {getattr(args, name)}" for name in options)])
    intro = (__doc__ or "").split("\n\n")[2].replace("\n", " ")
    paragraphs = [intro, size, said, table(seconds, 1, "ms", "dualform")]
    print(write(args.write, "The wave RNN's gradient", command, paragraphs))


if __name__ == "__main__":
    main()
