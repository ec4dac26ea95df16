"""Measure cases in a process of its own, with XLA's optimiser and 32 bits as users have them: prints what is wrong, as JSON.

python -m tests.precision.measured float32 65 recurrence:outer+rows+chunked mixer:hgrn2 ...
"""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def wrong_in(dtype: str, time: int, cases: list[str]) -> dict[str, list[str]]:
    """What is wrong with each of the cases; run from the tests, whose own process has other settings."""
    import os

    settings = {k: v for k, v in os.environ.items() if k not in ("XLA_FLAGS", "JAX_ENABLE_X64")}
    settings["PYTHONPATH"] = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    command = [sys.executable, "-m", "tests.precision.measured", dtype, str(time), *cases]
    done = subprocess.run(command, env=settings, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def main(dtype: str, time: str, *cases: str) -> None:
    """Print, as the last line, what is wrong with each case."""
    import jax

    from tests.precision import broken, models, of_mixers, of_recurrences
    from tests.precision.measure import measure

    assert not jax.config.read("jax_enable_x64")
    found = {}
    for each in cases:
        kind, name = each.split(":")
        if kind == "model":
            found[each] = models.wrong_at_first(name, dtype)
        elif kind == "broken":
            found[each] = broken.wrong(name, dtype, int(time))
        else:
            of = of_mixers if kind == "mixer" else of_recurrences
            found[each] = measure(of.case(name, int(time)), dtype)
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
