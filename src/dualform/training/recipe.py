"""A whole training by what it is told: a task, a model, how it is fitted; what `dualform train` runs and sweeps repeat."""

import contextlib
import dataclasses
import os
import time
import tomllib
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import equinox as eqx
import jax
import jax.random as jr
import tomli_w
from jaxtyping import Array

from dualform import tasks
from dualform.arrays import count_parameters
from dualform.checkpoints import save_weights
from dualform.checkpoints.tokens import ByteTokens, CharacterTokens, notes
from dualform.counts import key_of, seed_of
from dualform.errors import FileError, InputError, require
from dualform.models.architecture import Architecture
from dualform.published_tokens import TOKENIZER
from dualform.reading import guarded, reason, text_of_file
from dualform.room import check_fits
from dualform.tasks import AbstractTask
from dualform.tensor_file import write_atomically
from dualform.training.carried import Carried
from dualform.training.config import LATER, FitConfig, told_of
from dualform.training.devices import check_batch, mesh_of
from dualform.training.fitting import Fitted, Progress, fit
from dualform.training.measuring import measure, measure_carried
from dualform.training.processes import Processes
from dualform.training.run import Run
from dualform.training.seen import as_run

Scoring: TypeAlias = Callable[[Any, str], dict[str, float]]
"""(model, split) -> scores by name."""
WEIGHTS, RECIPE = "model.safetensors", "run.toml"


class Measured(NamedTuple):
    """How far a training is, and how fast.

    - progress: as of `fit`.  tokens_per_second: read in training since this session began, evaluation included.
    """

    progress: Progress
    tokens_per_second: float


