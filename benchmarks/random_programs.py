"""Ten thousand random programs: every pass gives what the one before it gave, and what is compiled gives what is interpreted.

    python -m benchmarks.random_programs [--programs 10000] [--write FILE.md]

Programs are drawn as the tests draw them, of which these are the first so many. Passes are compared in exact fractions, without
any rounding; networks, gated linear RNNs in float64, with the interpreter. The command fails at the first pass that changes a
program.
"""

import argparse
import time

import hypothesis
import jax
from hypothesis import strategies as st
from tests.programs.drawn import programs
from tests.programs.test_emitted import TOLERANCE, compared
from tests.programs.test_passes import held, tokens

from benchmarks.alternate import verdict, write
from dualform.programs.lowering import lowered


def passes_hold(many: int) -> int:
    """Hold every pass of so many programs to the one before; how many there were."""
    count = 0

    @hypothesis.settings(
        max_examples=many,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=[hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.data_too_large],
    )
    @hypothesis.given(st.data())
    def each(data):
        nonlocal count
        output = data.draw(programs(most=8))
        held(output, data.draw(tokens(lowered(output).width, 4)))
        count += 1

    each()
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", type=int, default=10_000)
    parser.add_argument("--write", default=None)
    options = parser.parse_args()
    begin = time.perf_counter()
    count = passes_hold(options.programs)
    seconds = time.perf_counter() - begin
    with jax.enable_x64(True):
        found = compared(options.programs)
    said = [
        f"{count:,} programs through all passes: each pass gave what the one before it gave, to the fraction ({seconds:.0f} s).",
        f"{found.drawn:,} programs as gated linear RNNs: {found.refused:,} are refused, as a register's past that is read by "
        f"another is a shift, and {found.drawn - found.held - found.refused:,} are larger than the batch that all are run in. Of "
        f"the other {found.held:,} the largest error is {found.error:.1e}, in units of the output where that is above 1 (bound "
        f"{TOLERANCE:g}: {verdict(found.error < TOLERANCE)}). {time.perf_counter() - begin:.0f} s in all.",
    ]
    command = f"python -m benchmarks.random_programs --programs {options.programs}"
    print(write(options.write, "Random programs, compiled", command, said))


if __name__ == "__main__":
    main()
