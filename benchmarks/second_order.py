"""Second-order polishing of a gated RNN: our Levenberg-Marquardt beside optimistix's, in one run.

    python -m benchmarks.second_order [--sizes 3:16 4:24] [--iterations 30] [--noise 0.01] [--gigabytes 8] [--write FILE.md]

Both begin with the same student, of width d and n = m units (d:n): attention written into its weights, a few spare units
with random decays, every weight and decay off by `noise`. Both work in float64 on the CPU. Ours draws fresh data at every
iteration, as polishing does; optimistix minimises over one sample of as many residuals, since a solve is of one fixed
function. CPU seconds count, not the clock: the sides run one after another, and other work may share the machine. A side
whose compiled program plans for more memory than `gigabytes` is not run, and the table says what it plans for.
Needs `pip install '.[benchmark]'`.
"""

import argparse
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
import lineax
import numpy as np
import optimistix

from benchmarks.alternate import write
from dualform.construct import gated_rnn
from dualform.discover import relative_loss, targets
from dualform.mixers import GatedRNN
from dualform.tasks import Teacher
from dualform.training import SecondOrder, levenberg_marquardt
from dualform.training.second_order import Weights, balance, network, weights_of

TIME, BATCH = 32, 256
RESIDUALS = 1.5
"""For each parameter, on both sides."""


class Outcome(NamedTuple):
    """What one side reached, and what that cost."""

    loss: float
    iterations: int
    seconds: float
    compilation: float
    outside: float
    gigabytes: float


def start(d: int, units: int, noise: float) -> tuple[Any, GatedRNN]:
    """A teacher, and the student that every side begins with."""
    attention, rng = Teacher.gaussian(d, key=jr.key(0)).attention, np.random.default_rng(0)
    decay, a, b, u, w, readout = weights_of(gated_rnn(attention, "full"))
    more, products = units - len(decay), units - len(u)
    draw = lambda *shape: 0.1 * rng.standard_normal(shape)
    decay = np.append(decay, rng.uniform(0.05, 0.95, more))
    a, b = (np.concatenate([gate, draw(more, d + 1)]) for gate in (a, b))
    u, w = (np.block([[gate, draw(len(gate), more)], [draw(products, units)]]) for gate in (u, w))
    readout = np.concatenate([readout, draw(d, products)], axis=1)
    off = [array * (1 + noise * rng.standard_normal(array.shape)) for array in (a, b, u, w, readout)]
    decay = np.clip(decay + noise * rng.standard_normal(decay.shape), 1e-4, 1 - 1e-4)
    return attention, network(balance(Weights(decay, *off)))


def sequences(d: int, count: int, seed: int) -> np.ndarray:
    """Fresh Gaussian tokens."""
    return np.random.default_rng(seed).standard_normal((count, TIME, d))


def ours(rnn: GatedRNN, attention, iterations: int) -> Outcome:
    """Polishing as `dualform discover` does it."""

    def sample(key):
        x = np.asarray(jr.normal(key, (BATCH, TIME, attention.d_in)))
        return x, targets(attention, x)

    power = float(np.mean(targets(attention, sequences(attention.d_in, BATCH, 1)) ** 2))
    config = SecondOrder(iterations=iterations, tolerance=1e-26, patience=iterations, residuals=RESIDUALS)
    begin = time.process_time()
    found = levenberg_marquardt(rnn, sample, power, config, seed=0)
    seconds = time.process_time() - begin
    loss = relative_loss(found.rnn, attention, sequences(attention.d_in, 64, 3))
    size = sum(np.size(array) for array in weights_of(rnn))
    return Outcome(
        loss, found.iterations + 1, seconds, 0.0, 0.0, 8e-9 * size * (RESIDUALS * size + 64 * len(rnn.readout))
    )


def theirs(
    rnn: GatedRNN,
    attention,
    iterations: int,
    solver: optimistix.AbstractLeastSquaresSolver,
    decay_of: Callable,
    gigabytes: float,
) -> Outcome | float:
    """The same student and as many residuals, over one sample, by a solver of optimistix.

    **Returns:** what it reached; or the gigabytes that it plans for, where they are too many.
    """
    decay, *arrays = weights_of(rnn)
    size = decay.size + sum(array.size for array in arrays)
    x = sequences(attention.d_in, int(np.ceil(RESIDUALS * size / attention.d_in / TIME)) + 2, 2)
    y = targets(attention, x)
    scale = 1 / np.sqrt(y.size * np.mean(y**2))
    raw = decay if decay_of is as_it_is else np.log(-np.log(decay))

    def residual(parameters, data):
        raw, a, b, u, w, readout = parameters
        x, y = data
        z = jnp.concatenate([x, jnp.ones_like(x[..., :1])], axis=-1)
        step = lambda h, drive: (decay_of(raw) * h + drive,) * 2
        drive = jnp.einsum("btc,nc->tbn", z, a) * jnp.einsum("btc,nc->tbn", z, b)
        h = jax.lax.scan(step, jnp.zeros_like(drive[0]), drive)[1]
        return (jnp.einsum("tbm,om->bto", (h @ u.T) * (h @ w.T), readout) - y) * scale

    @jax.jit
    def solve(parameters, data):
        found = optimistix.least_squares(
            residual, solver, parameters, data, options={"jac": "fwd"}, max_steps=iterations, throw=False
        )
        return found.value, found.stats["num_steps"]

    parameters, data = (jnp.asarray(raw), *map(jnp.asarray, arrays)), (jnp.asarray(x), jnp.asarray(y))
    begin = time.process_time()
    compiled = solve.lower(parameters, data).compile()
    compilation = time.process_time() - begin
    analysis: Any = compiled.memory_analysis()
    planned = analysis.temp_size_in_bytes / 1e9
    if planned > gigabytes:
        return planned
    begin = time.process_time()
    (raw, *arrays), steps = jax.block_until_ready(compiled(parameters, data))
    seconds = time.process_time() - begin
    end = np.asarray(decay_of(raw))
    outside = float(max(np.max(end - 1), np.max(-end), 0.0))
    best = network(Weights(np.clip(end, 0, 1), *map(np.asarray, arrays)))
    loss = relative_loss(best, attention, sequences(attention.d_in, 64, 3))
    return Outcome(loss, int(steps), seconds, compilation, outside, planned)


