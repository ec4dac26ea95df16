"""What each layer of a model would already say of a text, ready for a page and a terminal."""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jax.numpy as jnp
import numpy as np

from dualform.checkpoints.loading import Loaded
from dualform.errors import require
from dualform.lenses import LensReading, TunedLens, logit_lens
from dualform.lenses.lens_layers import lens_layers
from dualform.models import LanguageModel, with_context
from dualform.reports.lens_view import LensView

LOGIT, TUNED = "logit lens", "tuned lens"

MOST_TOKENS = 1024
"""Tokens of a page at the most: a cell for each layer of each."""

RANKS = 10
"""How many of the likeliest outputs a page names."""


def look(loaded: Loaded, source: str | Path, tuned: TunedLens | None = None) -> LensView:
    """What every layer of a model says at every token of a text, by the logit lens and, where there is one, by a tuned one.

    **Raises:** `InputError` for a model without an unembedding, a tuned lens of another model, or a text that is empty or
    too long.
    """
    x, names = loaded.read(source)
    require(
        len(names) <= MOST_TOKENS,
        f"the text has {len(names):,} tokens; lenses of up to {MOST_TOKENS:,} can be shown. Give a shorter one.",
    )
    model = loaded.model
    if isinstance(model, LanguageModel):  # a cache that no text fills would be read all the same
        model = with_context(model, len(names) + 1)
    readings = {LOGIT: logit_lens(model, x, top=RANKS)}
    if tuned is not None:
        readings[TUNED] = logit_lens(model, x, tuned=tuned, top=RANKS)
    following = _following(x)
    asked = np.unique(np.concatenate([each.top.reshape(-1) for each in readings.values()]))
    numbers = {int(number) for number in asked} | {each for each in following if each is not None}
    outputs = lens_layers(model).outputs
    return LensView(
        title=f"What each layer of {loaded.name} would say",
        tokens=names,
        readings=readings,
        words=_words(loaded, sorted(numbers)),
        outputs=outputs,
        following=following,
        details={
            "model": f"{loaded.architecture}, from {Path(loaded.source).name}",
            "outputs": f"{outputs:,}",
            **{key: str(value) for key, value in loaded.record.items() if key in ("licence", "package")},
        },
    )


def _following(x: Any) -> tuple[int | None, ...]:
    """The token behind each one, where tokens are numbers."""
    numbers = np.asarray(x)
    if numbers.ndim != 1 or not jnp.issubdtype(numbers.dtype, jnp.integer):
        return ()
    return (*(int(number) for number in numbers[1:]), None)


def _words(loaded: Loaded, numbers: list[int]) -> Mapping[int, str]:
    """What outputs are called."""
    own = getattr(loaded.model, "outputs", None)
    if own is not None:
        return {number: own[number] for number in numbers}
    if loaded.tokens is None:
        return {number: f"output {number}" for number in numbers}
    return {number: loaded.decode([number])[0] for number in numbers}


def relative_address(page: Path, beside: Path) -> str:
    """The address of a file as a link in a page beside it says it; whatever its name, it is the path of a file."""
    return f"./{quote(Path(os.path.relpath(beside, page.parent)).as_posix())}"


def agreement(reading: LensReading) -> np.ndarray:
    """The share of tokens at which each layer's likeliest output is the last layer's, (layer,)."""
    return np.mean(reading.top[:, :, 0] == reading.top[-1, :, 0], axis=1)


def linked(view: Any, page: Path, beside: Path | None = None, command: str | None = None) -> Any:
    """A lens view, or an attention view, with a link to the other one's page, or with the command that writes it."""
    other = "attention page" if isinstance(view, LensView) else "lens page"
    link = None if beside is None else (other, relative_address(page, beside))
    details = dict(view.details) | ({} if command is None else {other: command})
    return replace(view, beside=link, details=details)
