"""Checkpoints in a folder, by step: written by Orbax, whole or not at all, and checked when they are read."""

import contextlib
import errno
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dualform.errors import DualformError, FileError
from dualform.reading import whole
from dualform.tensor_file import disk_is_full

_LOG = logging.getLogger(__name__)
_OVERHEAD = 1 << 18  # bytes of Orbax's own files beside the arrays, generously
_UNFINISHED = ".orbax-checkpoint-tmp"


class Checkpoint(NamedTuple):
    """What was saved: arrays by name, and whatever JSON went with them."""

    step: int
    arrays: dict[str, np.ndarray]
    metadata: dict[str, Any]


class Checkpoints:
    """The checkpoints of one folder; the newest `keep` are kept.

    Orbax writes to a temporary folder and renames it, so that a kill at any moment leaves no half checkpoint under a
    step's name. A digest of the arrays is saved with them: one that was damaged later is found out when it is read.
    """

    def __init__(self, folder: str | Path, keep: int = 3):
        self.folder, self.keep = Path(folder).absolute(), keep
        self._orbax: Any = None

    def steps(self) -> list[int]:
        """The steps that have a checkpoint, the newest first."""
        if not self.folder.is_dir():
            return []
        found = (whole(path.name) for path in self.folder.iterdir())
        return sorted((step for step in found if step is not None), reverse=True)

    def save(self, step: int, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, Any]) -> None:
        """Save a checkpoint, then remove the oldest past `keep`.

        **Arguments:** metadata: anything that JSON holds.

        **Raises:** `FileError` where it cannot be written; the checkpoints before it stay whole.
        """
        import orbax.checkpoint as ocp

        # Orbax saves no array without entries (a network whose units have all died): shape and dtype say all of it.
        empty = {name: [str(array.dtype), list(array.shape)] for name, array in arrays.items() if array.size == 0}
        full = {name: array for name, array in arrays.items() if array.size > 0}
        metadata = {"user": dict(metadata), "digest": digest(arrays), "empty": empty}
        self._clear_unfinished()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            _require_space(self.folder, sum(array.nbytes for array in arrays.values()) + _OVERHEAD)
            with _quiet_orbax():
                self._checkpointer().save(
                    self.folder / str(step),
                    args=ocp.args.Composite(state=ocp.args.PyTreeSave(full), metadata=ocp.args.JsonSave(metadata)),
                    force=True,
                )
        except Exception as error:  # tensorstore and Orbax raise their own kinds for what the system refuses
            self._clear_unfinished()
            raise self._unwritable(step, error) from error
        for old in self.steps()[self.keep :]:
            shutil.rmtree(self.folder / str(old), ignore_errors=True)

    def restore(self, step: int) -> Checkpoint:
        """The checkpoint of that step; shapes and dtypes are read from it.

        **Raises:** `FileError` where it is not there or not whole.
        """
        import orbax.checkpoint as ocp

        try:
            with _quiet_orbax():
                found = self._checkpointer().restore(
                    self.folder / str(step),
                    args=ocp.args.Composite(state=ocp.args.PyTreeRestore(), metadata=ocp.args.JsonRestore()),
                )
            arrays = {name: np.asarray(array) for name, array in found["state"].items()}
            metadata = found["metadata"]
            arrays |= {name: np.zeros(shape, jnp.dtype(dtype)) for name, (dtype, shape) in metadata["empty"].items()}
            whole = metadata["digest"] == digest(arrays)
        except Exception as error:  # whatever a damaged file makes a parser say
            raise FileError(
                f"the checkpoint of step {step} in {str(self.folder)!r} is damaged: {_first_line(error)}."
            ) from error
        if not whole:
            raise FileError(
                f"the checkpoint of step {step} in {str(self.folder)!r} is damaged: its digest does not fit."
            )
        return Checkpoint(step, arrays, metadata["user"])

    def newest(self, check: Any = None) -> Checkpoint | None:
        """The newest checkpoint that is whole; None where there has never been one.

        A damaged one is passed over with a logged warning. `check(checkpoint)` may find fault with one by raising
        `FileError`.

        **Raises:** `FileError` where there are checkpoints and none is whole.
        """
        steps = self.steps()
        for step in steps:
            try:
                checkpoint = self.restore(step)
                if check is not None:
                    check(checkpoint)
                return checkpoint
            except FileError as error:
                _LOG.warning("%s Trying the one before.", error)
        if steps:
            raise FileError(
                f"no checkpoint in {str(self.folder)!r} is whole (steps {', '.join(map(str, steps))}). Delete the folder "
                "of the run and start again."
            )
        return None

    def discard_after(self, step: int) -> None:
        """Remove checkpoints of later steps: what is left of a run that went on from `step`."""
        for later in self.steps():
            if later > step:
                shutil.rmtree(self.folder / str(later), ignore_errors=True)

    def _checkpointer(self) -> Any:
        """Orbax's, made on first use: importing it takes a third of a second."""
        if self._orbax is None:
            import orbax.checkpoint as ocp

            # A checkpoint is this process's alone, also where it trains with others: they do not wait for each other here.
            own = jax.process_index()
            alone = ocp.options.MultiprocessingOptions(own, active_processes={own}, barrier_sync_key_prefix=f"of_{own}")
            self._orbax = ocp.Checkpointer(
                ocp.CompositeCheckpointHandler(
                    state=ocp.PyTreeCheckpointHandler(multiprocessing_options=alone),
                    metadata=ocp.JsonCheckpointHandler(multiprocessing_options=alone),
                    composite_options=ocp.CompositeOptions(multiprocessing_options=alone),
                ),
                multiprocessing_options=alone,
            )
        return self._orbax

    def _clear_unfinished(self) -> None:
        """Remove what a killed or refused save left behind."""
        if self.folder.is_dir():
            for path in self.folder.iterdir():
                if _UNFINISHED in path.name:
                    shutil.rmtree(path, ignore_errors=True)

    def _unwritable(self, step: int, error: Exception) -> DualformError:
        steps = self.steps()
        kept = f"the checkpoint of step {steps[0]} is whole" if steps else "no checkpoint was taken before"
        if disk_is_full(error):
            return FileError(
                f"no space is left on the disk for the checkpoint of step {step} in {str(self.folder)!r}; {kept}. Free some "
                "space, then run the same command again: it goes on from there."
            )
        return FileError(
            f"the checkpoint of step {step} in {str(self.folder)!r} cannot be written ({_first_line(error)}); {kept}. Choose "
            "another place, or change its permissions."
        )


def _require_space(folder: Path, size: int) -> None:
    """Ask first: Orbax's threads say much, and to stderr, when the disk runs full under them."""
    if shutil.disk_usage(folder).free < size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@contextlib.contextmanager
def _quiet_orbax() -> Iterator[None]:
    """No logging by Orbax's threads: what fails is raised as well, and said once by us."""
    absl = logging.getLogger("absl")
    level = absl.level
    absl.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        absl.setLevel(level)


def digest(arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 over names, dtypes, shapes and values."""
    found = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        found.update(json.dumps([name, str(array.dtype), list(arrays[name].shape)]).encode())
        found.update(array.tobytes())
    return found.hexdigest()


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__).rstrip(".")[:200]