def as_it_is(decay):
    """A decay is trained as itself; nothing keeps it within [0, 1]."""
    return decay


def through_nu(nu):
    """A decay is exp(-exp(nu)), as in first-order training: 0 and 1 are infinitely far."""
    return jnp.exp(-jnp.exp(nu))


def sides(rnn: GatedRNN, attention, iterations: int, gigabytes: float) -> dict[str, Outcome | float]:
    """Ours, then optimistix with the normal equations, both ways to train a decay, and with its own linear solver."""
    found: dict[str, Outcome | float] = {"dualform": ours(rnn, attention, iterations)}
    normal = lineax.Normal(lineax.Cholesky())
    for name, linear, decay_of in (
        ("normal equations, decays as themselves", normal, as_it_is),
        ("normal equations, decays through nu", normal, through_nu),
        ("QR (its default), decays as themselves", lineax.QR(), as_it_is),
    ):
        solver = optimistix.LevenbergMarquardt(rtol=1e-14, atol=1e-14, linear_solver=linear)
        found[f"optimistix, {name}"] = theirs(rnn, attention, iterations, solver, decay_of, gigabytes)
    return found


def table(found: dict[str, Outcome | float]) -> str:
    """Loss, iterations, cost, and what it costs beside ours."""
    lines = [
        "| side | relative loss, fresh data | iterations | CPU s an iteration | times `dualform` | compilation, CPU s | "
        "memory, GB | decays outside [0, 1] by |",
        "|---|---|---|---|---|---|---|---|",
    ]
    base = found["dualform"]
    assert isinstance(base, Outcome)
    each = lambda one: one.seconds / max(one.iterations, 1)
    for name, one in found.items():
        if not isinstance(one, Outcome):
            lines.append(f"| {name} | not run | | | | | {one:.1f} | |")
            continue
        lines.append(
            f"| {name} | {one.loss:.1e} | {one.iterations} | {each(one):.3f} | {each(one) / each(base):.2f} | "
            f"{one.compilation:.1f} | {one.gigabytes:.2f} | {one.outside:.0e} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["3:16", "4:24"])
    parser.add_argument("--iterations", type=int, default=30)
    parser.add_argument("--gigabytes", type=float, default=8)
    parser.add_argument("--noise", type=float, default=0.01)
    parser.add_argument("--write", default=None)
    options = parser.parse_args()
    paragraphs = [
        f"Sequences of {TIME} tokens, float64, optimistix {version('optimistix')}, lineax {version('lineax')}. The "
        f"student: attention written into it, spare units, noise of {options.noise:g}. {RESIDUALS:g} residuals for each "
        "parameter. Losses are on sequences that no side has seen. Memory: of ours the Jacobian, of optimistix's what its "
        f"compiled program plans for; with more than {options.gigabytes:g} GB it is not run."
    ]
    with jax.enable_x64(True):
        for size in options.sizes:
            d, units = map(int, size.split(":"))
            attention, rnn = start(d, units, options.noise)
            begun = relative_loss(rnn, attention, sequences(d, 64, 3))
            found = sides(rnn, attention, options.iterations, options.gigabytes)
            paragraphs.append(f"## d = {d}, n = m = {units}\n\nAt the start the relative loss is {begun:.1e}.")
            paragraphs.append(table(found))
    paragraphs.append(
        "What optimistix's solver has no place for, and polishing needs: data that are fresh at every iteration (a solve is of "
        "one function, so that it may fit its sample and not the teacher: the loss above is on other data); bounds (a decay "
        "at 0 or 1 that is held there, and leaves when the loss falls inward); the gauge of a gated RNN (its rescalings have "
        "no curvature; ours balances every factor before each step); arrays whose sizes change from student to student "
        "without being compiled anew; float64 whatever JAX's default is."
    )
    command = f"python -m benchmarks.second_order --sizes {' '.join(options.sizes)} --iterations {options.iterations} "
    command += f"--noise {options.noise:g} --gigabytes {options.gigabytes:g}"
    print(write(options.write, "Second-order polishing, ours and optimistix's", command, paragraphs))


if __name__ == "__main__":
    main()
