"""Training language models: tokens a second and memory of dualform's engine, beside the same models in PyTorch on the same data.

    python -m benchmarks.throughput [--peers FOLDER] [--width 256] [--layers 2] [--time 256] [--batch 8] [--rounds 5]
                                    [--only lstm,gru] [--write FILE.md]

A model embeds bytes, adds in each block what a mixer makes of its RMS-normed input (the transformer's blocks have a SwiGLU
besides), and reads logits off a last norm. Both sides train on the same stretches of bytes, by cross-entropy, clipped gradients
and AdamW, in float32. Ours is the chunk of steps that `dualform train` runs; PyTorch's a loop of steps, with one thread and with
two, of which the faster counts. Rounds are run in turn. Memory is the peak of a process of its own that trains one side alone,
less what it holds when its packages are imported.

To have the peers:

    pip install torch==2.13.0 einops
    pip download --no-deps mambapy==1.2.0 minGRU-pytorch==0.2.1; for wheel in *.whl; do unzip -q -o $wheel -d FOLDER; done
"""

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import torch

from benchmarks.alternate import alternate, ratio, write
from dualform.arrays import count_parameters
from dualform.models.architecture import Architecture
from dualform.training import FitConfig, initial_state, make_chunk

BYTES, HEADS, RATE, DECAY = 256, 4, 1e-3, 0.1
STEPS = 4
"""Steps of a round."""

OURS: dict[str, dict[str, Any]] = {
    "lstm": {"mixers": ("lstm",)},
    "gru": {"mixers": ("gru",)},
    "min_gru": {"mixers": ("min_gru",), "options": {"candidate": "positive"}},
    "mamba": {"mixers": ("mamba",)},
    "transformer": {"mixers": ("softmax_attention",), "mlp": "swiglu", "options": {"heads": HEADS}},
}
"""The models, as architectures; without an MLP where it is not said."""


def text(batch: int, time: int, count: int = 64) -> np.ndarray:
    """Stretches of bytes, (count, batch, time + 1), which both sides take in the same order."""
    return np.random.default_rng(0).integers(0, BYTES, (count, batch, time + 1)).astype(np.int32)


def architecture(name: str, width: int, layers: int, time: int) -> Architecture:
    """One of the models; the transformer has room for the text."""
    told = OURS[name]
    options = dict(told.get("options", {})) | ({"context": time} if name == "transformer" else {})
    return Architecture(told["mixers"], width, layers, told.get("mlp", "none"), "rms", options)


def cross_entropy(model: Any, x: jax.Array, y: jax.Array) -> jax.Array:
    """The mean over a batch, in nats."""
    logits = jax.vmap(lambda x: model(x)[0])(x)
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, y))


def ours(name: str, width: int, layers: int, time: int, batch: int) -> tuple[Callable[[], None], int]:
    """A round of training steps, and how many weights there are."""
    model = architecture(name, width, layers, time).language_model(BYTES, key=jr.key(0), dtype=jnp.float32)
    stretches = text(batch, time)

    def sample(key):
        piece = jnp.asarray(stretches)[jr.randint(key, (), 0, len(stretches))]
        return piece[:, :-1], piece[:, 1:]

    config = FitConfig(steps=10**6, chunk=STEPS, learning_rate=RATE, weight_decay=DECAY)
    chunk: Any = make_chunk(sample, config, loss=cross_entropy)
    holder = [initial_state(model, config)]

    def run() -> None:
        holder[0], metrics = chunk(holder[0])
        jax.block_until_ready(metrics)

    return run, count_parameters(model)


