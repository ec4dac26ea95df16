"""Lens views to test with: random readings, whose last layer says what the model says."""

from typing import Any

import numpy as np

from dualform.lenses import LensReading
from dualform.reports.lens_view import LensView

WORDS = ("a", " the", " cat", "\n", "x" * 40, "")


def reading(layers: tuple[str, ...], time: int, rank: int = 3, outputs: int = len(WORDS), seed: int = 0) -> LensReading:
    """Of random logits, sharper from layer to layer."""
    logits = (
        np.random.default_rng(seed).normal(size=(len(layers), time, outputs))
        * np.arange(1, len(layers) + 1)[:, None, None]
    )
    log = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    top = np.argsort(-log, axis=-1)[..., :rank]
    kl, entropy = (np.exp(log[-1:]) * (log[-1:] - log)).sum(-1), -(np.exp(log) * log).sum(-1)
    return LensReading(layers, kl, entropy, top, np.take_along_axis(log, top, -1))


def lens_view(
    tokens: Any = tuple("abcdefgh"), words: tuple[str, ...] = WORDS, layers: int = 3, **changed: Any
) -> LensView:
    """A view of both lenses."""
    names = ("embedding", *(f"block {i + 1}" for i in range(layers - 1)))
    read = lambda seed: reading(names, len(tokens), outputs=len(words), seed=seed)
    following = (*(t % len(words) for t in range(len(tokens) - 1)), None)
    given: dict[str, Any] = {"title": "A test", "readings": {"logit lens": read(0), "tuned lens": read(1)}}
    given |= {"words": dict(enumerate(words)), "outputs": len(words), "following": following, "details": {"a": "b"}}
    return LensView(tokens=tuple(tokens), **(given | changed))
