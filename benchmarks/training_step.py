"""One training step of the paper's student (AdamW, fresh data, clipping) against PyTorch and against a parallel prefix.

    python -m benchmarks.training_step [--units 100] [--steps 50] [--rounds 15] [--compile] [--write FILE.md]

The limit is what the step's matrix products alone would take at the speed this machine multiplies large float32 matrices,
measured in the same run by whichever of JAX and PyTorch is faster.
"""

import argparse
import time
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import torch

from benchmarks.alternate import against, alternate, ratio, table, verdict, write
from dualform.arrays import append_one, project
from dualform.mixers import GatedRNN
from dualform.tasks import Teacher, TeacherStudent
from dualform.training import FitConfig, initial_state, make_chunk

WIDTH, TIME, BATCH = 4, 32, 64
AHEAD, LIMIT = 2.5, 0.6
"""The goals: times faster than the fastest peer of each kind, and the share of the matrix-product limit."""


class PrefixRNN(GatedRNN):
    """The same network with its recurrence as `lax.associative_scan` and an automatic gradient, minimal-LRU's way."""

    def at(self, x, state, segments):
        z = append_one(x)
        drive = project(z, self.w_m_in) * project(z, self.w_x_in)
        decay = jnp.broadcast_to(self.decay, drive.shape)
        h = jax.lax.associative_scan(lambda a, b: (a[0] * b[0], b[0] * a[1] + b[1]), (decay, drive))[1]
        y = project(project(h, self.w_m_out) * project(h, self.w_x_out), self.readout)
        return (
            super().at(x, state, segments)._replace(y=y, state=h[-1])
        )  # the rest, the map, is thrown away by the call


def jax_side(kind: type[GatedRNN], units: int, steps: int):
    """A chunk of `steps` training steps inside one compiled loop, as `training.fit` runs it."""
    task = TeacherStudent(Teacher.gaussian(WIDTH, key=jr.key(0)), time=TIME, batch=BATCH)
    student = kind.make(WIDTH, key=jr.key(1), n=units, m=units, dtype=jnp.float32)
    config = FitConfig(steps=10**6, chunk=steps)
    chunk: Any = make_chunk(task.sample, config, scale=float(task.target_power(jr.key(2))))
    holder = [initial_state(student, config)]

    def run():
        holder[0], metrics = chunk(holder[0])
        jax.block_until_ready(metrics)

    return run


class TorchStudent(torch.nn.Module):
    """The same network in PyTorch, the recurrence a loop over time or one product with its decay kernel."""

    lag: torch.Tensor
    causal: torch.Tensor

    def __init__(self, units: int, kernel: bool):
        super().__init__()
        parameter = lambda *shape: torch.nn.Parameter(torch.randn(*shape) / shape[-1] ** 0.5)
        self.w_in, self.w_out = parameter(2 * units, WIDTH + 1), parameter(2 * units, units)
        self.readout, self.kernel = parameter(WIDTH, units), kernel
        self.nu = torch.nn.Parameter(torch.log(-torch.log(torch.rand(units) * 0.998 + 1e-3)))
        lag = torch.arange(TIME)[:, None] - torch.arange(TIME)[None]
        self.register_buffer("lag", lag.clamp(min=0).float())
        self.register_buffer("causal", (lag >= 0).float())

    def forward(self, x):
        z = torch.cat([x, torch.ones_like(x[..., :1])], -1)
        a, b = (z @ self.w_in.T).chunk(2, -1)
        drive, log_decay = a * b, -torch.exp(self.nu)
        if self.kernel:
            kernel = torch.exp(self.lag[:, :, None] * log_decay) * self.causal[:, :, None]
            h = torch.einsum("tsn,sbn->tbn", kernel, drive)
        else:
            decay, rows = torch.exp(log_decay), [drive[0]]
            for t in range(1, TIME):
                rows.append(torch.addcmul(drive[t], decay, rows[-1]))
            h = torch.stack(rows)
        u, w = (h @ self.w_out.T).chunk(2, -1)
        return (u * w) @ self.readout.T