class Attention(torch.nn.Module):
    """Rotary softmax attention by PyTorch's fused operator."""

    def __init__(self, width: int, time: int):
        super().__init__()
        self.project, self.out = (
            torch.nn.Linear(width, 3 * width, bias=False),
            torch.nn.Linear(width, width, bias=False),
        )
        half = width // HEADS // 2
        angle = torch.arange(time)[:, None] * 10_000 ** (-torch.arange(half) / half)
        self.cos, self.sin = torch.cos(angle), torch.sin(angle)

    def turned(self, x):
        a, b = x.chunk(2, -1)
        return torch.cat([a * self.cos - b * self.sin, b * self.cos + a * self.sin], -1)

    def forward(self, x):
        split = lambda a: a.unflatten(-1, (HEADS, -1)).transpose(1, 2)
        q, k, v = map(split, self.project(x).chunk(3, -1))
        y = torch.nn.functional.scaled_dot_product_attention(self.turned(q), self.turned(k), v, is_causal=True)
        return self.out(y.transpose(1, 2).flatten(2))


class SwiGLU(torch.nn.Module):
    """W_down (silu(W_gate x) * W_up x)."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.up, self.down = (
            torch.nn.Linear(width, 2 * hidden, bias=False),
            torch.nn.Linear(hidden, width, bias=False),
        )

    def forward(self, x):
        gate, up = self.up(x).chunk(2, -1)
        return self.down(torch.nn.functional.silu(gate) * up)


class Model(torch.nn.Module):
    """An embedding, residual parts each behind a norm, a last norm, and a head."""

    def __init__(self, parts: list[torch.nn.Module], width: int):
        super().__init__()
        norm = lambda: torch.nn.RMSNorm(width)
        self.embedding, self.head = torch.nn.Embedding(BYTES, width), torch.nn.Linear(width, BYTES, bias=False)
        self.parts, self.last = torch.nn.ModuleList(parts), norm()
        self.norms = torch.nn.ModuleList(norm() for _ in parts)

    def forward(self, tokens):
        x = self.embedding(tokens)
        for norm, part in zip(self.norms, self.parts, strict=True):
            y = part(norm(x))
            x = x + (y[0] if isinstance(y, tuple) else y)
        return self.head(self.last(x))


def torch_parts(name: str, width: int, layers: int, time: int, hidden: int) -> list[torch.nn.Module]:
    """The parts of a model in PyTorch, by its own modules and by the peers'."""
    if name == "lstm":
        return [torch.nn.LSTM(width, width, batch_first=True) for _ in range(layers)]
    if name == "gru":
        return [torch.nn.GRU(width, width, batch_first=True) for _ in range(layers)]
    if name == "min_gru":
        from minGRU_pytorch.minGRU import minGRU

        return [minGRU(width) for _ in range(layers)]
    if name == "mamba":
        from mambapy.mamba import MambaBlock, MambaConfig

        return [MambaBlock(MambaConfig(d_model=width, n_layers=1)) for _ in range(layers)]
    return [part for _ in range(layers) for part in (Attention(width, time), SwiGLU(width, hidden))]


def theirs(name: str, width: int, layers: int, time: int, batch: int, threads: int) -> tuple[Callable[[], None], int]:
    """A round of PyTorch's steps, and how many weights there are."""
    torch.manual_seed(0)
    hidden = _hidden(name, width, layers, time)
    model = Model(torch_parts(name, width, layers, time, hidden), width)
    optimiser = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=DECAY, fused=True)
    stretches, turn = torch.tensor(text(batch, time), dtype=torch.long), [0]

    def run() -> None:
        torch.set_num_threads(threads)
        for _ in range(STEPS):
            piece = stretches[turn[0] % len(stretches)]
            turn[0] += 1
            optimiser.zero_grad(set_to_none=True)
            logits = model(piece[:, :-1])
            torch.nn.functional.cross_entropy(logits.flatten(0, 1), piece[:, 1:].flatten()).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()

    return run, sum(weight.numel() for weight in model.parameters())


def _hidden(name: str, width: int, layers: int, time: int) -> int:
    """The width of our MLP, for the other side to have the same; 0 where there is none."""
    if name != "transformer":
        return 0
    made: Any = architecture(name, width, layers, time).language_model(BYTES, key=jr.key(0), dtype=jnp.float32)
    return len(made.blocks[0].mlp.w_gate)


