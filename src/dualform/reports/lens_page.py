"""A lens view as one self-contained HTML page to explore: no network, tokens never as markup, numbers to four digits."""

from pathlib import Path
from typing import Any

import numpy as np

from dualform.errors import require
from dualform.lenses import LensReading
from dualform.reports.attention_page import LIMIT
from dualform.reports.lens_view import LensView
from dualform.reports.scripted_page import scripted_page
from dualform.tensor_file import write_atomically

GENERATOR = "dualform lens page 1"
"""What a page says it was made by."""


def write_lens_page(view: LensView, path: str | Path, *, limit: int = LIMIT) -> Path:
    """Write `view` as one HTML file that needs no network, and return its path.

    **Arguments:** limit: bytes, 60 MB by default.

    **Raises:** `InputError` where the view does not fit together, or the page would be larger than `limit`; `FileError` where
    it cannot be written.
    """
    page = lens_page(view, limit=limit).encode("utf-8", "xmlcharrefreplace")
    write_atomically(path, page)
    return Path(path)


def lens_page(view: LensView, *, limit: int = LIMIT) -> str:
    """The page's HTML; arguments and errors as in `write_lens_page`."""
    view.check()
    made = scripted_page(
        "lens.html", "lens.js", ("style.css", "lens.css"), GENERATOR, summary(view), beside=view.beside
    )
    require(
        len(made) <= limit,
        f"the page would take {len(made) / 1e6:.0f} MB, more than {limit / 1e6:g} MB. Show fewer tokens.",
    )
    return made


def summary(view: LensView) -> dict[str, Any]:
    """What the page's script reads; an output that a reading names is its place in "words"."""
    numbers = sorted(view.words)
    places = {number: place for place, number in enumerate(numbers)}
    following = view.following or (None,) * len(view.tokens)
    return {
        "title": view.title,
        "tokens": list(view.tokens),
        "layers": list(view.layers),
        "outputs": view.outputs,
        "words": [view.words[number] for number in numbers],
        "following": [None if each is None else places[each] for each in following],
        "lenses": [{"name": name, **_reading(reading, numbers)} for name, reading in view.readings.items()],
        "details": [[str(key), str(value)] for key, value in view.details.items()],
    }


def _reading(reading: LensReading, numbers: list[int]) -> dict[str, Any]:
    chance = np.exp(reading.log_probability.astype(np.float64))
    top = np.searchsorted(np.array(numbers), reading.top)
    rounded = {"kl": reading.kl, "entropy": reading.entropy, "chance": chance}
    return {"top": top.tolist(), **{name: _four_digits(values) for name, values in rounded.items()}}


def _four_digits(values: np.ndarray) -> Any:
    """Numbers to four digits, as nested lists."""
    flat = np.array([float(f"{value:.4g}") for value in values.reshape(-1).tolist()])
    return flat.reshape(values.shape).tolist()