def torch_side(units: int, steps: int, threads: int, *, kernel: bool, compiled: bool):
    """`steps` steps: fresh data, forward, backward, clipping, fused AdamW with its decays apart, cosine schedule."""
    torch.manual_seed(0)
    torch.set_num_threads(threads)
    teacher = [torch.randn(WIDTH, WIDTH) / WIDTH**0.5 for _ in range(3)]
    student = TorchStudent(units, kernel)
    weights = [value for name, value in student.named_parameters() if name != "nu"]
    optimizer = torch.optim.AdamW(
        [{"params": weights, "weight_decay": 0.1}, {"params": [student.nu], "weight_decay": 0.0}], lr=1e-3, fused=True
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10**6)

    def loss_of(x):
        kv = torch.cumsum((x @ teacher[0].T)[..., None] * (x @ teacher[1].T)[..., None, :], 0)
        target = torch.einsum("tbij,tbj->tbi", kv, x @ teacher[2].T)
        return torch.mean((student(x) - target) ** 2)

    loss_of = torch.compile(loss_of) if compiled else loss_of

    def run():
        torch.set_num_threads(threads)
        for _ in range(steps):
            optimizer.zero_grad(set_to_none=True)
            loss_of(torch.randn(TIME, BATCH, WIDTH)).backward()
            torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
            optimizer.step()
            schedule.step()

    return run


def product_speed(size: int = 1024, runs: int = 15) -> float:
    """Floating-point operations a second of a large float32 product, the faster of JAX and PyTorch (1 and 2 threads)."""
    a = np.random.default_rng(0).standard_normal((size, size), np.float32)
    x, y, multiply = jnp.asarray(a), torch.tensor(a), jax.jit(lambda x: x @ x)
    sides = {"jax": lambda: multiply(x).block_until_ready()}
    for threads in (1, 2):
        sides[f"torch {threads}"] = lambda threads=threads: (torch.set_num_threads(threads), y @ y)
    return 2 * size**3 / min(sorted(runs)[len(runs) // 2] for runs in alternate(sides, runs).values())


def products(units: int) -> float:
    """Floating-point operations of one step's matrix products: forward, and twice that for the gradient."""
    row = (WIDTH + 1) * 2 * units + units * 2 * units + units * WIDTH
    return 3 * 2 * row * TIME * BATCH


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--units", type=int, default=100)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--compile", action="store_true", help="also torch.compile (needs a C++ compiler)")
    parser.add_argument("--write", default=None)
    options = parser.parse_args()
    sides = {
        "dualform": jax_side(GatedRNN, options.units, options.steps),
        "JAX, associative_scan": jax_side(PrefixRNN, options.units, options.steps),
    }
    for threads in (1, 2):
        for kernel in (False, True):
            for compiled in (False, True) if options.compile else (False,):
                how = "compiled" if compiled else "eager"
                name = f"PyTorch {how}, {'decay kernel' if kernel else 'loop'}, {threads} thread{'s' * (threads > 1)}"
                sides[name] = torch_side(options.units, options.steps, threads, kernel=kernel, compiled=compiled)
    begin = time.perf_counter()
    seconds = alternate(sides, options.rounds)
    speed = product_speed()
    limit = {"matrix products alone": [products(options.units) / speed * options.steps] * options.rounds}
    peers = [name for name in sides if name.startswith("PyTorch")]
    fastest = {
        how: min((ratio(seconds, name, "dualform"), name) for name in peers if how in name)
        for how in ("eager", "compiled")
        if any(how in name for name in peers)
    }
    ahead = against(fastest, AHEAD)
    share = ratio(limit | seconds, "matrix products alone", "dualform")
    print(
        write(
            options.write,
            f"The training step, n = m = {options.units}",
            f"python -m benchmarks.training_step --units {options.units} --steps {options.steps} --rounds {options.rounds}"
            + " --compile" * options.compile,
            [
                f"d = {WIDTH}, batch {BATCH}, {TIME} tokens, float32, data made inside the step. dualform is {ahead}; it runs "
                f"at {100 * share:.0f}% of the matrix-product limit (goal {LIMIT:.0%}: {verdict(share >= LIMIT)}; "
                f"{speed / 1e9:.0f} GFLOP/s measured). {time.perf_counter() - begin:.0f} s in all.",
                table(seconds | limit, options.steps, "ms", "dualform"),
            ],
        )
    )


if __name__ == "__main__":
    main()
