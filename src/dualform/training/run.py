"""The folder of one run: its config, metrics, checkpoints, weights and result, each written whole or not at all."""

import contextlib
import dataclasses
import json
import logging
import math
import os
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np

from dualform.alone import LOCK, alone
from dualform.counts import counted
from dualform.errors import FileError, InputError
from dualform.reading import guarded, json_of_file, reason
from dualform.tensor_file import unwritable, write_atomically
from dualform.training.checkpoints import Checkpoints
from dualform.training.config import told_of

_LOG = logging.getLogger(__name__)
_PACKAGES = ("dualform", "jax", "jaxlib", "equinox", "optax", "numpy")


class Run:
    """A run's folder.

        config.json      {"config": all of it, "seed": ..., "versions": ...}
        metrics.jsonl    one line for each chunk of training: stage, step, loss, learning_rate, weight_decay
        checkpoints/     a folder for each stage (Orbax)
        best/            the same of the best model, where training was told to look at what is held out
        result.json      what came of it

    Make one with `Run.create` or `Run.open`.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)

    @classmethod
    def create(
        cls, path: str | os.PathLike[str], config: Any, *, seed: int | None = None, code: str | None = None
    ) -> "Run":
        """A new folder for `config`, or the one that is there if it was made with the same.

        A finished run can be extended: its config may have more `steps` where the only stage that was trained had reached its
        last one and there is no result.json yet. config.json then has the new number, and the old ones as "extended".

        **Arguments:** config: a dataclass or a mapping, of what JSON can hold (nested ones too).  seed: None where the
        config has it.  code: a digest of what makes the run, where its results are to be of no other (see
        `dualform.described`); not compared where the folder has none, or is of another version of Python.

        **Raises:** `InputError` where the folder was made with another config (naming the first field that differs) or code, or
        is not a run's; `FileError` where it cannot be read or written. Nothing on disk is changed then.
        """
        run, wanted = cls(path), {"config": _plain(config), "seed": seed}
        if (run.path / "config.json").exists():
            run = cls.open(path)
            if not run._extend(wanted):
                _check_same(run.config(), wanted, run.path)
            run._check_code(code)
            old, new = run.config().get("versions", {}), versions()
            changed = [f"{name} {old.get(name)} -> {new[name]}" for name in new if old.get(name) != new[name]]
            if changed:
                _LOG.warning("%s was made with other versions (%s): numbers may differ.", run.path, ", ".join(changed))
            return run
        if run.path.is_dir() and any(
            not entry.name.endswith(".tmp") and entry.name != LOCK for entry in run.path.iterdir()
        ):
            raise InputError(
                f"{str(run.path)!r} holds files and no config.json: it is no run's folder. Choose another."
            )
        run.write_json("config.json", wanted | {"versions": versions()} | ({} if code is None else {"code": code}))
        return run

    def _check_code(self, code: str | None) -> None:
        """Raise where the folder is of other code."""
        there = self.config()
        before, python = there.get("code"), there.get("versions", {}).get("python", "")
        same = python.split(".")[:2] == platform.python_version().split(".")[:2]
        if code is None or before == code or (before is not None and not same):
            return
        if before is None:
            _LOG.warning("%s does not say which code it is of: make sure that it is this one.", self.path)
            return
        raise InputError(
            f"{str(self.path)!r} was made by other code than there is now. Choose another folder for this run, or delete that "
            "one."
        )

    def _extend(self, wanted: dict[str, Any]) -> bool:
        """Take more steps into config.json, where that is all that differs, and the only stage had reached its last one."""
        there = self.config()
        old, new = (_flat({name: entry.get(name) for name in ("config", "seed")}) for entry in (there, wanted))
        changed = [name for name in old.keys() | new.keys() if old.get(name) != new.get(name)]
        stages = [place.name for place in (self.path / "checkpoints").glob("*") if place.is_dir()]
        if len(changed) != 1 or changed[0].split(".")[-1] != "steps" or len(stages) != 1:
            return False
        before, now = old.get(changed[0]), new.get(changed[0])
        if not isinstance(before, int) or not isinstance(now, int) or before >= now:
            return False
        newest = next(iter(self.checkpoints(stages[0]).steps()), None)
        if newest != before or self.read_json("result.json") is not None:
            return False
        earlier = [*there.get("extended", []), before]
        self.write_json("config.json", {**there, **wanted, "extended": earlier})
        _LOG.warning("%s had reached its last step, %d: it may go on to %d.", self.path, before, now)
        return True

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> "Run":
        """The run in a folder that is there.

        **Raises:** `FileError` where there is none, or its config.json cannot be read.
        """
        run = cls(path)
        if not run.path.is_dir():
            raise FileError(f"there is no folder {str(run.path)!r}. Check the path.")
        config = run.read_json("config.json")
        if config is None:
            raise FileError(f"{str(run.path)!r} has no config.json: it is no run's folder. Check the path.")
        if not isinstance(config, dict) or "config" not in config:
            raise FileError(f"{str(run.path / 'config.json')!r} is not a run's config. Choose another folder.")
        return run

    def alone(self) -> contextlib.AbstractContextManager[None]:
        """Within it no other process works in the folder: `fit` is in it while it trains, and may be called within.

        **Raises:** `FileError` where another one does.
        """
        return alone(self.path)

    def config(self) -> dict[str, Any]:
        """What config.json holds: "config", "seed" and "versions"."""
        return self.read_json("config.json")

    def checkpoints(self, stage: str) -> Checkpoints:
        """The checkpoints of one stage."""
        return Checkpoints(self.path / "checkpoints" / stage)

    def best(self, stage: str) -> Checkpoints:
        """The best model of one stage, by what was held out: the last but one is kept, too, for a checkpoint of before it."""
        return Checkpoints(self.path / "best" / stage, keep=2)

    def write_json(self, name: str, value: Any) -> None:
        """Write a JSON file of the run, atomically; numbers that JSON lacks (NaN, infinity) become strings.

        **Raises:** `FileError` where it cannot be written.
        """
        write_atomically(self.path / name, (json.dumps(_plain(value), indent=2) + "\n").encode())

    def read_json(self, name: str) -> Any:
        """The content of a JSON file of the run, None where there is no such file.

        **Raises:** `FileError` where it cannot be read.
        """
        return json_of_file(self.path / name, "Delete the folder of the run and start again.")

    def append_metrics(self, line: Mapping[str, Any]) -> None:
        """Add one line to metrics.jsonl.

        **Raises:** `FileError` where it cannot be written.
        """
        path = self.path / "metrics.jsonl"
        try:
            with path.open("ab") as file:
                file.write((json.dumps(_plain(line)) + "\n").encode())
        except OSError as error:
            raise unwritable(path, error) from None

    def metrics(self, stage: str | None = None) -> list[dict[str, Any]]:
        """The whole lines of metrics.jsonl, of one stage or of all; a last line that a kill cut short is left out."""
        path = self.path / "metrics.jsonl"
        try:
            lines = path.read_bytes().split(b"\n")[:-1]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise FileError(f"{str(path)!r} cannot be read: {error.strerror}.") from None
        refusal = lambda error: FileError(
            f"{str(path)!r} is not JSON in each line ({reason(error)}). Delete the run and start again."
        )
        with guarded(refusal):
            records = [json.loads(line) for line in lines]
            if not all(isinstance(record, dict) for record in records):
                raise ValueError("a line is no object")
            if any(counted(record.get("step")) is None for record in records if "stage" in record):
                raise ValueError("a line of a stage says no step")
        return [record for record in records if stage is None or record.get("stage") == stage]

    def keep_metrics(self, stage: str, step: int) -> None:
        """Cut the lines of `stage` past `step`, so that a resumed run writes none twice; other stages' stay."""
        path = self.path / "metrics.jsonl"
        if not path.exists():
            return
        kept = [line for line in self.metrics() if line.get("stage") != stage or line["step"] <= step]
        text = "".join(json.dumps(line) + "\n" for line in kept).encode()
        if text != path.read_bytes():
            write_atomically(path, text)

    def sync_metrics(self) -> None:
        """Make sure that the lines written so far outlive a power failure; done before a checkpoint."""
        path = self.path / "metrics.jsonl"
        if path.exists():
            with path.open("rb") as file:
                os.fsync(file.fileno())


