"""A tiny training run in a process of its own, for the tests that kill it: `python -m tests.training.interrupted RUN HOW`.

HOW is "whole" (to the end), "chunk" (stops for ever after two chunks, their metrics written and their checkpoint not) or
"save" (says when it begins its second checkpoint, and goes on).
"""

import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from dualform.checkpoints import save_weights
from dualform.mixers import GatedRNN, LinearAttention
from dualform.tasks import Teacher, TeacherStudent
from dualform.training import Checkpoints, FitConfig, Run, TrainState, fit, select_units

CONFIG = FitConfig(steps=90, chunk=10, warmup=10, learning_rate=1e-2, seed=3)
SHRINK = (30, 60)
"""Steps after which units are cut away."""


def shrunk(state: TrainState) -> TrainState:
    """Two hidden units and one pre-readout unit fewer, the ones that do least; the moments go with them."""
    if int(state.step) not in SHRINK:
        return state
    rnn = state.model
    assert isinstance(rnn, GatedRNN)
    hidden = np.argsort(np.linalg.norm(np.asarray(rnn.w_m_out), axis=0))[2:]
    readout = np.argsort(np.linalg.norm(np.asarray(rnn.readout), axis=0))[1:]
    return select_units(state, np.sort(hidden), np.sort(readout))


def train(folder: Path, on_chunk=None):
    """The run, from wherever the folder's checkpoints end."""
    w = jr.normal(jr.key(0), (3, 2, 2), jnp.float32)
    task = TeacherStudent(Teacher(LinearAttention(*w), None, "tiny", "a test"), time=6, batch=4)
    student = GatedRNN.make(2, key=jr.key(1), n=8, m=6, dtype=jnp.float32)
    run = Run.create(folder, CONFIG)
    fitted = fit(student, task.sample, CONFIG, run=run, reshape=shrunk, on_chunk=on_chunk, save_every=0)
    if fitted.status == "done":
        save_weights(folder / "weights.safetensors", fitted.model)
        run.write_json("result.json", {"loss": fitted.history[-1]["loss"], "steps": fitted.steps})
    return fitted


def main(folder: Path, how: str) -> None:
    chunks, save = [], Checkpoints.save

    def stop(progress):
        chunks.append(progress.step)
        if len(chunks) == 2:
            (folder / "reached").touch()
            time.sleep(600)

    def announced(self, step, arrays, metadata):
        chunks.append(step)
        if len(chunks) == 2:
            (folder / "reached").touch()
        save(self, step, arrays, metadata)

    if how == "save":
        Checkpoints.save = announced
    train(folder, stop if how == "chunk" else None)


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", False)
    main(Path(sys.argv[1]), sys.argv[2])
