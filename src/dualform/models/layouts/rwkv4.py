"""RWKV-4 in the layout of transformers. rwkv.cpp's own format is read by `models.rwkv4_file`."""

from collections.abc import Collection

from dualform.mixers import RWKV4ChannelMixing, RWKV4TimeMixing
from dualform.models.block import Block
from dualform.models.language_model import LanguageModel
from dualform.models.layouts.tensors import Config, Tensors
from dualform.models.norm import LayerNorm

KIND, MODEL_TYPES = "RWKV-4", ("rwkv",)


def recognised(names: Collection[str]) -> bool:
    """Whether these are an RWKV-4's tensors."""
    return "rwkv.blocks.0.attention.time_first" in names


def build(tensors: Tensors, config: Config) -> LanguageModel:
    """The model of these tensors.

    transformers halves the residual stream every `rescale_every` layers, which is for half precision alone: up to the
    epsilon of the norms behind it nothing changes, and here it is not done.

    **Raises:** `FileError` where they, or the config, are not as they should be.
    """
    config.must_be("tie_word_embeddings", False)
    whole = tensors.under("rwkv.")
    vocabulary, d = whole.shape("embeddings.weight", 2)
    config.agrees("vocab_size", vocabulary)
    config.agrees("hidden_size", d)
    epsilon = config.number("layer_norm_epsilon", 1e-5)

    def norm(part: Tensors, name: str, epsilon: float) -> LayerNorm:
        return LayerNorm(part.take(f"{name}.weight", d), part.take(f"{name}.bias", d), epsilon)

    blocks = []
    for i in range(whole.count("blocks.", config, "num_hidden_layers")):
        layer = whole.under(f"blocks.{i}.")
        blocks.append(Block(norm(layer, "ln1", epsilon), _time(layer.under("attention."), config, d)))
        blocks.append(Block(norm(layer, "ln2", epsilon), _channel(layer.under("feed_forward."), config, d)))
    return LanguageModel(
        whole.take("embeddings.weight", vocabulary, d),
        tuple(blocks),
        norm(whole, "ln_out", 1e-5),  # transformers gives it no epsilon of the config's
        tensors.take("head.weight", vocabulary, d),
        embedding_norm=norm(whole, "blocks.0.pre_ln", epsilon),
    )


def _mix(part: Tensors, name: str, d: int):
    return part.take(f"time_mix_{name}", 1, 1, d).reshape(d)


def _time(part: Tensors, config: Config, d: int) -> RWKV4TimeMixing:
    """time_decay is the logarithm of the rate."""
    (n,) = part.shape("time_decay", 1)
    config.agrees("attention_hidden_size", n)
    mu_k, mu_v, mu_r = (_mix(part, name, d) for name in ("key", "value", "receptance"))
    w_k, w_v, w_r = (part.take(f"{name}.weight", n, d) for name in ("key", "value", "receptance"))
    log_rate, u = part.take("time_decay", n), part.take("time_first", n)
    return RWKV4TimeMixing(mu_k, mu_v, mu_r, w_k, w_v, w_r, log_rate, u, part.take("output.weight", d, n))


def _channel(part: Tensors, config: Config, d: int) -> RWKV4ChannelMixing:
    n, _ = part.shape("key.weight", 2)
    config.agrees("intermediate_size", n)
    mixes = _mix(part, "key", d), _mix(part, "receptance", d)
    w_k, w_r = part.take("key.weight", n, d), part.take("receptance.weight", d, d)
    return RWKV4ChannelMixing(*mixes, w_k, w_r, part.take("value.weight", d, n))
