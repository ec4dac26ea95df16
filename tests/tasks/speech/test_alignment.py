"""Alignments held to timings, by hand and on speech."""

import numpy as np
import pytest

from dualform.errors import InputError
from dualform.tasks.speech import Mel, alignment_errors
from tests.tasks.speech.voices import needs_espeak, said

SAID = [0, 0, 1, 1, 2, 3, 3, 3]


@pytest.mark.parametrize(
    ("read", "repeats", "skips", "distance"),
    [
        (SAID, 0, 0, 0.0),
        ([0, 0, 0, 1, 2, 3, 3, 3], 0, 0, 0.0),  # one of four is a frame late
        ([0, 0, 0, 1, 1, 2, 3, 3], 0, 0, 1.0),
        ([0, 0, 1, 1, 3, 3, 3, 3], 0, 1, 0.0),  # the third is passed over
        ([0, 1, 0, 1, 2, 3, 3, 3], 2, 0, 0.0),  # the first two are read again
        ([0, 1, 2, 3, 2, 3, 1, 3], 4, 0, 1.5),  # every return is one, and so is each way on from it
        ([3] * 8, 0, 3, 5.0),
        ([4] * 8, 0, 4, np.nan),
    ],
)
def test_by_hand(read, repeats, skips, distance):
    """Each kind of error is counted where it is, and no other; the weights behind the largest do not matter."""
    weights = 0.6 * np.eye(5)[read] + 0.05 * np.random.default_rng(0).random((8, 5))
    found = alignment_errors(weights, np.array(SAID))
    assert (found.phonemes, found.repeats, found.skips) == (4, repeats, skips)
    np.testing.assert_equal(found.distance, distance)
    assert (found.repeats_per_100, found.skips_per_100) == (25 * repeats, 25 * skips)


@needs_espeak
def test_timings_have_no_error_against_themselves():
    """Of an utterance read where it is said there is none; read from its end, every frame after the first phoneme is one."""
    utterance, mel = said()[0], Mel(rate=22_050)
    true = utterance.phoneme_at(mel.centres(len(utterance.samples) // mel.hop))
    count = len(utterance.phonemes)
    found = alignment_errors(np.eye(count)[true], true)
    assert (found.repeats, found.skips, found.distance) == (0, 0, 0) and found.phonemes > 35
    turned = alignment_errors(np.eye(count)[true[::-1]], true)
    assert turned.repeats == found.phonemes - 1 and turned.skips == 0 and turned.distance > 20


@pytest.mark.parametrize(
    ("weights", "numbers", "message"),
    [
        (np.ones((3, 2)), np.zeros(2, int), r"weights \(3, 2\) and said \(2,\) do not fit"),
        (np.ones((0, 2)), np.zeros(0, int), "do not fit"),
        (np.full((1, 2), np.nan), np.zeros(1, int), "a weight is NaN or infinite"),
        (np.ones((1, 2)), np.array([2]), "said has a number outside of 0 to 1"),
    ],
)
def test_bad_input(unchecked, weights, numbers, message):
    """Each input that does not fit is named."""
    with pytest.raises(InputError, match=message):
        alignment_errors(weights, numbers)
