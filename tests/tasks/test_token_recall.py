"""Recall over tokens: every question has one answer, one source, and both are where the sample says."""

import jax
import jax.random as jr
import numpy as np
import pytest

from dualform.errors import InputError
from dualform.tasks import TokenRecall
from dualform.tasks.token_recall import KEYS, VALUES


def test_every_question_has_one_answer_and_one_source():
    """Keys are shown once, asked once; the target is the value behind the key's first place, and the source is that place."""
    task = TokenRecall(pairs=5, asked=3, batch=40)
    found = [np.asarray(part) for part in jax.jit(task.sequences)(jr.key(0))]
    assert all(part.shape == (40, 16) for part in found)
    for tokens, targets, sources in zip(*found, strict=True):
        keys, values = tokens[:10:2], tokens[1:10:2]
        assert len(set(keys)) == 5 and keys.max() < len(KEYS) <= values.min() <= values.max() < len(KEYS + VALUES)
        asked = np.flatnonzero(targets >= 0)
        np.testing.assert_array_equal(asked, [10, 12, 14])
        np.testing.assert_array_equal(np.flatnonzero(sources >= 0), asked)
        assert len(set(tokens[asked])) == 3
        for t in asked:
            place = list(keys).index(tokens[t])
            assert sources[t] == 2 * place + 1 and tokens[sources[t]] == targets[t] == tokens[t + 1]
    x, y = jax.jit(task.sample)(jr.key(0))
    np.testing.assert_array_equal(x, found[0])
    np.testing.assert_array_equal(y, found[1])


@pytest.mark.parametrize(
    "sizes, message",
    [
        ({"pairs": 0}, "pairs is 0; it must be from 1 to 16"),
        ({"pairs": 17}, "pairs is 17; it must be from 1 to 16, one for each key"),
        ({"asked": 9}, "asked is 9; it must be from 1 to the 8 pairs"),
        ({"batch": 0}, "batch is 0; it must be at least 1"),
    ],
)
def test_bad_sizes(sizes, message):
    """Each size that makes no sense is named."""
    with pytest.raises(InputError, match=message):
        TokenRecall(**sizes)
