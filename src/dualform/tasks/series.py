"""Classification of series: which kind each is, of those that a file in the format of aeon has."""

import os
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dualform.errors import FileError, require
from dualform.reading import shown, text_of_file
from dualform.tasks.carried import CARRIED, file_of
from dualform.tasks.registration import register
from dualform.tasks.scores import Scores, of_labels
from dualform.tasks.task import StoredTask, checked_settings, setting

DEFAULT = "japanese-vowels"
TRAIN, TEST = "_TRAIN.ts", "_TEST.ts"


@register("series")
class Series(StoredTask):
    """Series of numbers, each of one of some kinds: which one, at its end. They may be of different lengths.

    Every fifth of training's series of each kind is for validation; the test is the published one. Each channel is brought to
    mean 0 and variance 1 of training's. Shorter series are filled up with NaN, which no model reads: they are masked.

    - classes: the names of the kinds.

    **Source:** the UEA and UCR archives (Bagnall et al. 2018, arXiv 1811.00075), as aeon carries them. JapaneseVowels: Kudo et
    al. 1999; 270 and 370 utterances of 9 speakers.
    """

    classes: tuple[str, ...] = eqx.field(static=True, kw_only=True)
    batch: int = setting(default=32)
    judge = staticmethod(of_labels)
    source = "Bagnall et al. 2018 (arXiv 1811.00075)"
    data = f"dualform tasks get {DEFAULT}, or files NAME{TRAIN} and NAME{TEST} of timeseriesclassification.com"
    licence = "that of the files; of JapaneseVowels CC BY 4.0, as UCI says of its data sets"
    pool = "last"

    @classmethod
    def open(cls, data: Any = None, **settings: Any) -> "Series":
        """The series of two files.

        **Arguments:** data: the name of a data set that `dualform tasks get` brings, "japanese-vowels" where none is given; or
        the path of a file NAME_TRAIN.ts, beside which NAME_TEST.ts is.

        **Raises:** `InputError` for another setting; `FileError` where a file is not there, cannot be read, or the two do not fit
        together.
        """
        settings = checked_settings(cls, settings)
        data = DEFAULT if data is None else data
        path = file_of(data) if isinstance(data, str) and data in CARRIED else Path(data)
        require(
            path.name.endswith(TRAIN),
            f"{str(path)!r} is not called NAME{TRAIN}; give such a file, beside which NAME{TEST} is, or the name of a data set "
            "that dualform tasks get brings.",
        )
        train, test = read(path), read(path.with_name(path.name.removesuffix(TRAIN) + TEST))
        if set(test.labels) - set(train.labels) or test.series[0].shape[1] != train.series[0].shape[1]:
            raise FileError(
                f"{str(path)!r} and the file of its test have not the same kinds and channels. Are they of one set?"
            )
        classes = tuple(sorted(set(train.labels)))
        of_kind = {name: [i for i, label in enumerate(train.labels) if label == name] for name in classes}
        held = {i for places in of_kind.values() for i in places[4::5]}
        own = [i for i in range(len(train.labels)) if i not in held]
        frames = np.concatenate([train.series[i] for i in own])
        middle, spread = frames.mean(0), np.maximum(frames.std(0), 1e-8)
        longest = max(len(each) for each in (*train.series, *test.series))

        def part(some: Labelled, places: list[int]) -> tuple[Array, Array]:
            x = np.full((len(places), longest, len(middle)), np.nan, np.float32)
            for row, i in zip(x, places, strict=True):
                row[: len(some.series[i])] = (some.series[i] - middle) / spread
            return jnp.asarray(x), jnp.asarray([classes.index(some.labels[i]) for i in places], jnp.int32)

        return cls(
            train=part(train, own),
            validation=part(train, sorted(held)),
            test=part(test, list(range(len(test.labels)))),
            classes=classes,
            **settings,
        )

    @property
    def d_in(self) -> int:
        """The channels."""
        return self.train[0].shape[2]

    @property
    def d_out(self) -> int:
        """The kinds."""
        return len(self.classes)

    def scores(self, model: Any, x: Array, y: Array) -> Scores:
        """A call for each series, from the initial state; what is filled up is masked, as tokens that are not there."""
        there = ~jnp.isnan(x[..., 0])
        x = jnp.where(there[..., None], x, jnp.zeros_like(x))
        return of_labels(jax.vmap(lambda x, mask: model(x, mask=mask)[0])(x, there), y)


class Labelled(NamedTuple):
    """Series, each (time, channel), and the kind of each."""

    series: list[Float[np.ndarray, "time channel"]]
    labels: list[str]


def read(path: str | os.PathLike[str]) -> Labelled:
    """The series of a file in the format of aeon: a header of lines with @, then a series in a line.

    Channels are separated by colons, values by commas, and the kind stands behind the last colon.

    **Raises:** `FileError` where it cannot be read, is of another format, or has a value that is missing or not finite.
    """
    where = repr(os.fspath(path))
    lines = [line.strip() for line in text_of_file(path, "a file of series").splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    header = {words[0].lower(): words[1:] for words in (line.split() for line in lines if line.startswith("@"))}
    if "@data" not in header or header.get("@classlabel", ["false"])[0].lower() != "true":
        raise FileError(
            f"{where} is no file of series with their kinds: it needs a line '@classLabel true ...', and '@data'."
        )
    if header.get("@timestamps", ["false"])[0].lower() == "true":
        raise FileError(f"{where} has times beside its values, which are not read here. Give one without.")
    lines = [line for line in lines if not line.startswith("@")]
    found = [_series(line, f"series {i + 1} of {where}") for i, line in enumerate(lines)]
    if not found:
        raise FileError(f"{where} has no series behind '@data'. Is it truncated?")
    widths = {series.shape[1] for series, _ in found}
    if len(widths) > 1:
        raise FileError(
            f"the series of {where} have {', '.join(map(str, sorted(widths)))} channels; all must have as many."
        )
    kinds = header["@classlabel"][1:]
    unknown = sorted({label for _, label in found} - set(kinds))
    if unknown:
        raise FileError(f"a series of {where} is of the kind {shown(unknown[0])!r}, which its header does not name.")
    return Labelled([series for series, _ in found], [label for _, label in found])


def _series(line: str, where: str) -> tuple[Float[np.ndarray, "time channel"], str]:
    """One line: (time, channel), and its kind."""
    *channels, label = line.split(":")
    try:
        values = [[float(value) for value in channel.split(",")] for channel in channels]
    except ValueError:
        raise FileError(f"{where} has a value that is missing, or no number. Is the file damaged?") from None
    if not values or len({len(each) for each in values}) != 1:
        raise FileError(
            f"{where} has channels of lengths {[len(each) for each in values]}; they must be as long. Is it truncated?"
        )
    series = np.array(values).T
    if not np.isfinite(series).all():
        raise FileError(f"{where} has a value that is not finite. Mend it, or leave the series out.")
    return series, label.strip()
