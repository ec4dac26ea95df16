"""Llama in the layout of transformers, and its kin of the same blocks: Mistral, Qwen2, SmolLM and SmolLM2."""

from collections.abc import Collection

import numpy as np

from dualform.checkpoints.layouts.config import (
    COUNT,
    EPSILON,
    FLAG,
    NUMBER,
    Config,
    Key,
    fixed,
    ignored,
    optional,
    read,
    texts,
)
from dualform.checkpoints.layouts.keys import SIZES, check_rotary, form, rotary, tied
from dualform.checkpoints.layouts.tensors import Tensors, divided, head, placed
from dualform.errors import FileError
from dualform.mixers import SoftmaxAttention
from dualform.models.block import Block
from dualform.models.language_model import LanguageModel
from dualform.models.mlp import GatedMLP
from dualform.models.norm import RMSNorm

KIND, PREFIX = "Llama", "model."
FULL, SLIDING = "full_attention", "sliding_attention"


def _keys(context: int) -> tuple[Key, ...]:
    """What all three may say; context: its tokens, where they are not said."""
    return (
        *SIZES,
        *rotary(1.0),
        tied(False),
        fixed("hidden_act", "silu", "swish"),
        read("intermediate_size", COUNT),
        read("num_attention_heads", COUNT),
        read("num_key_value_heads", optional(COUNT)),
        read("rms_norm_eps", EPSILON, 1e-6),
        read("max_position_embeddings", COUNT, context),
        *ignored("an older word for the context, which the library does not read", "max_sequence_length"),
    )


FORMS = (
    form(
        "transformers",
        "llama",
        ("LlamaForCausalLM", "LlamaModel"),
        *_keys(2048),
        read("head_dim", optional(COUNT)),
        read("attention_bias", FLAG, False),
        read("mlp_bias", FLAG, False),
        fixed("rope_interleaved", False),
        *ignored("how pretraining was split among machines: the same numbers", "pretraining_tp"),
        *ignored("names of the file, its maker and its library", "is_llama_config"),
    ),
    form(
        "transformers",
        "mistral",
        ("MistralForCausalLM", "MistralModel"),
        *_keys(131_072),
        read("head_dim", optional(COUNT)),
        read("sliding_window", optional(COUNT), 4096),
        fixed("attention_bias", False),
        fixed("mlp_bias", False),
    ),
    form(
        "transformers",
        "qwen2",
        ("Qwen2ForCausalLM", "Qwen2Model"),
        *_keys(32_768),
        read("use_sliding_window", FLAG, False),
        read("sliding_window", optional(COUNT), 4096),
        read("max_window_layers", NUMBER, 28),
        read("layer_types", optional(texts(FULL, SLIDING))),
        fixed("attention_bias", True),
        fixed("mlp_bias", False),
        fixed("use_mrope", False),
    ),
)


def recognised(names: Collection[str]) -> bool:
    """Whether these are a Llama's tensors, their prefix left out."""
    return "layers.0.self_attn.q_proj.weight" in names and "layers.0.mlp.gate_proj.weight" in names


def build(tensors: Tensors, config: Config) -> LanguageModel:
    """The model of these tensors; its attention reads as many tokens as the config's context, or those of a sliding window.

    **Raises:** `FileError` where they, or the config, are not as they should be.
    """
    check_rotary(config)
    inner = tensors.base(PREFIX)
    vocabulary, d = inner.shape("embed_tokens.weight", 2)
    config.agrees("vocab_size", vocabulary)
    config.agrees("hidden_size", d)
    epsilon = config["rms_norm_eps"]
    norm = lambda part, name: RMSNorm(part.take(f"{name}.weight", d), epsilon)
    embedding, blocks = placed(inner.take("embed_tokens.weight", vocabulary, d)), []
    reads = _reads(config, inner.count("layers.", config, "num_hidden_layers"))
    for i, (window, context) in enumerate(reads):
        layer = inner.under(f"layers.{i}.")
        norms = norm(layer, "input_layernorm"), norm(layer, "post_attention_layernorm")
        mixer = _attention(layer.under("self_attn."), config, d, window, context)
        blocks.append(Block(norms[0], mixer, norms[1], _mlp(layer.under("mlp."), config, d)))
    check_frequencies(inner, "rotary_emb.inv_freq", blocks[0].mixer.rotary, config["rope_theta"])
    return LanguageModel(embedding, tuple(blocks), norm(inner, "norm"), head(tensors, config, embedding))


