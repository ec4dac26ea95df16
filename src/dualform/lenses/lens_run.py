"""A tuned lens trained on a text, in a run's folder, and measured on the part of the text that it never saw."""

import dataclasses
import hashlib
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from dualform.checkpoints.loading import Loaded
from dualform.checkpoints.tokens import beginning
from dualform.errors import require
from dualform.generation import fingerprint, passages_of
from dualform.lenses.lens_training import LensConfig, LensLosses, Windows, lens_losses, train_lens
from dualform.lenses.readings import BITS
from dualform.lenses.tuned_lens import save_lens
from dualform.models import LanguageModel, with_context
from dualform.training import Progress, Run

HELD_OUT = 0.1
"""The share of a text, its end, that is measured on and never trained on."""

MOST_WINDOWS = 32
"""Windows of it that are measured, spread evenly."""


class LensResult(NamedTuple):
    """What came of a training.

    - losses: on what was held out.  steps, seconds: of training.  config: as it was told.  tokens: of the two parts of the text.
    """

    losses: LensLosses
    steps: int
    seconds: float
    config: LensConfig
    tokens: tuple[int, int]


def train_on_text(
    loaded: Loaded,
    text: str,
    config: LensConfig,
    out: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    on_chunk: Callable[[Progress], None] | None = None,
) -> LensResult:
    """Train a lens on the first nine tenths of a text, measure it on windows of the last one, and write it to `out`.

    The folder is a run's: the same call goes on where it was stopped, and ends with the same translators, to the bit.

    **Raises:** `InputError` for a model that is no language model, a text that is too short, and where the folder is of another
    model, text or config; `KeyboardInterrupt` where it was interrupted: nothing is lost, and nothing written to `out`.
    """
    require(
        isinstance(loaded.model, LanguageModel),
        f"{loaded.name} is a {loaded.architecture}, which reads no text token by token; a lens is trained by a language model on "
        "a text. In Python, lenses.train_lens takes any model with a readout.",
    )
    model, begin = with_context(loaded.model, config.length + 1), beginning(loaded.tokens)
    parts = [loaded.encode(part)[len(begin) :] for part in _parts(text)]
    windows = Windows(parts[0], config.length, config.batch, begin)
    held_out = passages_of(parts[1], MOST_WINDOWS, config.length, begin)
    told = {
        "lens": dataclasses.asdict(config),
        "weights": fingerprint(loaded.model).weights,
        "text": hashlib.sha256(text.encode()).hexdigest(),
    }
    run = Run.create(folder, told)
    with run.alone():
        fitted = train_lens(model, windows, config, run=run, on_chunk=on_chunk)
        if fitted.status == "interrupted":
            raise KeyboardInterrupt
        losses = lens_losses(model, fitted.model, held_out)
        run.write_json("result.json", _told(losses) | {"steps": fitted.steps, "seconds": fitted.seconds})
        save_lens(out, fitted.model, told | {"held out": _told(losses)})
    return LensResult(losses, fitted.steps, fitted.seconds, config, (len(parts[0]), len(parts[1])))


def _parts(text: str) -> tuple[str, str]:
    """What is trained on, and what is held out.

    **Raises:** `InputError` where one of them is empty.
    """
    cut = len(text) - int(HELD_OUT * len(text))
    require(
        0 < cut < len(text),
        f"the text has {len(text)} characters; its last tenth is held out, so that it needs 10 at the least. Give a longer text.",
    )
    return text[:cut], text[cut:]


def _told(losses: LensLosses) -> dict[str, Any]:
    """Bits a token by layer, as JSON can hold them."""
    bits = lambda a: (np.mean(a, axis=1, dtype=np.float64) * BITS).tolist()
    return {"layers": list(losses.layers), "logit_bits": bits(losses.logit), "tuned_bits": bits(losses.tuned)}
