"""What a trained model does with what it never saw, beside its scores: a text that it writes, or one sequence that it answers."""

import os
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float, Int

from dualform.checkpoints.loading import Loaded, load
from dualform.checkpoints.tokens import text_of
from dualform.counts import key_of
from dualform.errors import FileError
from dualform.generation import generate
from dualform.models.language_model import context_of
from dualform.reading import guarded, json_of_file, reason
from dualform.tasks import AbstractTask, Text
from dualform.training.outcome import Outcome
from dualform.training.run import Run

SAMPLES = "samples.json"
PROMPT, LENGTH, TEMPERATURE = 32, 200, 0.8
LONGEST = 128
"""Tokens of a sequence that are kept, its last ones."""


class Texts(NamedTuple):
    """What a model writes behind the first tokens of the test's text.

    - prompt, sampled, greedy: texts; drawn at `temperature` with `seed`, and of the likeliest token each time.
    - given, length: tokens of the prompt, and of each of the others.
    """

    prompt: str
    sampled: str
    greedy: str
    seed: int
    temperature: float
    given: int
    length: int


class Answers(NamedTuple):
    """What a model answers to the first sequence of the test.

    - time: tokens of the sequence.  read, asked, answered: the last of them, as many of each; where `asked` is below 0 nothing is
      asked for.
    """

    time: int
    read: tuple[int, ...]
    asked: tuple[int, ...]
    answered: tuple[int, ...]


def write_samples(folder: str | os.PathLike[str]) -> None:
    """Write samples.json into the folder of a training that is done, where its task is one of tokens and it is not there yet.

    **Raises:** as `Outcome.read`, `checkpoints.load` and the task's `open`.
    """
    outcome, run = Outcome.read(folder), Run(folder)
    if outcome.result is None or (run.path / SAMPLES).exists():
        return
    task = outcome.recipe.open_task()
    if task.vocabulary is None:
        return
    loaded = load(folder)
    made = _texts(task, loaded, outcome.recipe.seed) if isinstance(task, Text) else _answers(task, loaded.model)
    if made is not None:
        run.write_json(SAMPLES, made._asdict())


def read_samples(folder: str | os.PathLike[str]) -> Texts | Answers | None:
    """What the folder of a training has of it.

    **Raises:** `FileError` where it cannot be read.
    """
    path = Path(folder) / SAMPLES
    refusal = lambda error: FileError(
        f"{str(path)!r} is not what a training writes ({reason(error)}). Delete it; the same training writes it again."
    )
    found = json_of_file(path, "Delete it; the same training writes it again.")
    if found is None:
        return None
    with guarded(refusal):
        if "prompt" in found:
            return Texts(**{name: kind(found[name]) for name, kind in Texts.__annotations__.items()})
        read, asked, answered = (tuple(map(int, found[name])) for name in ("read", "asked", "answered"))
        if not len(read) == len(asked) == len(answered):
            raise ValueError("there are not as many answers as tokens")
        return Answers(int(found["time"]), read, asked, answered)


def _texts(task: Text, loaded: Loaded, seed: int) -> Texts:
    limit = context_of(loaded.model)
    given = min(PROMPT, task.time, PROMPT if limit is None else max(1, limit // 2))  # training windows may be longer
    prompt = np.asarray(task.test[:given], np.int32)
    length = LENGTH if limit is None else max(1, min(LENGTH, limit - len(prompt)))
    sampled, _ = generate(loaded.model, prompt, length, key=key_of(seed), temperature=TEMPERATURE)
    greedy, _ = generate(loaded.model, prompt, length, temperature=0.0)
    before, drawn, likeliest = (text_of(loaded.tokens, np.asarray(ids).tolist()) for ids in (prompt, sampled, greedy))
    return Texts(before, drawn, likeliest, seed, TEMPERATURE, len(prompt), length)


def _answers(task: AbstractTask, model: Any) -> Answers | None:
    """None where the targets are no tokens."""
    x, y = next(iter(task.held_out("test")))
    if x.shape != y.shape or not np.issubdtype(y.dtype, np.integer):
        return None
    answered = np.argmax(np.asarray(_logits(model, x[0])), axis=-1)
    last = (np.asarray(each)[-LONGEST:].tolist() for each in (x[0], y[0], answered))
    read, asked, said = map(tuple, last)
    return Answers(len(x[0]), read, asked, said)


@eqx.filter_jit
def _logits(model: Any, x: Int[Array, " time"]) -> Float[Array, "time vocabulary"]:
    return model(x)[0]
