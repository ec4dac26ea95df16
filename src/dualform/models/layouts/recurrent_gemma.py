"""RecurrentGemma in the layout of transformers."""

from collections.abc import Collection

import ml_dtypes
import numpy as np

from dualform.mixers import RGLRU, AbstractMixer, GriffinRecurrent, SoftmaxAttention
from dualform.models.block import Block
from dualform.models.language_model import LanguageModel
from dualform.models.layouts.tensors import Config, Tensors, divided, head
from dualform.models.mlp import GatedMLP
from dualform.models.norm import RMSNorm

KIND, MODEL_TYPES = "RecurrentGemma", ("recurrent_gemma",)
KINDS = ("recurrent", "recurrent", "attention")


def recognised(names: Collection[str]) -> bool:
    """Whether these are a RecurrentGemma's tensors."""
    return "model.layers.0.temporal_pre_norm.weight" in names


def build(tensors: Tensors, config: Config) -> LanguageModel:
    """The model of these tensors.

    **Raises:** `FileError` where they, or the config, are not as they should be.
    """
    config.must_be("hidden_activation", "gelu_pytorch_tanh")
    config.must_be("attention_bias", False)
    inner = tensors.under("model.")
    vocabulary, d = inner.shape("embed_tokens.weight", 2)
    config.agrees("vocab_size", vocabulary)
    config.agrees("hidden_size", d)
    kinds, epsilon = config.fields.get("block_types") or KINDS, config.number("rms_norm_eps", 1e-6)
    if not isinstance(kinds, list | tuple) or not kinds or any(kind not in KINDS for kind in kinds):
        raise config.wrong("block_types", 'a list of "recurrent" and "attention"')
    norm = lambda part, name: RMSNorm(part.take(name, d), epsilon, plus_one=True)
    embedding, blocks = inner.take("embed_tokens.weight", vocabulary, d), []
    for i in range(inner.count("layers.", config, "num_hidden_layers")):
        layer = inner.under(f"layers.{i}.")
        mixer = (_attention if kinds[i % len(kinds)] == "attention" else _recurrent)(
            layer.under("temporal_block."), config, d
        )
        norms = norm(layer, "temporal_pre_norm.weight"), norm(layer, "channel_pre_norm.weight")
        blocks.append(Block(norms[0], mixer, norms[1], _mlp(layer.under("mlp_block."), config, d)))
    softcap = None if "logits_soft_cap" in config.fields and not config.fields["logits_soft_cap"] else 30.0
    return LanguageModel(
        embedding,
        tuple(blocks),
        norm(inner, "final_norm.weight"),
        head(tensors, config, embedding, True),
        scale=float(np.asarray(d**0.5, ml_dtypes.bfloat16)),  # transformers keeps it in bfloat16
        softcap=softcap and config.number("logits_soft_cap", softcap),
    )


def _recurrent(part: Tensors, config: Config, d: int) -> AbstractMixer:
    """Gates' blocks have their columns first."""
    heads, block, _ = part.shape("rg_lru.input_gate_weight", 3)
    _, _, width = part.shape("conv_1d.weight", 3)
    n = heads * block
    config.agrees("lru_width", n)
    config.agrees("num_attention_heads", heads)
    config.agrees("conv1d_width", width)
    gate = lambda name: part.take(f"rg_lru.{name}_gate_weight", heads, block, block).transpose(0, 2, 1)
    bias = lambda name: part.take(f"rg_lru.{name}_gate_bias", heads, block)
    linear = lambda name, *shape: (part.take(f"{name}.weight", *shape), part.take(f"{name}.bias", shape[0]))
    recurrent_param = part.take("rg_lru.recurrent_param", n)
    core = RGLRU(gate("recurrent"), gate("input"), bias("recurrent"), bias("input"), recurrent_param)
    kernel, b_conv = part.take("conv_1d.weight", n, 1, width)[:, 0].T, part.take("conv_1d.bias", n)
    y, x, o = linear("linear_y", n, d), linear("linear_x", n, d), linear("linear_out", d, n)
    return GriffinRecurrent(*y, *x, kernel, b_conv, core, *o)


def _attention(part: Tensors, config: Config, d: int) -> AbstractMixer:
    """Half of the channels are turned, over the last `attention_window_size` tokens."""
    heads = config.needed("num_attention_heads", KIND)
    kv_heads = config.integer("num_key_value_heads", heads)
    width = divided(part, "a width", d, heads)
    config.agrees("head_dim", width)
    rope = config.fields.get("rope_parameters") or {}
    if not isinstance(rope, dict) or rope.get("rope_type", "default") != "default":
        raise config.wrong("rope_parameters", 'those of rope_type "default"')
    rope = Config(config.fields | rope, config.where)
    rotary = width * rope.number("partial_rotary_factor", 0.5)
    into = lambda name, count: part.take(f"{name}.weight", count * width, d).reshape(count, width, d)
    return SoftmaxAttention(
        into("q_proj", heads),
        into("k_proj", kv_heads),
        into("v_proj", kv_heads),
        part.take("o_proj.weight", d, heads * width),
        part.take("o_proj.bias", d),
        window=config.integer("attention_window_size", 2048),
        rotary=int(rotary),
        base=rope.number("rope_theta", 10_000.0),
    )


def _mlp(part: Tensors, config: Config, d: int) -> GatedMLP:
    """The config counts gate and up together."""
    n, _ = part.shape("up_proj.weight", 2)
    config.agrees("intermediate_size", 2 * n)
    weights = (
        part.take("gate_proj.weight", n, d),
        part.take("up_proj.weight", n, d),
        part.take("down_proj.weight", d, n),
    )
    biases = part.take("gate_proj.bias", n), part.take("up_proj.bias", n), part.take("down_proj.bias", d)
    return GatedMLP(*weights, *biases, "gelu_tanh")
