"""Llama in the layout of transformers, and its kin of the same blocks: Mistral, Qwen2, SmolLM and SmolLM2."""

from collections.abc import Collection

from dualform.mixers import SoftmaxAttention
from dualform.models.block import Block
from dualform.models.language_model import LanguageModel
from dualform.models.layouts.tensors import Config, Tensors, divided, head
from dualform.models.mlp import GatedMLP
from dualform.models.norm import RMSNorm

KIND, MODEL_TYPES = "Llama", ("llama", "mistral", "qwen2")
CONTEXTS = {"llama": 2048, "mistral": 131_072, "qwen2": 32_768}
"""Tokens of context where a config does not say them: transformers' defaults."""


def recognised(names: Collection[str]) -> bool:
    """Whether these are a Llama's tensors."""
    return "model.layers.0.self_attn.q_proj.weight" in names and "model.layers.0.mlp.gate_proj.weight" in names


def build(tensors: Tensors, config: Config) -> LanguageModel:
    """The model of these tensors; its attention sees as many tokens as the config's context, or as its sliding window.

    **Raises:** `FileError` where they, or the config, are not as they should be.
    """
    config.must_be("hidden_act", "silu")
    config.must_be("rope_scaling", None)
    inner = tensors.under("model.")
    vocabulary, d = inner.shape("embed_tokens.weight", 2)
    config.agrees("vocab_size", vocabulary)
    config.agrees("hidden_size", d)
    epsilon, window = config.number("rms_norm_eps", 1e-6), _window(config)
    norm = lambda part, name: RMSNorm(part.take(f"{name}.weight", d), epsilon)
    embedding, blocks = inner.take("embed_tokens.weight", vocabulary, d), []
    for i in range(inner.count("layers.", config, "num_hidden_layers")):
        layer = inner.under(f"layers.{i}.")
        norms = norm(layer, "input_layernorm"), norm(layer, "post_attention_layernorm")
        mixer = _attention(layer.under("self_attn."), config, d, window)
        blocks.append(Block(norms[0], mixer, norms[1], _mlp(layer.under("mlp."), config, d)))
    return LanguageModel(embedding, tuple(blocks), norm(inner, "norm"), head(tensors, config, embedding, False))


def _window(config: Config) -> int:
    """How many tokens each one sees."""
    kind = config.text("model_type", "llama")
    context = config.integer("max_position_embeddings", CONTEXTS.get(kind, 2048))
    if kind == "qwen2":  # with a window, its first layers see all and the others do not
        config.must_be("use_sliding_window", False)
    if kind != "mistral":
        return context
    sliding = 4096 if "sliding_window" not in config.fields else config.fields["sliding_window"]
    return context if sliding is None else min(context, config.integer("sliding_window", 4096))


def _attention(part: Tensors, config: Config, d: int, window: int) -> SoftmaxAttention:
    """All channels of a head are turned, its two halves against each other."""
    rows, columns = part.shape("k_proj.weight", 2)[0], part.shape("o_proj.weight", 2)[1]
    heads = config.needed("num_attention_heads", KIND)
    width = config.integer("head_dim", divided(part, "the heads' width", columns, heads))
    kv_heads = config.integer("num_key_value_heads", heads)
    if kv_heads * width != rows or heads * width != columns:
        config.agrees("num_key_value_heads", rows // max(width, 1))
        config.agrees("head_dim", columns // max(heads, 1))
        raise config.wrong("num_attention_heads", f"one that divides the {columns} columns of o_proj")
    rope = config.fields.get("rope_parameters") or {}
    if not isinstance(rope, dict) or rope.get("rope_type", "default") != "default":
        raise config.wrong("rope_parameters", 'those of rope_type "default"')
    rope = Config(config.fields | rope, config.where)
    into = lambda name, count: part.take(f"{name}.weight", count * width, d).reshape(count, width, d)
    bias = lambda name, count: (
        part.take(f"{name}.bias", count * width).reshape(count, width) if f"{name}.bias" in part else None
    )
    return SoftmaxAttention(
        into("q_proj", heads),
        into("k_proj", kv_heads),
        into("v_proj", kv_heads),
        part.take("o_proj.weight", d, columns),
        part.take_or("o_proj.bias", "o_proj.bias" in part, d),
        window=window,
        rotary=width,
        base=rope.number("rope_theta", 10_000.0),
        b_q=bias("q_proj", heads),
        b_k=bias("k_proj", kv_heads),
        b_v=bias("v_proj", kv_heads),
    )


def _mlp(part: Tensors, config: Config, d: int) -> GatedMLP:
    """Gate, up and down, with biases where the checkpoint has them."""
    n, _ = part.shape("gate_proj.weight", 2)
    config.agrees("intermediate_size", n)
    weights = (
        part.take("gate_proj.weight", n, d),
        part.take("up_proj.weight", n, d),
        part.take("down_proj.weight", d, n),
    )
    bias = lambda name, rows: part.take_or(f"{name}.bias", f"{name}.bias" in part, rows)
    return GatedMLP(*weights, bias("gate_proj", n), bias("up_proj", n), bias("down_proj", d))
