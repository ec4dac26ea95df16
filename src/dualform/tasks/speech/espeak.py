"""Speech with its phonemes and their timings, made by espeak-ng: real sound, of which is known what is said where."""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
from jaxtyping import Int, Int16

from dualform.errors import InputError, require

SPEED = 175
"""Words a minute, espeak-ng's own default."""

SLOWEST, FASTEST = 80, 450
"""Words a minute that espeak-ng takes."""

LONGEST = 10_000
"""Letters of a text."""

INSTALL = (
    "Install it: apt-get install espeak-ng (Debian, Ubuntu), dnf install espeak-ng (Fedora), brew install espeak-ng."
)

_PROGRAM = Path(__file__).with_name("speaking.py")


@dataclass(frozen=True, eq=False)
class Utterance:
    """A text as a voice has spoken it.

    - text, voice: as they were given.  rate: samples a second.
    - samples: the sound, (time,).
    - phonemes: espeak-ng's own names; those that begin with "_" are pauses.  starts: at which sample each begins; it lasts to
      the next one's, the last one to the end.
    """

    text: str
    voice: str
    rate: int
    samples: Int16[np.ndarray, " time"]
    phonemes: tuple[str, ...]
    starts: Int[np.ndarray, " phoneme"]

    @property
    def seconds(self) -> float:
        """How long it is."""
        return len(self.samples) / self.rate

    @property
    def said(self) -> tuple[str, ...]:
        """The phonemes without pauses: by what is said, not by how it is written, texts are the same."""
        return tuple(phoneme for phoneme in self.phonemes if not phoneme.startswith("_"))

    def phoneme_at(self, samples: Int[np.ndarray, " place"]) -> Int[np.ndarray, " place"]:
        """Which of the phonemes, by number, is said at each of these samples; the first before its start, too."""
        return np.maximum(np.searchsorted(self.starts, samples, side="right") - 1, 0)


def spoken(texts: Sequence[tuple[str, str]], *, speed: int = SPEED) -> list[Utterance]:
    """Each text as its voice speaks it: a function of the two and of espeak-ng's version, whatever was spoken before.

    **Arguments:** texts: (text, voice) each, voices as espeak-ng calls them: "en-us", "en+f3" (`espeak-ng --voices=en`,
    `--voices=variant`); speed: words a minute.

    **Returns:** as many utterances, at espeak-ng's 22,050 samples a second.

    **Raises:** `InputError` where espeak-ng is not installed, a text is empty, too long or has no phoneme, a voice is none, or
    the speed is out of range.
    """
    texts = list(texts)
    require(SLOWEST <= speed <= FASTEST, f"speed is {speed} words a minute; give {SLOWEST} to {FASTEST}.")
    for text, _ in texts:
        require(bool(text.strip()), "the text is empty; there is nothing to say.")
        require(len(text) <= LONGEST, f"the text has {len(text):,} letters; give at most {LONGEST:,} at a time.")
        require("\0" not in text, f"the text {text[:40]!r} has a letter 0, at which espeak-ng would end it.")
    return [*map(_utterance, texts, _written([[text, voice, speed] for text, voice in texts]))] if texts else []


def _written(items: list[list]) -> list[tuple[dict, bytes]]:
    """What the program gives of each item: what it tells, and the sound."""
    try:
        done = subprocess.run(
            [sys.executable, "-I", str(_PROGRAM)],
            input=json.dumps(items).encode(),
            capture_output=True,
            timeout=60 + 10 * len(items),
        )
    except subprocess.TimeoutExpired:
        raise InputError(f"espeak-ng has not spoken {len(items)} texts in {60 + 10 * len(items)} seconds.") from None
    require(done.returncode != 3, f"espeak-ng is not installed, or its voices cannot be read. {INSTALL}")
    output, place, found = done.stdout, 0, []
    while place < len(output):
        line, _, _ = output[place:].partition(b"\n")
        told, place = json.loads(line), place + len(line) + 1
        size = 2 * told.get("samples", 0)
        found.append((told, output[place : place + size]))
        place += size
    if len(found) != len(items):
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise InputError(f"espeak-ng could not be run: {said[-1] if said else f'it exited with {done.returncode}'}.")
    return found


def _utterance(given: tuple[str, str], found: tuple[dict, bytes]) -> Utterance:
    (text, voice), (told, sound) = given, found
    if "error" in told:
        _refuse(text, voice, told["error"])
    samples, starts = np.frombuffer(sound, np.int16), np.asarray(told["starts"], np.int64)
    made = Utterance(text, voice, told["rate"], samples, tuple(told["phonemes"]), starts)
    require(bool(made.said), f"no phoneme is said of the text {text[:40]!r}; give words or numbers.")
    return made


def _refuse(text: str, voice: str, error: str) -> NoReturn:
    if error == "voice":
        raise InputError(
            f"espeak-ng has no voice {voice!r}. Give one of `espeak-ng --voices=en`, and behind a + one of `--voices=variant`: "
            "en-us, en+f3."
        )
    raise InputError(f"{error}, at the text {text[:40]!r} in the voice {voice!r}.")