def side(name: str, which: str, sizes: tuple[int, int, int, int], threads: int = 2) -> tuple[Callable[[], None], int]:
    """One side of a comparison."""
    return ours(name, *sizes) if which == "dualform" else theirs(name, *sizes, threads)


def peak(anew: bool = False) -> float:
    """The most that this process has held, in MB; or what it holds now, from which the most is counted anew."""
    if anew:
        Path("/proc/self/clear_refs").write_text("5")
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) / 1e3


def memory(name: str, which: str, options: argparse.Namespace) -> float:
    """MB that training one side takes in a process of its own, beyond what its packages hold."""
    told = {"width": options.width, "layers": options.layers, "time": options.time, "batch": options.batch}
    sizes = [part for key, value in told.items() for part in (f"--{key}", str(value))]
    command = [sys.executable, "-m", "benchmarks.throughput", "--peers", options.peers, *sizes, "--alone", name, which]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return float(json.loads(found.splitlines()[-1]))


def alone(name: str, which: str, options: argparse.Namespace) -> None:
    """Print the MB of two rounds of one side."""
    jax.block_until_ready(jnp.ones(2) + 1)
    (torch.ones(2, requires_grad=True) + 1).sum().backward()
    before = peak(anew=True)
    run, _ = side(name, which, (options.width, options.layers, options.time, options.batch))
    for _ in range(2):
        run()
    print(json.dumps(peak() - before))


def row(name: str, options: argparse.Namespace) -> list[str]:
    """A line of the table."""
    sizes = (options.width, options.layers, options.time, options.batch)
    made = {f"{threads}": side(name, "torch", sizes, threads) for threads in (1, 2)} | {"dualform": ours(name, *sizes)}
    seconds = alternate({key: run for key, (run, _) in made.items()}, options.rounds, warm=1)
    fastest = min(("1", "2"), key=lambda threads: median(seconds[threads]))
    tokens = options.batch * options.time * STEPS
    rate = lambda key: f"{tokens / median(seconds[key]):,.0f}"
    held = [memory(name, which, options) for which in ("torch", "dualform")]
    return [
        name,
        f"{made['1'][1]:,}",
        f"{made['dualform'][1]:,}",
        f"{rate(fastest)} ({fastest} thread{'s' * (fastest == '2')})",
        rate("dualform"),
        f"{ratio(seconds, fastest, 'dualform'):.2f}",
        *(f"{each:,.0f}" for each in held),
        f"{held[1] / held[0]:.2f}",
    ]


HEAD = (
    "model",
    "weights, PyTorch",
    "weights, dualform",
    "tokens a second, PyTorch",
    "tokens a second, dualform",
    "times faster",
    "MB, PyTorch",
    "MB, dualform",
    "of PyTorch's",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", default="peers", help="the folder where peers are unzipped")
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--time", type=int, default=256)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default=",".join(OURS), help="models, separated by commas")
    parser.add_argument("--alone", nargs=2, metavar=("MODEL", "SIDE"), help="print the memory of one side")
    parser.add_argument("--write", default=None)
    options = parser.parse_args()
    if Path(options.peers).is_dir():
        sys.path.append(options.peers)
    if options.alone:
        name, which = options.alone
        return alone(name, which, options)
    lines = [HEAD, ["---"] * len(HEAD), *map(partial(row, options=options), options.only.split(","))]
    said = (
        f"Batches of {options.batch} texts of {options.time} bytes, width {options.width}, {options.layers} layers, float32; "
        f"medians of {options.rounds} rounds of {STEPS} steps, the sides in turn, ratios round by round. minGRU is that of "
        "minGRU-pytorch, Mamba that of mambapy (its parallel scan); LSTM, GRU and attention are PyTorch's. Memory is the peak "
        "of a process that trains one side alone, less what it held before; ours has the compiler in it."
    )
    shown = ("width", "layers", "time", "batch", "rounds")
    command = "python -m benchmarks.throughput " + " ".join(f"--{name} {getattr(options, name)}" for name in shown)
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    print(write(options.write, "Training throughput", command, [said, table]))


if __name__ == "__main__":
    main()
