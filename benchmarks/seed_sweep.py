"""A sweep of seeds inside one compiled loop against the same seeds one by one in eager PyTorch.

    python -m benchmarks.seed_sweep [--seeds 16] [--units 24] [--steps 10] [--rounds 9] [--write FILE.md]

Both train the paper's student on fresh data with AdamW and clipping; the unit is one step of one seed. PyTorch runs seed after
seed, so that a step of one costs what a step of any does; it is measured with one and with two threads and with both ways to
write the recurrence, and the fastest counts.
"""

import argparse

import jax
import jax.numpy as jnp
import jax.random as jr

from benchmarks.alternate import alternate, ratio, table, verdict, write
from benchmarks.training_step import WIDTH, torch_side
from dualform.mixers import GatedRNN
from dualform.tasks import Teacher, TeacherStudent
from dualform.training import FitConfig
from dualform.training.ensemble import Members, make_ensemble_chunk, members_of


def our_side(seeds: int, units: int, steps: int, members: Members):
    """`steps` steps of every seed, each with a teacher and data of its own."""
    tasks = [TeacherStudent(Teacher.gaussian(WIDTH, key=jr.key(seed))) for seed in range(seeds)]
    students = [GatedRNN.make(WIDTH, key=jr.key(seed), n=units, m=units, dtype=jnp.float32) for seed in range(seeds)]
    config = FitConfig(steps=10**6)
    state, data = members_of(students, config, range(seeds), tasks)
    chunk = make_ensemble_chunk(lambda key, task: task.sample(key), config, members=members)
    holder = [state]

    def run():
        holder[0], losses = chunk(holder[0], data, jnp.asarray(steps, jnp.int32))
        jax.block_until_ready(losses)

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=16)
    parser.add_argument("--units", type=int, default=24)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--write", default=None)
    options = parser.parse_args()
    ours = {
        f"dualform, {members}": our_side(options.seeds, options.units, options.steps, members)
        for members in ("map", "vmap")
    }
    peers = {
        f"PyTorch eager, {'decay kernel' if kernel else 'loop'}, {threads} thread{'s' * (threads > 1)}": torch_side(
            options.units, options.steps, threads, kernel=kernel, compiled=False
        )
        for threads in (1, 2)
        for kernel in (False, True)
    }
    seconds = alternate(ours | peers, options.rounds)
    # Ours are `seeds` seeds at once: the cost of one is what stands beside PyTorch's one.
    seconds |= {name: [value / options.seeds for value in seconds[name]] for name in ours}
    fastest = min(peers, key=lambda name: ratio(seconds, name, "dualform, map"))
    share = 1 / ratio(seconds, fastest, "dualform, map")
    print(
        write(
            options.write,
            f"A sweep of {options.seeds} seeds, n = m = {options.units}",
            f"python -m benchmarks.seed_sweep --seeds {options.seeds} --units {options.units} --steps {options.steps} "
            f"--rounds {options.rounds}",
            [
                f"d = {WIDTH}, batch 64, 32 tokens, float32. One step of one seed costs {share:.2f} of that of {fastest}, the "
                f"fastest eager PyTorch (goal, a third at most: {verdict(share <= 1 / 3)}). `map` goes through the seeds "
                "inside the loop and is the default on a CPU, `vmap` makes each operation one for all seeds and is the default "
                "on accelerators.",
                table(seconds, options.steps, "ms", "dualform, map"),
            ],
        )
    )


if __name__ == "__main__":
    main()