@dataclass(frozen=True)
class Recipe:
    """All that a training is told.

    - task: a name of `tasks.known()`, or a file of one's own.  data: the path of its files, for a task that reads any.
    - settings: of the task, such as {"time": 128}.  model: its sizes.  fit: steps, rates and the rest; what is held out is
      looked at after each `chunk`.
    - seed: of the fresh weights and of the data that are drawn; `fit.seed` is not said apart.
    - carried: whether sequences go on from step to step with their states (`training.Carried`); what is held out is one, then.

    **Raises:** `InputError` where `fit.seed` is said.
    """

    task: str
    data: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    model: Architecture = field(default_factory=Architecture)
    fit: FitConfig = field(default_factory=FitConfig)
    seed: int = 0
    carried: bool = field(default=False, metadata=LATER)

    def __post_init__(self):
        require(self.fit.seed == 0, f"fit.seed is {self.fit.seed}; say seed for the whole training instead.")
        seed_of(self.seed)

    @classmethod
    def of(cls, told: Mapping[str, Any], where: str = "the config") -> "Recipe":
        """The recipe of nested mappings, as TOML and JSON have them; what is not told is as by default.

        **Raises:** `InputError` for a key that is none, or a value of another type, naming both.
        """
        return _made(cls, told, where, "")

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> "Recipe":
        """The recipe of a file of TOML, such as the run.toml that every run writes.

        **Raises:** `FileError` where it is not to be read; `InputError` as of `of`.
        """
        return cls.of(read_toml(path), repr(os.fspath(path)))

    def told(self) -> dict[str, Any]:
        """As nested mappings, of what JSON and TOML can hold."""
        told = _plain(self)
        del told["fit"]["seed"]
        return told

    def toml(self) -> str:
        """As a file of TOML, which `read` gives back."""
        return tomli_w.dumps(self.told())

    def open_task(self) -> AbstractTask:
        """The task, with its data.

        **Raises:** as of the task's `open`.
        """
        return tasks.named(self.task).open(self.data, **self.settings)

    def make_model(self, task: AbstractTask, dtype: Any = None) -> Any:
        """A fresh model that reads what the task gives.

        **Raises:** `InputError` where it, and what training needs beside it, cannot fit into memory, or where it cannot be run
        as `fit` says.
        """
        one_each = dataclasses.replace(self.model, layers=min(len(self.model.mixers), self.model.layers))
        some = eqx.filter_eval_shape(lambda key: model_for(one_each, task, key=key, dtype=dtype), jr.key(0))
        eqx.filter_eval_shape(partial(as_run, config=self.fit), some, key=jr.key(0))
        if self.carried:
            eqx.filter_eval_shape(Carried(task).begin, some)
        numbers = count_parameters(some) * self.model.layers // one_each.layers
        check_fits(
            16 * numbers,
            f"a model of about {numbers:,} weights, in training,",
            "Give a smaller width, or fewer layers.",
        )
        tokens, width = self._tokens(task) // self.fit.accumulate, max(self.model.width, task.vocabulary or 1)
        check_fits(4 * tokens * width, f"one layer's outputs for a batch of {tokens:,} tokens", "Give a smaller batch.")
        return model_for(self.model, task, key=jr.fold_in(key_of(self.seed), _WEIGHTS), dtype=dtype)

    def train(
        self,
        folder: str | os.PathLike[str],
        on_progress: Callable[[Measured], None] | None = None,
        *,
        devices: Iterable[Any] | None = None,
    ) -> dict[str, Any]:
        """Train in a run's folder, or go on there, and measure the best model on the tests; a finished run is read back.

        The folder gets run.toml, metrics.jsonl, checkpoints/, best/, model.safetensors (the best model, which `checkpoints.load`
        takes), tokenizer.json where text was read by one, and result.json.

        **Arguments:** devices: as of `fit`; of several processes the first alone uses the folder.

        **Returns:** what result.json holds: status, parameters, steps, best_step, seconds, tokens_per_second, validation and
        test (each split's scores by name). Where it was interrupted nothing is measured, and only status and steps are there.

        **Raises:** as `fit`, `Run.create` and the task's `open`.
        """
        task = self.open_task()
        model = self.make_model(task)
        devices = None if devices is None else list(devices)
        mesh = mesh_of(devices)
        check_batch(jax.eval_shape(task.sample, jr.key(0)), mesh)
        processes = Processes(mesh)
        with contextlib.ExitStack() as stack:
            found = processes.of_first(lambda: self.begin(folder, stack))
            return self._trained(task, model, Run(folder), on_progress, devices, processes) if found is None else found

    def begin(self, folder: str | os.PathLike[str], stack: contextlib.ExitStack) -> dict[str, Any] | None:
        """Make the folder, or open it, and keep others out of it while the stack is open; give its result, where it is done."""
        run = Run.create(folder, self.told())
        stack.enter_context(run.alone())
        found = run.read_json("result.json")
        if found is None:
            write_atomically(run.path / RECIPE, self.toml().encode())
        return found

    def _trained(
        self,
        task: AbstractTask,
        model: Any,
        run: Run,
        on_progress: Callable[[Measured], None] | None,
        devices: Iterable[Any] | None,
        processes: Processes,
    ) -> dict[str, Any]:
        tell, scores = None if on_progress is None else self.telling(task, on_progress), self.scores(task)
        config = dataclasses.replace(self.fit, seed=self.seed)
        told = self.fit_on(task, scores)
        fitted = fit(model, config=config, on_chunk=tell, run=run, devices=devices, **told)
        return processes.of_first(lambda: self.result(task, fitted, run, scores))

    def fit_on(self, task: AbstractTask, scores: Scoring) -> dict[str, Any]:
        """What `fit` is told of the task: data, loss and evaluate."""
        data = Carried(task) if self.carried else task.sample
        return {"data": data, "loss": task.loss, "evaluate": lambda model: scores(model, "validation")}

    def telling(self, task: AbstractTask, on_progress: Callable[[Measured], None]) -> Callable[[Progress], None]:
        """What `fit` calls after each chunk, so that somebody is told of it."""
        per_step, clock = self._tokens(task), _Speed()
        return lambda progress: on_progress(Measured(progress, clock.rate(progress.step * per_step)))

    def result(self, task: AbstractTask, fitted: Fitted, run: Run, scores: Scoring) -> dict[str, Any]:
        """What came of it, measured and written; of a training that was interrupted only how far it is."""
        told = {"status": fitted.status, "steps": fitted.steps}
        if fitted.status == "interrupted":
            return told
        best = fitted.best
        if isinstance(task, tasks.Text) and task.tokenizer_json:
            write_atomically(run.path / TOKENIZER, task.tokenizer_json.encode())
        save_weights(run.path / WEIGHTS, best, _notes(task))
        result = told | {
            "parameters": count_parameters(best),
            "best_step": fitted.best_step,
            "seconds": fitted.seconds,
            "tokens_per_second": fitted.steps * self._tokens(task) / max(fitted.seconds, 1e-9),
            "train_loss": fitted.history[-1]["loss"] if fitted.history else None,
            "validation": scores(best, "validation"),
            "test": {split: scores(best, split) for split in task.splits[1:]},
        }
        run.write_json("result.json", result)
        return run.read_json("result.json")

    def scores(self, task: AbstractTask) -> Scoring:
        """What is held out of a model, by split; the batches of validation are made once."""
        scores, batches = (measure_carried, task.held_out_pieces) if self.carried else (measure, task.held_out)
        validation = list(batches("validation"))
        return lambda model, split: scores(task, model, validation if split == "validation" else batches(split))

    def _tokens(self, task: AbstractTask) -> int:
        x, _ = jax.eval_shape(task.sample, jr.key(0))
        return x.shape[0] * x.shape[1] * self.fit.accumulate