def versions() -> dict[str, str]:
    """What a run's numbers depend on besides its config: versions of Python and of the packages."""
    return {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}}


def _plain(value: Any) -> Any:
    """`value` as JSON can hold it."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {name: _plain(each) for name, each in told_of(value).items()}
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, (np.generic, np.ndarray, jax.Array)):
        return _plain(np.asarray(value).tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def _check_same(there: dict[str, Any], wanted: dict[str, Any], path: Path) -> None:
    old, new = (_flat({name: entry[name] for name in ("config", "seed") if name in entry}) for entry in (there, wanted))
    for name in sorted(old.keys() | new.keys()):
        if name not in old or name not in new or old[name] != new[name]:
            before, now = (repr(entry[name]) if name in entry else "nothing" for entry in (old, new))
            raise InputError(
                f"{str(path)!r} was made with {name.removeprefix('config.')} = {before}, and now it is {now}. Choose another "
                "folder for this run, or delete that one."
            )


def _flat(tree: Any, name: str = "") -> dict[str, Any]:
    """Nested mappings as one, with dotted names."""
    if not isinstance(tree, dict):
        return {name: tree}
    return {
        inner: value
        for key, entry in tree.items()
        for inner, value in _flat(entry, f"{name}.{key}" if name else key).items()
    }
