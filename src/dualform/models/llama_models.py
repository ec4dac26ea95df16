"""Llama and its kin: blocks of grouped rotary attention and a SwiGLU, with RMS norms."""

import dataclasses

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array

from dualform.mixers import SoftmaxAttention
from dualform.mixers.heads import split_width
from dualform.models.block import Block
from dualform.models.language_model import LanguageModel
from dualform.models.norm import RMSNorm


def llama(
    *,
    key: Array,
    vocabulary: int = 49_152,
    d: int = 576,
    layers: int = 30,
    heads: int = 9,
    kv_heads: int | None = 3,
    hidden: int = 1536,
    context: int = 8192,
    base: float = 100_000.0,
    biases: bool = False,
    tied: bool = True,
    epsilon: float = 1e-5,
    dtype=None,
) -> LanguageModel:
    """Softmax attention over the whole context, all channels turned, and a SwiGLU, each after an RMS norm.

    Matrices start at N(0, 0.02^2), biases at 0, as in transformers' code.

    **Arguments:** kv_heads: as many as heads if None; context: how many tokens of a text it reads; base: of the rotary angles;
    biases: of queries, keys and values, as in Qwen2; tied: the head is the embedding.

    **Source:** Touvron et al. 2023 (arXiv 2302.13971); the sizes are SmolLM2-135M's (arXiv 2502.02737).
    """
    width, keys = split_width(d, heads), jr.split(key, layers + 2)
    kv_heads = heads if kv_heads is None else kv_heads
    normal = lambda key, *shape: 0.02 * jr.normal(key, shape, dtype or float)
    zeros = lambda count: jnp.zeros((count, width), dtype or float) if biases else None

    def block(key: Array) -> Block:
        keys = jr.split(key, 8)
        mixer = SoftmaxAttention(
            w_q=normal(keys[0], heads, width, d),
            w_k=normal(keys[1], kv_heads, width, d),
            w_v=normal(keys[2], kv_heads, width, d),
            w_o=normal(keys[3], d, d),
            context=context,
            rotary=width,
            base=base,
            b_q=zeros(heads),
            b_k=zeros(kv_heads),
            b_v=zeros(kv_heads),
        )
        made = Block.make(mixer, key=keys[4], mlp="swiglu", hidden=hidden, epsilon=epsilon, dtype=dtype)
        weights = lambda b: (b.mlp.w_gate, b.mlp.w_up, b.mlp.w_down)
        drawn = (normal(keys[5], hidden, d), normal(keys[6], hidden, d), normal(keys[7], d, hidden))
        return eqx.tree_at(weights, made, drawn)

    head = None if tied else normal(keys[1], vocabulary, d)
    blocks = tuple(block(k) for k in keys[2:])
    return LanguageModel(normal(keys[0], vocabulary, d), blocks, RMSNorm.make(d, epsilon=epsilon, dtype=dtype), head)


def with_context(model: LanguageModel, context: int) -> LanguageModel:
    """The model whose attention sees the last `context` tokens alone: up to so many tokens the same, with a state as small.

    Its window slides, whatever the model did behind its own context. A context that is no smaller changes nothing.

    **Raises:** `InputError` for a context below 1.
    """
    attends = lambda m: [block.mixer for block in m.blocks if isinstance(block.mixer, SoftmaxAttention)]
    narrow = lambda mixer: mixer if context >= mixer.bound else dataclasses.replace(mixer, window=context, context=None)
    return eqx.tree_at(attends, model, [narrow(mixer) for mixer in attends(model)])