_WEIGHTS = 2**31 - 3  # apart from the keys of the data, which are folded from the same one by the step


def job(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    """`Recipe.of(config).train(folder / "run")`, for `sweep`; interrupted, it is not done."""
    result = Recipe.of(config).train(folder / "run")
    if result["status"] == "interrupted":
        raise KeyboardInterrupt
    return result


def model_for(architecture: Architecture, task: AbstractTask, *, key: Array, dtype: Any = None) -> Any:
    """A fresh model of these sizes that reads what a task gives, and gives what it asks for."""
    if task.vocabulary is not None:
        return architecture.language_model(task.vocabulary, key=key, dtype=dtype)
    return architecture.sequence_model(task.d_in, task.d_out, key=key, pool=task.pool, dtype=dtype)


class _Speed:
    """Tokens a second since the first chunk was there, so that compiling is not counted."""

    def __init__(self):
        self.first: tuple[float, int] | None = None

    def rate(self, tokens: int) -> float:
        now = time.monotonic()
        if self.first is None:
            self.first = (now, tokens)
        seconds = now - self.first[0]
        return (tokens - self.first[1]) / seconds if seconds > 0 else float("nan")


def _notes(task: AbstractTask) -> dict[str, str]:
    """What the file of weights says of its tokens, of a task that reads text; a tokenizer is a file beside it."""
    if not isinstance(task, tasks.Text) or task.tokenizer_json:
        return {}
    return notes(CharacterTokens(task.characters) if task.characters else ByteTokens())


def read_toml(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What a file of TOML says.

    **Raises:** `FileError` where it is not there, or no TOML.
    """
    refusal = lambda error: FileError(f"{os.fspath(path)!r} is no TOML ({reason(error)}). Mend that line.")
    text = text_of_file(path, "a config")
    with guarded(refusal):
        return tomllib.loads(text)


def put(told: dict[str, Any], key: str, value: Any, said: str) -> None:
    """Set a dotted key of nested tables, such as "fit.steps"; those that are not there are made.

    **Raises:** `InputError` where a part of the key is no table; `said` is how its message begins.
    """
    *path, last = key.split(".")
    for name in path:
        told = told.setdefault(name, {})
        require(isinstance(told, dict), f"{said}: {name} is no table in the config.")
    told[last] = value


def _made(kind: Any, told: Mapping[str, Any], where: str, prefix: str) -> Any:
    """A dataclass of what is told, nested ones too."""
    hints, fields = typing.get_type_hints(kind), {each.name: each for each in dataclasses.fields(kind)}
    for name in told:
        require(
            name in fields, f"{where} has a key {prefix + name!r}, which is none; there are {_listed(fields, prefix)}."
        )
    needed = [name for name, each in fields.items() if each.default is each.default_factory is dataclasses.MISSING]
    for name in needed:
        require(name in told, f"{where} does not say its {prefix}{name}.")
    return kind(**{name: _value(hints[name], value, where, prefix + name) for name, value in told.items()})


def _value(hint: Any, value: Any, where: str, name: str) -> Any:
    """A value of a field's type: whole numbers are real ones too, and lists are tuples."""
    if dataclasses.is_dataclass(hint):
        require(isinstance(value, Mapping), f"{where} says {name} = {value!r}; it must be a table.")
        return _made(hint, value, where, f"{name}.")
    origin = typing.get_origin(hint)
    if origin is types.UnionType:  # str | None: what is not told is None
        (hint,) = (each for each in typing.get_args(hint) if each is not type(None))
        return _value(hint, value, where, name)
    if origin is tuple:
        one = typing.get_args(hint)[0]
        require(isinstance(value, list | tuple), f"{where} says {name} = {value!r}; it must be a list.")
        return tuple(_value(one, each, where, name) for each in value)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        require(isinstance(value, Mapping), f"{where} says {name} = {value!r}; it must be a table.")
        return dict(value)
    if hint is float and type(value) is int:
        return float(value)
    if hint is float and value in ("inf", "-inf", "nan"):  # as JSON keeps them
        return float(value)
    if type(value) is not hint:
        raise InputError(f"{where} says {name} = {value!r}; it must be {_KINDS.get(hint, hint.__name__)}.")
    return value


_KINDS = {int: "a whole number", float: "a number", str: "a text in quotes", bool: "true or false"}


def _listed(fields: Mapping[str, Any], prefix: str) -> str:
    return ", ".join(prefix + name for name in fields)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {name: _plain(each) for name, each in told_of(value).items()}
        return {name: each for name, each in fields.items() if each is not None}
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value
