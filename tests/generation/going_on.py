"""A process that goes on from saved sessions, for the test that kills it: `python -m tests.generation.going_on FOLDER NAME ...`.

Of each model it loads the session, goes on, and puts what it found beside it; then it saves the first one over its file, and
stops for ever when all bytes are written and the new file has not yet taken the old one's place.
"""

import os
import sys
import time
from pathlib import Path

import jax
import jax.random as jr
import numpy as np

from dualform.generation import Session
from tests.generation.texts import TEXT, model


def go_on(session: Session) -> None:
    """Some tokens more."""
    session.write(3, key=jr.key(3))
    session.read(TEXT[20:25])


def main(folder: Path, names: list[str]) -> None:
    sessions = [Session.load(folder / name, model(name)) for name in names]
    for name, session in zip(names, sessions, strict=True):
        go_on(session)
        leaves = jax.tree.leaves((session.logits, session.state))
        np.savez(folder / f"{name}.npz", *(np.asarray(leaf) for leaf in leaves))

    def stop(handle):
        (folder / "reached").touch()
        time.sleep(600)

    os.fsync = stop
    sessions[0].save(folder / names[0])


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
