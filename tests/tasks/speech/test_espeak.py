"""Speech by espeak-ng: its sound is a function of text and voice, and the timings of its phonemes are those of the sound."""

import numpy as np
import pytest

from dualform.errors import InputError
from dualform.tasks.speech import espeak, spoken
from dualform.tasks.speech.texts import drawn_texts
from tests.tasks.speech.voices import needs_espeak, said

VOWELS = {"I", "E", "u:", "i:", "aI", "O", "oU", "3:", "i"}


def middles(utterance, names):
    """The middle half of each phoneme that has one of these names, as numbers."""
    ends = [*utterance.starts[1:], len(utterance.samples)]
    parts = zip(utterance.phonemes, utterance.starts, ends, strict=True)
    cut = lambda a, b: utterance.samples[a + (b - a) // 4 : b - (b - a) // 4].astype(float)
    return [cut(a, b) for name, a, b in parts if name in names and b - a > 400]


def centroid(samples):
    """The mean frequency of the power, in Hz."""
    power = np.abs(np.fft.rfft(samples * np.hanning(len(samples)))) ** 2
    return (power * np.fft.rfftfreq(len(samples), 1 / 22_050)).sum() / power.sum()


@needs_espeak
@pytest.mark.parametrize("number", [0, 3])
def test_timings_are_of_the_sound(number):
    """Where a pause is said to be there is silence, and where an s is, higher sound than at any vowel."""
    utterance = said()[number]
    loud = np.sqrt(np.mean(utterance.samples.astype(float) ** 2))
    pauses, hisses, vowels = (middles(utterance, names) for names in ({"_:"}, {"s"}, VOWELS))
    assert len(pauses) == 2 and len(hisses) >= 4 and len(vowels) >= 8
    assert max(np.sqrt(np.mean(pause**2)) for pause in pauses) < 0.01 * loud
    assert min(map(centroid, hisses)) > 1.5 * max(map(centroid, vowels))


@needs_espeak
def test_a_sound_is_a_function_of_text_and_voice():
    """Spoken again behind others it has the same bits; another voice has others; a number is what its words are."""
    first, number, words, other, *_, again = said()
    np.testing.assert_array_equal(first.samples, again.samples)
    assert first.phonemes == again.phonemes and first.starts.tolist() == again.starts.tolist()
    assert len(first.samples) != len(other.samples) and number.said == words.said
    assert all(np.diff(first.starts) >= 0) and 0 <= first.starts[0] and first.starts[-1] <= len(first.samples)


@needs_espeak
def test_phoneme_at():
    """At each phoneme's start it is said, just before it the one before, and before the first the first."""
    utterance = said()[0]
    starts, count = utterance.starts, 10  # at the comma two pauses may begin at once
    assert utterance.phoneme_at(starts[:count]).tolist() == list(range(count))
    assert utterance.phoneme_at(starts[:count] - 1).tolist() == [0, *range(count - 1)]


@needs_espeak
@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("ships", "xx"), "espeak-ng has no voice 'xx'. Give one of"),
        (("ships", "en+zzz"), r"espeak-ng has no voice 'en\+zzz'"),
        (("ships", "en+../en"), "espeak-ng has no voice"),
        ((". .", "en"), r"no phoneme is said of the text '\. \.'; give words or numbers"),
    ],
)
def test_what_cannot_be_spoken(unchecked, given, message):
    """A voice that is none, and a text of no phoneme, are named."""
    with pytest.raises(InputError, match=message):
        spoken([given])


@pytest.mark.parametrize(
    ("given", "speed", "message"),
    [
        (("", "en"), 175, "the text is empty; there is nothing to say"),
        ((" \n", "en"), 175, "the text is empty"),
        (("a" * 10_001, "en"), 175, "the text has 10,001 letters; give at most 10,000 at a time"),
        (("a\0b", "en"), 175, "has a letter 0, at which espeak-ng would end it"),
        (("a", "en"), 20, "speed is 20 words a minute; give 80 to 450"),
    ],
)
def test_what_is_no_text(unchecked, given, speed, message):
    """It is refused before anything is run."""
    with pytest.raises(InputError, match=message):
        spoken([given], speed=speed)


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("import sys; sys.exit(3)", r"espeak-ng is not installed, .* Install it: apt-get install espeak-ng"),
        ("raise RuntimeError('no luck')", "espeak-ng could not be run: RuntimeError: no luck"),
        ("import os; os._exit(9)", "espeak-ng could not be run: it exited with 9"),
        ('print(\'{"error": "espeak-ng crashed"}\')', "espeak-ng crashed, at the text 'ships' in the voice 'en'"),
    ],
)
def test_a_program_that_is_not_there(unchecked, tmp_path, monkeypatch, program, message):
    """Where the library is missing it is said how to install it; any other end of the program is told, too."""
    (tmp_path / "speaking.py").write_text(program)
    monkeypatch.setattr(espeak, "_PROGRAM", tmp_path / "speaking.py")
    with pytest.raises(InputError, match=message):
        spoken([("ships", "en")])


def test_drawn_texts():
    """So many different texts, the same for the same seed, of each form as many; sentences as long as asked for."""
    texts = drawn_texts(30, seed=1, longest=15)
    assert len(set(texts)) == 30 and texts == drawn_texts(30, seed=1, longest=15) != drawn_texts(30, seed=2, longest=15)
    lengths = [len(text.split()) for text in texts[20:]]
    assert all(text.isdigit() for text in texts[10:20]) and set(lengths) == {7, 11, 15}
    with pytest.raises(InputError, match="there are not 500 different texts of the form word; ask for fewer"):
        drawn_texts(500, forms=["word"])
    with pytest.raises(InputError, match="there is no form of text 'poem'; there are word, number, sentence"):
        drawn_texts(2, forms=["poem"])
