"""Speech: texts spoken by espeak-ng with the timings of their phonemes; sound in files; a codec; alignments judged."""

from dualform.tasks.speech.alignment import AlignmentErrors, alignment_errors
from dualform.tasks.speech.codec import Codec, fit_codec
from dualform.tasks.speech.corpus import HELD_OUT_VOICES, VOICES, Corpus, corpus_of, part_of
from dualform.tasks.speech.delay import delayed, undelayed
from dualform.tasks.speech.distortion import codec_distortions, mel_cepstral_distortion
from dualform.tasks.speech.espeak import Utterance, spoken
from dualform.tasks.speech.mel import Mel
from dualform.tasks.speech.sound import read_sound, resampled, write_sound
from dualform.tasks.speech.texts import drawn_texts

__all__ = [
    "HELD_OUT_VOICES",
    "VOICES",
    "AlignmentErrors",
    "Codec",
    "Corpus",
    "Mel",
    "Utterance",
    "alignment_errors",
    "codec_distortions",
    "corpus_of",
    "delayed",
    "drawn_texts",
    "fit_codec",
    "mel_cepstral_distortion",
    "part_of",
    "read_sound",
    "resampled",
    "spoken",
    "undelayed",
    "write_sound",
]
