"""Hawk, Griffin and RecurrentGemma: recurrent blocks, with or without local attention in between."""

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import ml_dtypes
import numpy as np
from jaxtyping import Array

from dualform.errors import require
from dualform.mixers import AbstractMixer, GriffinRecurrent, SoftmaxAttention
from dualform.mixers.fresh import fan_in
from dualform.mixers.heads import split_width
from dualform.models.block import Block
from dualform.models.language_model import LanguageModel
from dualform.models.norm import RMSNorm


def griffin(
    *,
    key: Array,
    vocabulary: int = 256_000,
    d: int = 2560,
    n: int | None = None,
    layers: int = 26,
    heads: int = 10,
    attention_every: int | None = 3,
    window: int = 2049,
    hidden: int | None = None,
    scaled: bool | float = True,
    softcap: float | None = 30.0,
    decays: str = "code",
    dtype=None,
) -> LanguageModel:
    """Two recurrent blocks, then local multi-query attention, and again; each with a GeGLU, all norms with 1 + weight, tied.

    The last matrix of each mixer and MLP starts with variance 2 / (layers fan-in), everything else with 1 / fan-in.

    **Arguments:** n: recurrent units, d if not given; attention_every: 3, or None for Hawk, which has no attention; window:
    tokens that are seen, the present one among them: of a published window of 2048, recurrentgemma's own code sees 2048
    *before* the present one, transformers 2048 with it; hidden: of the MLPs, 3 d if not given; scaled: True for the embedding
    times sqrt(d) in bfloat16 (50.5 for 2560), as both codes have it, False for the embedding as it is, or the factor itself;
    decays: "code" draws sigma(-lam)^2 uniformly from (0.9^2, 0.999^2), as recurrentgemma does; "paper" draws sigma(-lam)^8
    uniformly from (0.9, 0.999), as its Sec. 2.4 says.

    **Source:** De et al. 2024 (arXiv 2402.19427); Botev et al. 2024 (arXiv 2404.07839), whose sizes are the defaults.
    """
    require(decays in ("code", "paper"), f"decays are drawn as in 'code' or as in 'paper'; got {decays!r}.")
    keys, n, real, less = jr.split(key, layers + 1), n or d, dtype or float, (2 / layers) ** 0.5

    def recurrent(key: Array) -> AbstractMixer:
        keys = jr.split(key)
        made = GriffinRecurrent.make(d, key=keys[0], n=n, heads=heads, dtype=dtype)
        if decays == "paper":
            softplus = -jnp.log(jr.uniform(keys[1], (n,), float, 0.9, 0.999)) / 8
            made = eqx.tree_at(lambda m: m.core.lam, made, jnp.log(jnp.expm1(softplus)).astype(real))
        return eqx.tree_at(lambda m: m.w_o, made, replace_fn=lambda w: less * w)

    def attention(key: Array) -> AbstractMixer:
        keys, width = jr.split(key, 4), split_width(d, heads)
        q, k, v = (fan_in(k, each, width, d, dtype=dtype) for k, each in zip(keys, (heads, 1, 1), strict=False))
        w_o = less * jr.normal(keys[3], (d, d), real) / d**0.5
        return SoftmaxAttention(
            w_q=q, w_k=k, w_v=v, w_o=w_o, b_o=jnp.zeros(d, real), window=window, rotary=width // 4 * 2
        )

    def block(i: int) -> Block:
        keys_i = jr.split(keys[i + 1])
        attends = attention_every is not None and i % attention_every == attention_every - 1
        mixer = (attention if attends else recurrent)(keys_i[0])
        made = Block.make(
            mixer, key=keys_i[1], mlp="geglu", hidden=hidden or 3 * d, bias=True, plus_one=True, dtype=dtype
        )
        return eqx.tree_at(lambda b: b.mlp.w_down, made, replace_fn=lambda w: less * w)

    norm = RMSNorm.make(d, plus_one=True, dtype=dtype)
    blocks = tuple(block(i) for i in range(layers))
    scale = float(np.asarray(d**0.5, ml_dtypes.bfloat16)) if scaled is True else float(scaled or 1.0)
    return LanguageModel.make(
        blocks, vocabulary, key=keys[0], norm=norm, tied=True, scale=scale, softcap=softcap, dtype=dtype
    )
