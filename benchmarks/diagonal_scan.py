"""The diagonal recurrence against memory traffic (x + y) and against other ways to run it, forward and with gradient.

python -m benchmarks.diagonal_scan [--time 4096] [--units 1024] [--rounds 15] [--write FILE.md]
"""

import argparse

import jax
import jax.numpy as jnp
import jax.random as jr
import torch

from benchmarks.alternate import alternate, ratio, table, verdict, write
from dualform.recurrences.diagonal_scan import diagonal, naive


def jax_sides(time: int, units: int):
    """x + y, the plain scan with automatic gradient, the parallel prefix with automatic gradient, and ours."""
    keys = jr.split(jr.key(0), 3)
    decay = jr.uniform(keys[0], (time, units), jnp.float32)
    drive, cotangent = jr.normal(keys[1], (time, units)), jr.normal(keys[2], (time, units))

    def prefix(decay, drive):
        join = lambda a, b: (a[0] * b[0], b[0] * a[1] + b[1])
        return jax.lax.associative_scan(join, (decay, drive))[1]

    forms = {
        "dualform": lambda a, b: diagonal(a, b, form="scan")[0],
        "lax.scan, automatic gradient": lambda a, b: naive(a, b, jnp.zeros_like(b[0]))[0],
        "associative_scan, automatic gradient": prefix,
    }
    add = jax.jit(lambda a, b: a + b)
    forward, gradient = {"x + y": lambda: add(decay, drive).block_until_ready()}, {}
    gradient["x + y"] = forward["x + y"]
    for name, form in forms.items():
        run = jax.jit(form)

        def pull(a, b, g, form=form):
            h, back = jax.vjp(form, a, b)
            return h, *back(g)

        both = jax.jit(pull)
        forward[name] = lambda run=run: run(decay, drive).block_until_ready()
        gradient[name] = lambda both=both: jax.block_until_ready(both(decay, drive, cotangent))
    return forward, gradient, (decay, drive, cotangent)


def torch_sides(arrays, threads: int):
    """An eager loop over time in PyTorch, with and without its gradient."""
    decay, drive, cotangent = (torch.tensor(jax.device_get(a)) for a in arrays)

    def loop(decay, drive):
        h, rows = torch.zeros_like(drive[0]), []
        for decay_t, drive_t in zip(decay.unbind(0), drive.unbind(0), strict=True):
            h = torch.addcmul(drive_t, decay_t, h)
            rows.append(h)
        return torch.stack(rows)

    def forward():
        torch.set_num_threads(threads)
        with torch.no_grad():
            loop(decay, drive)

    def gradient():
        torch.set_num_threads(threads)
        a, b = decay.clone().requires_grad_(), drive.clone().requires_grad_()
        loop(a, b).backward(cotangent)

    return forward, gradient


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--time", type=int, default=4096)
    parser.add_argument("--units", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--write", default=None)
    options = parser.parse_args()
    forward, gradient, arrays = jax_sides(options.time, options.units)
    for threads in (1, 2):
        name = f"PyTorch loop, {threads} thread{'s' * (threads > 1)}"
        forward[name], gradient[name] = torch_sides(arrays, threads)
    there = alternate(forward, options.rounds)
    back = alternate(gradient, options.rounds)
    forward_times, gradient_times = (ratio(seconds, "dualform", "x + y") for seconds in (there, back))
    print(
        write(
            options.write,
            "The diagonal recurrence",
            f"python -m benchmarks.diagonal_scan --time {options.time} --units {options.units} --rounds {options.rounds}",
            [
                f"h_t = decay_t h_(t-1) + drive_t over {options.time} x {options.units} float32, decay changing in time. "
                f"Forward {forward_times:.2f} times x + y (goal 2.5: {verdict(forward_times <= 2.5)}); forward and gradient "
                f"{gradient_times:.2f} times (goal 8: {verdict(gradient_times <= 8)}).",
                "## Forward\n\n" + table(there, 1, "ms", "x + y"),
                "## Forward and gradient\n\n" + table(back, 1, "ms", "x + y"),
            ],
        )
    )


if __name__ == "__main__":
    main()
