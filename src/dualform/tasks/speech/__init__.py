"""Speech: texts spoken by espeak-ng with the timings of their phonemes, and sound in files."""

from dualform.tasks.speech.corpus import HELD_OUT_VOICES, VOICES, Corpus, corpus_of, part_of
from dualform.tasks.speech.espeak import Utterance, spoken
from dualform.tasks.speech.sound import read_sound, resampled, write_sound
from dualform.tasks.speech.texts import drawn_texts

__all__ = [
    "HELD_OUT_VOICES",
    "VOICES",
    "Corpus",
    "Utterance",
    "corpus_of",
    "drawn_texts",
    "part_of",
    "read_sound",
    "resampled",
    "spoken",
    "write_sound",
]
