"""Associative recall: what a sequence holds, what attention can do with it, and each bad size."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest

from dualform.errors import InputError
from dualform.mixers import LinearAttention
from dualform.tasks import AssociativeRecall, recall_accuracy, recall_loss


def exact_attention(task):
    """W_V reads the value's half of a token, W_K and W_Q the key's: with orthonormal keys, recall without error."""
    half = task.d // 2
    both = jnp.eye(task.d)
    return LinearAttention(both[half:], both[:half], both[:half])


def test_a_sequence_is_pairs_and_a_query(getkey):
    """Keys of a sequence differ, the query is one of them, the target its value, and the query's token has no value."""
    task = AssociativeRecall(vocabulary=6, pairs=4, batch=500)
    x, y = eqx.filter_jit(task.sample)(getkey())
    assert x.shape == (500, 5, 12) and y.shape == (500,)
    keys, values = np.asarray(x[..., :6]).argmax(-1), np.asarray(x[:, :-1, 6:]).argmax(-1)
    assert not np.any(np.asarray(x[:, -1, 6:])) and set(np.unique(y)) == set(range(6))
    for ids, shown, target in zip(keys, values, np.asarray(y), strict=True):
        assert len(set(ids[:-1])) == 4
        assert shown[list(ids[:-1]).index(ids[-1])] == target


def test_one_hot_keys_are_recalled_by_attention(getkey):
    """Linear attention on orthonormal keys gives the value's own vector: accuracy 1, and the loss of those logits."""
    task = AssociativeRecall(vocabulary=6, pairs=4, batch=200)
    x, y = task.sample(getkey())
    attention = exact_attention(task)
    assert recall_accuracy(attention, x, y) == 1
    np.testing.assert_allclose(recall_loss(attention, x, y), np.log(np.e + 5) - 1, rtol=1e-12)


def test_random_embeddings_are_fixed_and_interfere(getkey):
    """Vectors of norm 1, the same in every sample of a seed; logits without any information cost log of the vocabulary."""
    task = AssociativeRecall(vocabulary=6, pairs=4, embedding="random", width=3, batch=50, seed=1)
    embedded = np.asarray(task.embeddings())
    np.testing.assert_allclose(np.linalg.norm(embedded, axis=-1), 1, rtol=1e-12)
    x, y = task.sample(getkey())
    assert x.shape == (50, 5, 6)
    distance = np.abs(np.asarray(x)[:, :, None, :3] - embedded[0][None, None]).sum(-1).min(-1)
    assert distance.max() < 1e-12
    other = AssociativeRecall(vocabulary=6, pairs=4, embedding="random", width=3, seed=2)
    assert not np.allclose(embedded, np.asarray(other.embeddings()))
    silent = LinearAttention(jnp.zeros((6, 6)), jnp.eye(6), jnp.eye(6))
    np.testing.assert_allclose(recall_loss(silent, x, y), np.log(6), rtol=1e-12)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"vocabulary": 1, "pairs": 1}, "vocabulary is 1; it must be at least 2"),
        ({"pairs": 0}, "pairs is 0; it must be at least 1"),
        ({"vocabulary": 4, "pairs": 5}, "pairs is 5, more than the 4 keys there are; a key is shown once. Raise vocab"),
        ({"embedding": "learned"}, "there is no embedding 'learned'; there are one_hot and random"),
        ({"embedding": "random"}, "give a width with random embeddings, and none with one_hot"),
        ({"width": 3}, "give a width with random embeddings, and none with one_hot"),
        ({"embedding": "random", "width": 0}, "width is 0; it must be at least 1"),
    ],
)
def test_bad_input(arguments, message):
    """What is out of range is named, with its value."""
    with pytest.raises(InputError, match=message):
        AssociativeRecall(**arguments)
