"""A corpus of speech: texts in several voices, in parts that share no text and, where it is asked for, no voice."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dualform.errors import FileError, InputError, require
from dualform.packaged.cache import cache_folder
from dualform.tasks.speech.espeak import SPEED, Utterance, spoken
from dualform.tensor_file import read_tensors, write_tensors

VOICES = ("en-us", "en-us+f1", "en-us+f3", "en-us+m3", "en-us+m7", "en-us+f5")
HELD_OUT_VOICES = ("en-us+f2", "en-us+m4")
PARTS = ("train", "validation", "test", "new voices")

_FORMAT = "1"
"""Of the cached file; part of its name."""


@dataclass(frozen=True, eq=False)
class Corpus:
    """Utterances in four parts.

    - train, validation, test: texts of which no two of different parts say the same, in the same voices.
    - new voices: the texts of the test, in voices of which nothing else is heard.

    Of which part a text is, is told by a hash of its phonemes, not of its letters: "17" and "seventeen" are one text. So no
    sequence of phonemes is of two parts, whatever the seeds and however many texts there are: one in 16 texts is for
    validation, one in 16 for the test. Words of a test's sentence may come in other sentences of the training.
    """

    utterances: tuple[Utterance, ...]
    parts: tuple[str, ...]

    def part(self, name: str) -> tuple[Utterance, ...]:
        """The utterances of a part.

        **Raises:** `InputError` where there is none of that name.
        """
        require(name in PARTS, f"there is no part {name!r}; there are {', '.join(PARTS)}.")
        return tuple(each for each, part in zip(self.utterances, self.parts, strict=True) if part == name)


def part_of(said: Sequence[str]) -> str:
    """The part of a text with these phonemes: train, validation or test."""
    number = hashlib.sha256(" ".join(said).encode()).digest()[0] % 16
    return {0: "validation", 1: "test"}.get(number, "train")


def corpus_of(
    texts: Sequence[str],
    *,
    voices: Sequence[str] = VOICES,
    held_out_voices: Sequence[str] = HELD_OUT_VOICES,
    speed: int = SPEED,
    folder: Path | None = None,
) -> Corpus:
    """All texts in the voices, those of the test in the held-out ones, too; from the cache where they are there.

    A text's part goes by its phonemes in the first of the voices. The cache does not know of another version of espeak-ng:
    empty it after an update.

    **Arguments:** texts: as they are written; one that says what another says is left out; folder: of the cache, "speech" in the
    user's own if not given.

    **Raises:** `InputError` for no text or voice, one voice on both sides, and as `spoken` does; `FileError` where the cache
    cannot be written, or is damaged.
    """
    texts, voices, new = list(dict.fromkeys(texts)), list(dict.fromkeys(voices)), list(dict.fromkeys(held_out_voices))
    require(
        len(texts) >= 1 and len(voices) >= 1,
        f"there are {len(texts)} texts and {len(voices)} voices; give one of each.",
    )
    both = sorted(set(voices) & set(new))
    require(not both, f"the voices {', '.join(both)} are held out and not held out.")
    asked = json.dumps([_FORMAT, texts, voices, new, speed])
    place = (folder or cache_folder() / "speech") / f"{hashlib.sha256(asked.encode()).hexdigest()[:32]}.safetensors"
    if place.is_file():
        return _read(place)
    made = _made(texts, voices, new, speed)
    _write(place, made)
    return made


def _made(texts: list[str], voices: list[str], new: list[str], speed: int) -> Corpus:
    first = spoken([(text, voices[0]) for text in texts], speed=speed)
    unique = list({each.said: each for each in reversed(first)}.values())[::-1]
    part = {each.text: part_of(each.said) for each in unique}
    others = [(each.text, voice) for each in unique for voice in voices[1:]]
    others += [(each.text, voice) for each in unique if part[each.text] == "test" for voice in new]
    utterances = (*unique, *spoken(others, speed=speed))
    # In a voice of another accent two texts may sound alike that the first tells apart: the held-out one stays.
    held = {name: {each.said for each in utterances if part[each.text] == name} for name in ("test", "validation")}
    before = {"train": held["test"] | held["validation"], "validation": held["test"], "test": set()}
    kept = tuple(each for each in utterances if each.said not in before[part[each.text]])
    return Corpus(kept, tuple("new voices" if each.voice in new else part[each.text] for each in kept))


def _write(place: Path, made: Corpus) -> None:
    """One file: all sound behind one another, and what belongs to each utterance in the metadata."""
    told = [
        [each.text, each.voice, each.rate, len(each.samples), list(each.phonemes), part]
        for each, part in zip(made.utterances, made.parts, strict=True)
    ]
    arrays = {
        "samples": np.concatenate([each.samples for each in made.utterances]),
        "starts": np.concatenate([each.starts for each in made.utterances]),
    }
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"{str(place.parent)!r} cannot be made: {error.strerror}. Give another folder.") from None
    write_tensors(place, arrays, {"utterances": json.dumps(told)})


def _read(place: Path) -> Corpus:
    """What `_write` has written, everything checked.

    **Raises:** `FileError` for any other file.
    """
    arrays, metadata = read_tensors(place)
    utterances, parts, sample, start = [], [], 0, 0
    try:
        samples, starts = arrays["samples"], arrays["starts"]
        require(samples.dtype == np.int16 and starts.dtype == np.int64, "its arrays are of other types")
        for text, voice, rate, count, phonemes, part in json.loads(metadata["utterances"]):
            own = starts[start : start + len(phonemes)]
            sound = samples[sample : sample + count]
            require(len(sound) == count and len(own) == len(phonemes) and part in PARTS, f"{text!r} is not whole")
            utterances.append(Utterance(text, voice, rate, sound, tuple(phonemes), own))
            parts.append(part)
            sample, start = sample + count, start + len(phonemes)
        require((sample, start) == (len(samples), len(starts)) and sample > 0, "there is more sound than text")
    except (InputError, KeyError, ValueError, TypeError) as error:
        raise FileError(f"{str(place)!r} is no corpus of speech: {error}. Delete it; it is made anew.") from None
    return Corpus(tuple(utterances), tuple(parts))
