"""What a stored beginning saves: a turn of a conversation read behind it against all of it read anew; and states on disk.

    python -m benchmarks.prefixes [--prefix 1024] [--turn 32] [--rounds 9] [--real-rounds 3] [--write FILE.md]

A turn is a text of `prefix` tokens that all turns share and `turn` tokens of its own. Stored: `PrefixStore.read`, which has the
state after the shared tokens. Anew: a session that reads all of them. Both end with the same bits, which is checked. A random
transformer of 6 layers, and SmolLM2-135M where it is in the cache (`dualform models get smollm2`).
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks.alternate import alternate, ratio, write
from dualform import checkpoints, generation, models
from dualform.checkpoints.cache import is_there
from dualform.checkpoints.catalogue import known
from dualform.generation import PrefixStore, Session

STATES = {"full": 2048, "tova": 256}
SIZES: Any = {"vocabulary": 8192, "d": 256, "layers": 6, "heads": 8, "kv_heads": 4, "hidden": 768, "context": 4096}


def sides(model: Any, prefix: int, turn: int) -> dict[str, Callable[[], object]]:
    """The same turn read both ways, another one at each run; their logits are compared to the bit."""
    draw, store = np.random.default_rng(0), PrefixStore(1 << 30)
    shared = draw.integers(model.vocabulary, size=prefix)
    store.read(model, shared)
    asked: list[np.ndarray] = []
    answers: list[np.ndarray] = []

    def stored():
        asked.append(np.concatenate([shared, draw.integers(model.vocabulary, size=turn)]))
        answers.append(np.asarray(store.read(model, asked[-1], shared=prefix).logits))

    def anew():
        session = Session(model)
        session.read(asked[-1])
        if np.asarray(session.logits).tobytes() != answers[-1].tobytes():
            raise AssertionError("the stored beginning gave other logits")

    return {"stored": stored, "anew": anew}


def on_disk(model: Any, tokens: int, rounds: int) -> tuple[int, float, float]:
    """Bytes of the file of a session, and median seconds to save and to load it."""
    session = Session(model, history=0)
    session.read(np.arange(tokens) % model.vocabulary)
    generation.fingerprint(model)
    with tempfile.TemporaryDirectory() as folder:
        path, saved, loaded = Path(folder) / "state", [], []
        for _ in range(rounds):
            begin = time.perf_counter()
            session.save(path)
            saved.append(time.perf_counter() - begin)
            begin = time.perf_counter()
            jax.block_until_ready(Session.load(path, model, history=0).state)
            loaded.append(time.perf_counter() - begin)
        return path.stat().st_size, statistics.median(saved), statistics.median(loaded)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prefix", type=int, default=1024)
    parser.add_argument("--turn", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--real-rounds", type=int, default=3)
    parser.add_argument("--write", default=None)
    options = parser.parse_args()
    found = {"random, 6 layers": (models.llama(key=jax.random.key(0), **SIZES), options.rounds)}
    if is_there(known("smollm2")):
        found["SmolLM2-135M"] = (checkpoints.load("smollm2").model, options.real_rounds)
    turns = ["| model | memory | stored, ms | anew, ms | anew / stored |", "|---|---|---|---|---|"]
    files = ["| model | memory | tokens | bytes | save, ms | load, ms |", "|---|---|---|---|---|---|"]
    digests = []
    for name, (model, rounds) in found.items():
        begin = time.perf_counter()
        generation.fingerprint(model)
        digests.append(f"{name} {time.perf_counter() - begin:.2f} s")
        for policy, states in STATES.items():
            small = generation.bounded(model, policy, states)
            seconds = alternate(sides(small, options.prefix, options.turn), rounds, warm=1)
            stored, anew = (1e3 * statistics.median(seconds[side]) for side in ("stored", "anew"))
            times = ratio(seconds, "anew", "stored")
            turns.append(f"| {name} | {policy}, {states} | {stored:.1f} | {anew:.1f} | {times:.1f} |")
            size, save, load = on_disk(small, options.prefix, rounds)
            files.append(
                f"| {name} | {policy}, {states} | {options.prefix} | {size:,} | {1e3 * save:.1f} | {1e3 * load:.1f} |"
            )
    print(
        write(
            options.write,
            f"A beginning of {options.prefix} tokens that is stored",
            f"python -m benchmarks.prefixes --prefix {options.prefix} --turn {options.turn} --rounds {options.rounds} "
            f"--real-rounds {options.real_rounds}",
            [
                f"A turn of {options.turn} tokens behind a beginning of {options.prefix}, float32: medians of alternated runs, "
                "and the median ratio of pairs. Both ways end with the same logits to the bit, which every run checks.",
                "\n".join(turns),
                "A session on disk; the file is digested, checked and written atomically, flushed to the disk.",
                "\n".join(files),
                f"The digest of the weights, once for each model in a process: {', '.join(digests)}.",
            ],
        )
    )


if __name__ == "__main__":
    main()
