"""Language models of RWKV-4: blocks in pairs, time mixing then channel mixing, above a normed embedding."""

import jax
import jax.random as jr
from jaxtyping import Array

from dualform.errors import require
from dualform.mixers import RWKV4ChannelMixing, RWKV4TimeMixing
from dualform.models.block import Block
from dualform.models.language_model import LanguageModel
from dualform.models.norm import LayerNorm


def rwkv4(
    *, key: Array, vocabulary: int = 50_277, d: int = 768, layers: int = 12, hidden: int | None = None, dtype=None
) -> LanguageModel:
    """Pairs of blocks with layer norms, a norm of the embedding, and a head of its own.

    Initialised as published: most matrices 0, so that every block is the identity at first; a tiny embedding.

    **Arguments:** layers: pairs of blocks; hidden: units of channel mixing, 4 d if not given.

    **Source:** Peng et al. 2023 (arXiv 2305.13048), with the sizes of BlinkDL/rwkv-4-pile-169m. Oracle: trained weights, with
    the logits that rwkv.cpp gives for them (`read_rwkv4`).
    """
    require(
        vocabulary >= 1 and d >= 1 and layers >= 1,
        f"vocabulary {vocabulary}, d {d} and layers {layers} must each be at least 1.",
    )
    keys, blocks = jr.split(key, 2 + 2 * layers), []
    for i in range(layers):
        given = {"layer": i, "layers": layers, "zeros": True, "dtype": dtype}
        time = RWKV4TimeMixing.make(d, key=keys[2 + 2 * i], **given)
        channel = RWKV4ChannelMixing.make(d, key=keys[3 + 2 * i], hidden=hidden, **given)
        blocks += [Block(LayerNorm.make(d, dtype=dtype), mixer) for mixer in (time, channel)]
    orthogonal = lambda key, gain: jax.nn.initializers.orthogonal(gain)(key, (vocabulary, d), float)
    embedding = orthogonal(keys[0], 1e-4 * max(vocabulary, d) ** 0.5)
    head = orthogonal(keys[1], 0.5 * max(vocabulary / d, 1.0) ** 0.5)
    first, last = (LayerNorm.make(d, dtype=dtype) for _ in range(2))
    cast = lambda a: a.astype(dtype or float)
    return LanguageModel(cast(embedding), tuple(blocks), last, cast(head), embedding_norm=first)
