"""Language models of linear attention and its kin, in the sizes of flash-linear-attention.

Every function takes sizes as keywords; the defaults are those of the model of 1.3 billion parameters. `std` is that of the
fresh weights, as the code draws them; None gives variance 1 / fan-in.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
from jaxtyping import Array

from dualform.mixers import GLA, GSA, HGRN, HGRN2, AbstractMixer, DeltaRule, RetNet
from dualform.mixers.fresh import fan_in
from dualform.mixers.heads import split_width
from dualform.mixers.retnet import retention
from dualform.models.block import Block
from dualform.models.language_model import LanguageModel
from dualform.models.norm import RMSNorm

DRAWN = ("w_", "c_", "a_1", "a_2", "embedding", "head")
"""How the names of matrices begin that flash-linear-attention draws from one normal distribution."""


def swiglu_width(d: int, ratio: int = 4) -> int:
    """Hidden units of a SwiGLU of flash-linear-attention's models: 2/3 ratio d, up to the next multiple of 256."""
    return 256 * -(-int(d * ratio * 2 / 3) // 256)


def redrawn(model: LanguageModel, *, key: Array, std: float) -> LanguageModel:
    """Every projection, kernel and embedding drawn anew from N(0, std^2); norms, biases and decays stay."""
    leaves, tree = jtu.tree_flatten_with_path(model)
    name = lambda path: str(getattr(path[-1], "name", ""))
    keys = jr.split(key, len(leaves))
    draw = lambda path, leaf, key: (
        std * jr.normal(key, leaf.shape, leaf.dtype) if leaf.ndim >= 2 and name(path).startswith(DRAWN) else leaf
    )
    return tree.unflatten([draw(path, leaf, key) for (path, leaf), key in zip(leaves, keys, strict=True)])


def _linear_model(
    mixer: Callable[[Array], AbstractMixer],
    *,
    vocabulary: int,
    layers: int,
    hidden: int,
    std: float | None,
    key: Array,
    dtype: Any,
    bounds: Array | None = None,
) -> LanguageModel:
    """Blocks of a mixer and a SwiGLU, RMS norms, an untied head: what flash-linear-attention's models share."""
    keys = jr.split(key, layers + 2)
    made = [(mixer(k), kb) for k, kb in (jr.split(k) for k in keys[2:])]
    blocks = tuple(Block.make(m, key=k, mlp="swiglu", hidden=hidden, dtype=dtype) for m, k in made)
    norm = RMSNorm.make(blocks[0].d_in, dtype=dtype)
    model = LanguageModel.make(blocks, vocabulary, key=keys[0], norm=norm, dtype=dtype, bounds=bounds)
    return model if std is None else redrawn(model, key=keys[1], std=std)


def gla(
    *,
    key: Array,
    vocabulary: int = 32_000,
    d: int = 2048,
    layers: int = 24,
    heads: int = 4,
    hidden: int | None = None,
    std: float | None = 0.02,
    dtype=None,
) -> LanguageModel:
    """Gated linear attention and SwiGLU.

    **Arguments:** std: of the fresh weights, as flash-linear-attention draws them (the paper does not say); None for
    variance 1 / fan-in.

    **Source:** Yang et al. 2023 (arXiv 2312.06635), with the sizes of flash-linear-attention's models.
    """
    mixer = lambda key: GLA.make(d, key=key, heads=heads, dtype=dtype)
    hidden = hidden or swiglu_width(d)
    return _linear_model(mixer, vocabulary=vocabulary, layers=layers, hidden=hidden, std=std, key=key, dtype=dtype)


def hgrn(
    *,
    key: Array,
    vocabulary: int = 32_000,
    d: int = 2048,
    layers: int = 24,
    hidden: int | None = None,
    std: float | None = 0.02,
    dtype=None,
) -> LanguageModel:
    """HGRN (real, without biases) and SwiGLU; the lower bounds of all layers' decays come from one table, at 0 first.

    **Source:** Qin et al. 2023 (arXiv 2311.04823), in the form and sizes of flash-linear-attention. The authors' own code
    has biases, a layer norm and a SiLU GLU of another width.
    """

    def mixer(key: Array) -> AbstractMixer:
        keys, ones = jr.split(key, 4), jnp.ones(d, dtype or float)
        c, f, g, o = (jr.normal(key, (d, d), dtype or float) / d**0.5 for key in keys)
        return HGRN(w_c=c, w_f=f, w_g=g, w_o=o, norm_weight=ones, gamma=jnp.zeros_like(ones))

    hidden = hidden or swiglu_width(d)
    bounds = jnp.zeros((layers, d), dtype or float)
    return _linear_model(
        mixer, vocabulary=vocabulary, layers=layers, hidden=hidden, std=std, key=key, dtype=dtype, bounds=bounds
    )


def hgrn2(
    *,
    key: Array,
    vocabulary: int = 32_000,
    d: int = 2048,
    layers: int = 24,
    heads: int = 16,
    hidden: int | None = None,
    std: float | None = 0.02,
    dtype=None,
) -> LanguageModel:
    """HGRN2 with heads of 128 and SwiGLU; the lower bounds of all layers' decays come from one table, at 0 first.

    **Source:** Qin et al. 2024 (arXiv 2404.07904), in the sizes of flash-linear-attention, whose norm goes over all heads.
    """
    mixer = lambda key: HGRN2.make(d, key=key, heads=heads, gamma=0.0, norm_over_all=True, dtype=dtype)
    hidden = hidden or swiglu_width(d)
    bounds = jnp.zeros((layers, d), dtype or float)
    return _linear_model(
        mixer, vocabulary=vocabulary, layers=layers, hidden=hidden, std=std, key=key, dtype=dtype, bounds=bounds
    )


def retnet(
    *,
    key: Array,
    vocabulary: int = 32_000,
    d: int = 2048,
    layers: int = 24,
    heads: int = 8,
    hidden: int | None = None,
    std: float | None = 0.02,
    dtype=None,
) -> LanguageModel:
    """Multi-scale retention with values of 2 d, and a SwiGLU of 4/3 d hidden units.

    **Source:** Sun et al. 2023 (arXiv 2307.08621), in the form and sizes of flash-linear-attention; the paper has a GELU MLP
    of 2 d hidden units and a layer norm.
    """
    d_k, d_v = split_width(d, heads), 2 * split_width(d, heads)

    def mixer(key: Array) -> AbstractMixer:
        keys, real = jr.split(key, 5), dtype or float
        q, k, v, g = (
            fan_in(k, heads, rows, d, dtype=dtype) for k, rows in zip(keys, (d_k, d_k, d_v, d_v), strict=False)
        )
        w_o = jr.normal(keys[4], (d, 2 * d), real) / (2 * d) ** 0.5
        return RetNet(w_q=q, w_k=k, w_v=v, w_g=g, gamma=retention(heads, real), norm=jnp.ones(d_v, real), w_o=w_o)

    hidden = hidden or swiglu_width(d, 2)
    return _linear_model(mixer, vocabulary=vocabulary, layers=layers, hidden=hidden, std=std, key=key, dtype=dtype)


def delta_net(
    *,
    key: Array,
    vocabulary: int = 32_000,
    d: int = 2048,
    layers: int = 24,
    heads: int = 16,
    hidden: int | None = None,
    std: float | None = 0.02,
    dtype=None,
) -> LanguageModel:
    """The delta rule with short convolutions and SwiGLU.

    **Source:** Yang et al. 2024 (arXiv 2406.06484), in the sizes of flash-linear-attention.
    """
    mixer = lambda key: DeltaRule.make(d, key=key, heads=heads, dtype=dtype)
    hidden = hidden or swiglu_width(d)
    return _linear_model(mixer, vocabulary=vocabulary, layers=layers, hidden=hidden, std=std, key=key, dtype=dtype)


def gated_delta_net(
    *,
    key: Array,
    vocabulary: int = 32_000,
    d: int = 2048,
    layers: int = 21,
    heads: int = 6,
    d_k: int = 256,
    hidden: int | None = None,
    std: float | None = 0.02,
    dtype=None,
) -> LanguageModel:
    """The gated delta rule with short convolutions, keys of d_k and values of 2 d_k for each head, and SwiGLU.

    **Source:** Yang et al. 2025 (arXiv 2412.06464), in the sizes of flash-linear-attention, which draws exp(a_log) uniformly
    from (0, 16); here from (1, 16).
    """
    d_v, real = 2 * d_k, dtype or float

    def mixer(key: Array) -> AbstractMixer:
        keys, gated = jr.split(key, 9), DeltaRule.make(heads, key=key, heads=heads, gated=True, dtype=dtype)
        q, k, v, g = (
            fan_in(k, heads, rows, d, dtype=dtype) for k, rows in zip(keys, (d_k, d_k, d_v, d_v), strict=False)
        )
        shapes = ((4, heads * d_k), (4, heads * d_k), (4, heads * d_v))
        c_q, c_k, c_v = (jr.normal(k, shape, real) / 2 for k, shape in zip(keys[4:], shapes, strict=False))
        w_b, w_a = jr.normal(keys[7], (2, heads, d), real) / d**0.5
        w_o = jr.normal(keys[8], (d, heads * d_v), real) / (heads * d_v) ** 0.5
        norm = jnp.ones(d_v, real)
        return DeltaRule(
            w_q=q,
            w_k=k,
            w_v=v,
            c_q=c_q,
            c_k=c_k,
            c_v=c_v,
            w_b=w_b,
            norm=norm,
            w_o=w_o,
            w_a=w_a,
            a_log=gated.a_log,
            a_bias=gated.a_bias,
            w_g=g,
        )

    hidden = hidden or swiglu_width(d)
    return _linear_model(mixer, vocabulary=vocabulary, layers=layers, hidden=hidden, std=std, key=key, dtype=dtype)


def gsa(
    *,
    key: Array,
    vocabulary: int = 32_000,
    d: int = 2048,
    layers: int = 24,
    heads: int = 4,
    slots: int = 64,
    hidden: int | None = None,
    std: float | None = 0.02,
    dtype=None,
) -> LanguageModel:
    """Gated slot attention and SwiGLU.

    **Source:** Zhang et al. 2024 (arXiv 2409.07146), in the sizes of flash-linear-attention, whose norm goes over all heads.
    """
    mixer = lambda key: GSA.make(d, key=key, heads=heads, slots=slots, norm_over_all=True, dtype=dtype)
    hidden = hidden or swiglu_width(d)
    return _linear_model(mixer, vocabulary=vocabulary, layers=layers, hidden=hidden, std=std, key=key, dtype=dtype)
