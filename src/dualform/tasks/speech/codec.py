"""A codec of speech: frames of mel bands as numbers of codewords, each codebook for what those before it leave."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from jaxtyping import Float, Float32, Int

from dualform.errors import FileError, InputError, require
from dualform.tasks.speech.mel import Mel
from dualform.tensor_file import read_tensors, write_tensors

_KIND = "dualform speech codec 1"


@dataclass(frozen=True, eq=False)
class Codec:
    """Residual vector quantisation of log-mel frames: code_l = nearest of codebook l to x - sum_{j<l} codebook_j[code_j].

    A frame is x = (log-mel - mean) / scale, band by band; its codes are (level,) numbers.

    - mel: of the frames.  codebooks: (level, entry, band).  mean, scale: (band,).

    **Raises:** `InputError` where the shapes do not fit, or a number is not finite.

    **Source:** Juang & Gray 1982 for quantisers in a row; Zeghidour et al. 2021 (arXiv 2107.03312) for codes of sound.
    """

    mel: Mel
    codebooks: Float32[np.ndarray, "level entry band"]
    mean: Float32[np.ndarray, " band"]
    scale: Float32[np.ndarray, " band"]

    def __post_init__(self):
        bands = self.mel.bands
        require(
            self.codebooks.ndim == 3
            and self.codebooks.shape[2] == bands
            and self.mean.shape == self.scale.shape == (bands,),
            f"codebooks {self.codebooks.shape}, mean {self.mean.shape} and scale {self.scale.shape} do not fit {bands} bands.",
        )
        require(
            self.levels >= 1 and self.entries >= 1,
            f"codebooks are {self.codebooks.shape}; give one of one entry at least.",
        )
        finite = all(np.isfinite(a).all() for a in (self.codebooks, self.mean, self.scale))
        require(
            finite and bool((self.scale > 0).all()),
            "a codeword, mean or scale is not finite, or a scale is not above 0.",
        )

    @property
    def levels(self) -> int:
        """How many codes a frame has."""
        return self.codebooks.shape[0]

    @property
    def entries(self) -> int:
        """How many codewords a codebook has."""
        return self.codebooks.shape[1]

    @property
    def bits_per_second(self) -> float:
        """Of the codes."""
        return self.levels * np.log2(self.entries) * self.mel.rate / self.mel.hop

    def encode(self, frames: Float[np.ndarray, "frame band"]) -> Int[np.ndarray, "frame level"]:
        """The codes of log-mel frames.

        **Raises:** `InputError` for frames of another width, or not finite.
        """
        frames = _checked(frames, self.mel.bands)
        left, codes = (frames - self.mean) / self.scale, []
        for book in self.codebooks.astype(np.float64):
            codes.append(_nearest(left, book))
            left = left - book[codes[-1]]
        return np.stack(codes, axis=1)

    def decode(self, codes: Int[np.ndarray, "frame level"]) -> Float[np.ndarray, "frame band"]:
        """The log-mel frames that codes stand for.

        **Raises:** `InputError` for codes of another shape, or none of its numbers.
        """
        codes = np.asarray(codes)
        require(
            codes.ndim == 2 and codes.shape[1] == self.levels and np.issubdtype(codes.dtype, np.integer),
            f"codes are whole numbers, (frame, {self.levels}); got shape {codes.shape} of {codes.dtype}.",
        )
        inside = codes.size == 0 or (codes.min() >= 0 and codes.max() < self.entries)
        require(bool(inside), f"a code is outside of 0 to {self.entries - 1}.")
        total = sum(book[code] for book, code in zip(self.codebooks.astype(np.float64), codes.T, strict=True))
        return total * self.scale + self.mean

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it as one safetensors file.

        **Raises:** `FileError` where it cannot be written.
        """
        arrays = {"codebooks": self.codebooks, "mean": self.mean, "scale": self.scale}
        write_tensors(path, arrays, {"kind": _KIND, "mel": json.dumps(asdict(self.mel))})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Codec":
        """What `save` has written.

        **Raises:** `FileError` for a file that is missing, damaged, or another's.
        """
        arrays, metadata = read_tensors(path)
        try:
            require(metadata.get("kind") == _KIND, f"it says that it is {metadata.get('kind', 'nothing')!r}")
            mel = json.loads(metadata["mel"])
            require(
                isinstance(mel, dict) and all(type(value) is int for value in mel.values()),
                "its frames are not described",
            )
            require(all(a.dtype == np.float32 for a in arrays.values()), "its arrays are not float32")
            return cls(Mel(**mel), **arrays)
        except (InputError, KeyError, ValueError, TypeError) as error:
            raise FileError(f"{str(path)!r} is no codec of speech: {error}.") from None


def fit_codec(
    frames: Sequence[Float[np.ndarray, "_ band"]],
    mel: Mel,
    *,
    levels: int = 4,
    entries: int = 256,
    seed: int = 0,
) -> Codec:
    """The codec whose codebooks are k-means of the frames, and then of what the levels before have left of them.

    **Arguments:** frames: of each utterance, as of `mel.frames`.

    **Raises:** `InputError` for fewer frames than entries, or other frames than mel's.
    """
    from sklearn.cluster import KMeans

    require(levels >= 1 and entries >= 1, f"there are {levels} levels of {entries} entries; give 1 or more of each.")
    every = np.concatenate([_checked(each, mel.bands) for each in frames]) if frames else np.zeros((0, mel.bands))
    require(len(every) >= entries, f"{len(every)} frames are too few for codebooks of {entries}; give more speech.")
    mean, spread = every.mean(axis=0), every.std(axis=0)
    scale = np.where(spread > 0, spread, 1.0)
    left, books = (every - mean) / scale, []
    for level in range(levels):
        distinct = len(np.unique(left, axis=0))
        found = KMeans(min(entries, distinct), random_state=seed + level).fit(left).cluster_centers_
        # Where fewer different frames are left than entries, the last codeword stands several times.
        book = np.concatenate([found, np.repeat(found[-1:], entries - len(found), axis=0)]).astype(np.float32)
        books.append(book)
        left = left - book[_nearest(left, book.astype(np.float64))]
    return Codec(mel, np.stack(books), mean.astype(np.float32), scale.astype(np.float32))


def _nearest(x: Float[np.ndarray, "frame band"], book: Float[np.ndarray, "entry band"]) -> Int[np.ndarray, " frame"]:
    """The nearest codeword to each frame, the first of several."""
    parts = [x[i : i + 4096] for i in range(0, len(x), 4096)]
    power = np.sum(book * book, axis=1)
    found = [np.argmin(power[None] - 2 * part @ book.T, axis=1) for part in parts]
    return np.concatenate(found) if found else np.zeros(0, np.int64)


def _checked(frames: Float[np.ndarray, "frame band"], bands: int) -> Float[np.ndarray, "frame band"]:
    frames = np.asarray(frames, np.float64)
    require(frames.ndim == 2 and frames.shape[1] == bands, f"frames are (frame, {bands}); got shape {frames.shape}.")
    require(bool(np.isfinite(frames).all()), "a frame has entries that are NaN or infinite.")
    return frames
