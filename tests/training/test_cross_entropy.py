"""The loss of language models, and that models of every family learn by it."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from dualform import models
from dualform.errors import InputError
from dualform.training import NO_TARGET, FitConfig, cross_entropy, fit
from tests.laws import laws
from tests.models.families import VOCABULARY, language_model, tokens
from tests.tiers import tiers

SIZES: dict[str, Any] = {"vocabulary": 3, "d": 8, "layers": 2, "dtype": jnp.float32}
FAMILIES = {
    "gla": lambda key: models.gla(key=key, heads=2, hidden=16, std=None, **SIZES),
    "hgrn": lambda key: models.hgrn(key=key, hidden=16, std=None, **SIZES),
    "hgrn2": lambda key: models.hgrn2(key=key, heads=2, hidden=16, std=None, **SIZES),
    "retnet": lambda key: models.retnet(key=key, heads=2, hidden=16, std=None, **SIZES),
    "gated_delta_net": lambda key: models.gated_delta_net(key=key, heads=2, d_k=4, hidden=16, std=None, **SIZES),
    "gsa": lambda key: models.gsa(key=key, heads=2, slots=4, hidden=16, std=None, **SIZES),
    "griffin": lambda key: models.griffin(key=key, heads=2, hidden=16, attention_every=2, window=4, **SIZES),
    "mamba": lambda key: models.mamba(key=key, n=4, **SIZES),
    "mamba2": lambda key: models.mamba2(key=key, heads=2, n=4, **SIZES),
    "min_lstm": lambda key: models.min_rnn(key=key, cell="lstm", hidden=16, **SIZES),
}
CONFIG = FitConfig(steps=200, chunk=50, warmup=20, learning_rate=2e-2, weight_decay=0.0)
LEARNT = 0.1
"""Nats. A model that has not learnt what to copy is at log 2 = 0.69 in the mean."""


def copying(key):
    """Three tokens of two kinds, a sign, and the three again, which are to be predicted."""
    said = jr.randint(key, (32, 3), 0, 2)
    text = jnp.concatenate([said, jnp.full((32, 1), 2), said], axis=1)
    return text[:, :-1], jnp.where(jnp.arange(6)[None] >= 3, text[:, 1:], NO_TARGET)


@pytest.mark.parametrize("family", tiers(FAMILIES, "mamba"))
def test_every_family_learns_to_copy(family):
    """A small model, made in one line, copies three tokens after 200 steps: its loss over the last 50 is small."""
    fitted = fit(FAMILIES[family](jr.key(1)), copying, CONFIG, loss=cross_entropy)
    losses = [record["loss"] for record in fitted.history]
    assert losses[0] > LEARNT > losses[-1], losses


def test_the_loss_is_its_equation():
    """The mean of -log p over the targets that are there, whatever stands in the logits of the others."""
    model = language_model("hgrn", "linear_attention")
    x = jnp.stack([tokens(0), tokens(1)])
    y = jnp.stack([tokens(2), tokens(3)]).at[0, 2:].set(NO_TARGET)
    logits = np.stack([np.asarray(laws.call(model, row)[0]) for row in x])
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    terms = [-np.log(p[b, t, y[b, t]]) for b in range(2) for t in range(6) if y[b, t] >= 0]
    assert len(terms) == 8
    np.testing.assert_allclose(jax.jit(cross_entropy)(model, x, y), np.mean(terms), rtol=laws.EXACT)
    assert jax.jit(cross_entropy)(model, x, jnp.full_like(y, NO_TARGET)) == 0


def test_no_target_gives_no_gradient():
    """Logits without a target are not learnt from: the gradient is that of the others alone, and never NaN."""
    model = language_model("hgrn")
    x, y = tokens(0)[None], tokens(2)[None].at[:, 3:].set(NO_TARGET)
    gradient = eqx.filter_jit(eqx.filter_grad(cross_entropy))
    cut = gradient(model, x[:, :3], y[:, :3])
    laws.check_close(gradient(model, x, y), cut, laws.EXACT, "the gradient without targets at the end")
    nothing = gradient(model, x, jnp.full_like(y, NO_TARGET))
    assert not any(np.asarray(leaf).any() for leaf in jax.tree_util.tree_leaves(nothing))


def test_shapes_that_differ(unchecked):
    """Every token needs a target."""
    x = jnp.zeros((2, VOCABULARY), int)
    with pytest.raises(
        InputError, match=r"tokens have shape \(2, 7\) and targets \(2, 6\); each token needs a target, or -1"
    ):
        cross_entropy(language_model("hgrn"), x, x[:, 1:])


def test_a_target_beyond_the_vocabulary_is_told():
    """Called as it is, and by `fit`, whose compiled loop sees a loss of NaN: which target, and what the vocabulary has."""
    model = language_model("mamba")
    text, wrong = jnp.zeros((2, 3), jnp.int32), jnp.array([[0, 1, NO_TARGET], [2, VOCABULARY, 1]], jnp.int32)
    said = f"target 1 of row 1 is {VOCABULARY}; this vocabulary goes from 0 to {VOCABULARY - 1}. Is the tokenizer another model's"
    with pytest.raises(InputError, match=said):
        cross_entropy(model, text, wrong)
    assert np.isnan(float(jax.jit(lambda wrong: cross_entropy(model, text, wrong))(wrong)))
    sample = lambda key: (text, jnp.where(jr.bits(key) >= 0, wrong, wrong))
    with pytest.raises(InputError, match=said):
        fit(model, sample, FitConfig(steps=2, chunk=1, warmup=0), loss=cross_entropy)
