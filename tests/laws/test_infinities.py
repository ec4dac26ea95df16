"""Law 5g: NaN and infinity stay in their document."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from dualform.mixers import GLA, LSTM, CausalConvolution, RWKV4TimeMixing, SoftmaxAttention
from dualform.models import Block, LanguageModel, LayerNorm, RMSNorm, SequenceModel, Stack
from tests.laws import infinities, laws
from tests.tiers import tiers


@pytest.mark.parametrize("name", laws.registered(*laws.KINDS))
def test_what_is_not_finite_stays_in_its_document(name):
    """NaN or infinity in any token, or in the carried state, with every packing of six tokens and with gaps."""
    infinities.they_stay_in_their_document(laws.table(name))


def blocks() -> tuple[Block, ...]:
    mixers = (GLA, CausalConvolution, SoftmaxAttention, RWKV4TimeMixing)
    keys = jr.split(jr.key(0), len(mixers))
    return tuple(
        Block.make(mixer.make(4, key=key), key=key, norm=norm, mlp=mlp)
        for mixer, key, norm, mlp in zip(
            mixers, keys, ("rms", "layer", "rms", None), ("swiglu", None, "gelu", "relu"), strict=True
        )
    )


@eqx.filter_jit
def _later(model: Any, x: Any, state: Any, first: Any) -> Any:
    """Outputs from the second document on, the last state, and the gradients of their squares in the weights."""
    start = jnp.arange(6) == first

    def score(model):
        y, final = model(x, state, start=start)
        known = jnp.where((jnp.arange(6) >= first)[:, None], y, jnp.zeros_like(y)) if y.ndim == 2 else y
        return jnp.sum(known**2), (y, known, final)

    (_, values), gradient = eqx.filter_value_and_grad(score, has_aux=True)(model)
    return values, gradient


MODELS = {
    "stack": lambda: Stack.make((LSTM.make(4, key=jr.key(0)), GLA.make(4, key=jr.key(1))), 4, 3, key=jr.key(2)),
    "every token": lambda: SequenceModel.make(blocks(), 4, 3, key=jr.key(2), norm=RMSNorm.make(4)),
    "mean": lambda: SequenceModel.make(blocks(), 4, 3, key=jr.key(2), norm=LayerNorm.make(4), pool="mean"),
    "last": lambda: SequenceModel.make(blocks(), 4, 3, key=jr.key(2), pool="last"),
    "language": lambda: LanguageModel.make(
        blocks(), 8, key=jr.key(2), norm=RMSNorm.make(4), embedding_norm=LayerNorm.make(4), tied=True
    ),
}


def _filled(state: Any, value: float) -> Any:
    fill = lambda a: jnp.full_like(a, value) if jnp.issubdtype(a.dtype, jnp.inexact) else a
    return jax.tree_util.tree_map(fill, state)


@pytest.mark.parametrize("name", tiers(MODELS, "stack"))
def test_what_is_not_finite_stays_in_its_document_in_models(name):
    """So it is through norms, MLPs, embeddings and heads: later outputs, states and gradients are those of finite tokens."""
    model: Any = MODELS[name]()
    language = name == "language"
    x: Any = jnp.asarray([3, 1, 4, 1, 5, 2]) if language else laws.sequence(0, 6)
    state = model.init_state()
    # A token out of the vocabulary is NaN where nobody can look at it.
    tokens = [x.at[1].set(9)] if language else [x.at[1, 2].set(value) for value in (jnp.nan, jnp.inf)]
    given = [(bad, state, 3) for bad in tokens]
    given += [(x, _filled(state, value), first) for value, first in ((jnp.nan, 0), (jnp.inf, 3))]
    for bad, before, first in given:
        ((y, *found), gradient), ((_, *expected), wanted) = (
            _later(model, tokens, carried, first) for tokens, carried in ((bad, before), (x, state))
        )
        laws.check_close((found, gradient), (expected, wanted), laws.EXACT, f"behind a start at {first}")
        lost = np.arange(6) < first if before is not state else (np.arange(6) >= 1) & (np.arange(6) < first)
        if y.ndim == 2:
            assert np.isnan(np.asarray(y)[lost]).any(axis=1).all() and np.isfinite(np.asarray(y)[~lost]).all()
