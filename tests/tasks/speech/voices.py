"""What espeak-ng says here, spoken once; tests that need it are left out where it is not installed."""

import ctypes.util
import functools

import pytest

from dualform.tasks.speech import Utterance, spoken

needs_espeak = pytest.mark.skipif(ctypes.util.find_library("espeak-ng") is None, reason="espeak-ng is not installed")

TEXTS = (
    "the red ship sells the silver saxophone, the goose sees the seat",
    "17",
    "seventeen",
)


@functools.cache
def said() -> tuple[Utterance, ...]:
    """Each text in two voices without an echo, the first one again at the end."""
    pairs = [(text, voice) for voice in ("en-us", "en+m3") for text in TEXTS]
    return tuple(spoken([*pairs, pairs[0]]))
