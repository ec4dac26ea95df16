"""Attention as a recurrent network in place of softmax attention: whole models whose state does not grow."""

from typing import Any, TypeVar

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array

from dualform.arrays import accumulator, project
from dualform.errors import require
from dualform.mixers import Aaren, SoftmaxAttention
from dualform.models.language_model import LanguageModel
from dualform.models.llama_models import llama

Model = TypeVar("Model", bound=eqx.Module)


def aaren(
    *,
    key: Array,
    vocabulary: int = 49_152,
    d: int = 576,
    layers: int = 30,
    heads: int = 9,
    hidden: int = 1536,
    tied: bool = True,
    epsilon: float = 1e-5,
    dtype=None,
) -> LanguageModel:
    """A Llama whose attention is Aaren: a learned query for each head instead of one for each token, and no places.

    Whatever its length, a text leaves (m, u, w) of each head: heads * (2 + d / heads) numbers a layer.

    **Arguments:** as of `models.llama`; every head has its own keys and values.

    **Source:** Feng et al. 2024 (arXiv 2405.13956); the blocks around it are Llama's, so that the two can be compared.
    """
    sizes: dict[str, Any] = {"vocabulary": vocabulary, "d": d, "layers": layers, "heads": heads, "hidden": hidden}
    keys = jr.split(key)
    model = llama(key=keys[0], kv_heads=None, context=1, tied=tied, epsilon=epsilon, dtype=dtype, **sizes)
    return with_aaren(model, key=keys[1])


def with_aaren(model: Model, *, key: Array) -> Model:
    """The model with Aaren for its softmax attention, called, stepped and trained as before: see `aaren_of`.

    It is another function, to be trained or fine-tuned, in a state that does not grow.

    **Arguments:** model: a `LanguageModel` or `SequenceModel`, or any other with `blocks`; key: of the fresh query tokens.

    **Raises:** `InputError` where it has no layer of softmax attention.

        >>> import jax
        >>> from dualform import models
        >>> sizes = dict(vocabulary=5, d=8, layers=2, heads=2, kv_heads=1, hidden=8, context=64)
        >>> model = models.with_aaren(models.llama(key=jax.random.key(0), **sizes), key=jax.random.key(1))
        >>> logits, state = model(jax.numpy.arange(5))
        >>> [part.shape for part in state[0]]
        [(2,), (2,), (2, 4)]
    """
    blocks = getattr(model, "blocks", ())
    attends = [i for i, block in enumerate(blocks) if isinstance(block.mixer, SoftmaxAttention)]
    require(len(attends) >= 1, f"this {type(model).__name__} has no block of softmax attention to replace.")
    mixers = lambda m: [m.blocks[i].mixer for i in attends]
    keys = jr.split(key, len(attends))
    return eqx.tree_at(mixers, model, [aaren_of(mixer, key=k) for mixer, k in zip(mixers(model), keys, strict=True)])


def aaren_of(attention: SoftmaxAttention, *, key: Array) -> Aaren:
    """Aaren with an attention's keys, values and readout, and its query of one fresh token, W_q z + b_q with z ~ N(0, 1).

    Keys and values of grouped heads are there once for each head. Keys are not turned: a query that is the same at all places
    has none of its own, and the window goes, since what is summed up cannot be forgotten. The bias of the keys changes no
    weight, and that of the values goes through to the output, since weights sum to 1.
    """
    a, each = attention, len(attention.w_q) // len(attention.w_k)
    token, wide = jr.normal(key, (a.d_in,), a.w_q.dtype), accumulator(a.w_q.dtype)
    query = project(token, a.w_q.reshape(-1, a.d_in)).reshape(a.w_q.shape[:2])
    query = query if a.b_q is None else query + a.b_q.astype(query.dtype)
    b_o = None if a.b_o is None else a.b_o.astype(wide)
    if a.b_v is not None:
        through = project(jnp.repeat(a.b_v, each, axis=0).reshape(-1), a.w_o)
        b_o = through if b_o is None else b_o + through
    return Aaren(
        query=query.astype(a.w_q.dtype),
        w_k=jnp.repeat(a.w_k, each, axis=0),
        w_v=jnp.repeat(a.w_v, each, axis=0),
        w_o=a.w_o,
        b_o=None if b_o is None else b_o.astype(a.w_o.dtype),
    )
