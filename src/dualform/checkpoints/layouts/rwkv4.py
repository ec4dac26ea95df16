"""RWKV-4 in the layout of transformers. rwkv.cpp's own format is read by `models.rwkv4_file`."""

from collections.abc import Collection

from dualform.checkpoints.layouts.config import COUNT, EPSILON, Config, Kind, ignored, optional, read
from dualform.checkpoints.layouts.keys import SIZES, form, tied
from dualform.checkpoints.layouts.tensors import Tensors, head, placed
from dualform.mixers import RWKV4ChannelMixing, RWKV4TimeMixing
from dualform.models.block import Block
from dualform.models.language_model import LanguageModel
from dualform.models.norm import LayerNorm

KIND, PREFIX = "RWKV-4", "rwkv."
EVERY = Kind("a whole number", lambda value: isinstance(value, int) and not isinstance(value, bool))
FORMS = (
    form(
        "transformers",
        "rwkv",
        ("RwkvForCausalLM", "RwkvModel"),
        *SIZES,
        tied(False),
        read("attention_hidden_size", optional(COUNT)),
        read("intermediate_size", optional(COUNT)),
        read("layer_norm_epsilon", EPSILON, 1e-5),
        read("rescale_every", EVERY, 6),
        *ignored("a recurrence reads texts of any length", "context_length", "max_position_embeddings"),
    ),
)


def recognised(names: Collection[str]) -> bool:
    """Whether these are an RWKV-4's tensors, their prefix left out."""
    return "blocks.0.attention.time_first" in names


def build(tensors: Tensors, config: Config) -> LanguageModel:
    """The model of these tensors.

    transformers halves the residual stream, and what is added to it, every `rescale_every` layers, so that half precision does
    not overflow. A norm gives the same of a half, but that its epsilon counts four times as much: so it is done here. The
    authors' code does it in half precision alone; `rescale_every` of 0 gives theirs.

    **Raises:** `FileError` where they, or the config, are not as they should be.
    """
    whole = tensors.base(PREFIX)
    vocabulary, d = whole.shape("embeddings.weight", 2)
    config.agrees("vocab_size", vocabulary)
    config.agrees("hidden_size", d)
    epsilon, every = config["layer_norm_epsilon"], config["rescale_every"]

    def norm(part: Tensors, name: str, epsilon: float) -> LayerNorm:
        return LayerNorm(part.take(f"{name}.weight", d), part.take(f"{name}.bias", d), epsilon)

    halved = lambda epsilon, i: epsilon * 4.0 ** (i // every) if every > 0 else epsilon
    blocks, layers = [], whole.count("blocks.", config, "num_hidden_layers")
    for i in range(layers):
        layer = whole.under(f"blocks.{i}.")
        blocks.append(Block(norm(layer, "ln1", halved(epsilon, i)), _time(layer.under("attention."), config, d)))
        blocks.append(Block(norm(layer, "ln2", halved(epsilon, i)), _channel(layer.under("feed_forward."), config, d)))
    embedding = placed(whole.take("embeddings.weight", vocabulary, d))
    return LanguageModel(
        embedding,
        tuple(blocks),
        norm(whole, "ln_out", halved(1e-5, layers)),  # transformers gives it no epsilon of the config's
        head(tensors, config, embedding, "head.weight"),
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
    return RWKV4TimeMixing(
        mu_k=mu_k,
        mu_v=mu_v,
        mu_r=mu_r,
        w_k=w_k,
        w_v=w_v,
        w_r=w_r,
        log_rate=log_rate,
        u=u,
        w_o=part.take("output.weight", d, n),
    )


def _channel(part: Tensors, config: Config, d: int) -> RWKV4ChannelMixing:
    n, _ = part.shape("key.weight", 2)
    config.agrees("intermediate_size", n)
    return RWKV4ChannelMixing(
        mu_k=_mix(part, "key", d),
        mu_r=_mix(part, "receptance", d),
        w_k=part.take("key.weight", n, d),
        w_r=part.take("receptance.weight", d, d),
        w_v=part.take("value.weight", d, n),
    )