def _reads(config: Config, layers: int) -> list[tuple[int | None, int | None]]:
    """Of each layer, its window or its context: a window has no end."""
    context = None, config["max_position_embeddings"]
    sliding = config["sliding_window"] if config.knows("sliding_window") else None
    if config.knows("use_sliding_window"):
        sliding = sliding if config["use_sliding_window"] else None
        kinds = config["layer_types"] or [SLIDING if i >= config["max_window_layers"] else FULL for i in range(layers)]
        if len(kinds) != layers or (sliding is None and config["layer_types"] and SLIDING in kinds):
            raise config.wrong("layer_types", f"{layers} layers, of which none slides without a sliding window")
    else:
        kinds = [SLIDING] * layers
    slides = context if sliding is None else (sliding, None)
    return [slides if kind == SLIDING else context for kind in kinds]


def _attention(part: Tensors, config: Config, d: int, window: int | None, context: int | None) -> SoftmaxAttention:
    """All channels of a head are turned, its two halves against each other."""
    rows, columns = part.shape("k_proj.weight", 2)[0], part.shape("o_proj.weight", 2)[1]
    heads = config.needed("num_attention_heads")
    width = config["head_dim"] if config.knows("head_dim") else None
    width = divided(part, "the heads' width", columns, heads) if width is None else width
    kv_heads = config["num_key_value_heads"] or rows // width
    if kv_heads * width != rows or heads * width != columns:
        config.agrees("num_key_value_heads", rows // width)
        if config.knows("head_dim"):
            config.agrees("head_dim", columns // heads)
        raise config.wrong("num_attention_heads", f"one that divides the {columns} columns of o_proj")
    biased, whole = config["attention_bias"], config.form.model_type != "qwen2"
    into = lambda name, count: part.take(f"{name}.weight", count * width, d).reshape(count, width, d)
    bias = lambda name, count: part.take(f"{name}.bias", count * width).reshape(count, width) if biased else None
    check_frequencies(part, "rotary_emb.inv_freq", width, config["rope_theta"])
    return SoftmaxAttention(
        w_q=into("q_proj", heads),
        w_k=into("k_proj", kv_heads),
        w_v=into("v_proj", kv_heads),
        w_o=part.take("o_proj.weight", d, columns),
        b_o=part.take_or("o_proj.bias", biased and whole, d),
        window=window,
        context=context,
        rotary=width,
        base=config["rope_theta"],
        b_q=bias("q_proj", heads),
        b_k=bias("k_proj", kv_heads),
        b_v=bias("v_proj", kv_heads),
    )


def check_frequencies(part: Tensors, name: str, rotary: int, base: float) -> None:
    """Take the angles of neighbouring places, base^(-2 i / rotary), which older files store, and hold them to the config's.

    **Raises:** `FileError` where they are others: half precision and its rounding are let through.
    """
    if name not in part:
        return
    expected = base ** (-np.arange(0, rotary, 2) / rotary)
    found = part.take(name, *expected.shape).astype(float)
    if not np.allclose(found, expected, rtol=1e-2, atol=1e-7):
        raise FileError(
            f"{name} in {part.where} is not what the config's rope_theta of {base:g} gives: the rotary angles are scaled, or the "
            "config is another model's. Scaled angles cannot be read here."
        )


def _mlp(part: Tensors, config: Config, d: int) -> GatedMLP:
    """Gate, up and down, with biases where the config says so."""
    n, _ = part.shape("gate_proj.weight", 2)
    config.agrees("intermediate_size", n)
    weights = (
        part.take("gate_proj.weight", n, d),
        part.take("up_proj.weight", n, d),
        part.take("down_proj.weight", d, n),
    )
    bias = lambda name, rows: part.take_or(f"{name}.bias", config["mlp_bias"], rows)
    return GatedMLP(*weights, bias("gate_proj", n), bias("up_proj", n), bias("down_proj", d))
