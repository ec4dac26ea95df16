"""RecurrentGemma in the layout of transformers."""

from collections.abc import Collection

import ml_dtypes
import numpy as np

from dualform.checkpoints.layouts.config import COUNT, EPSILON, POSITIVE, Config, fixed, ignored, optional, read, texts
from dualform.checkpoints.layouts.keys import SIZES, check_rotary, form, rotary, tied
from dualform.checkpoints.layouts.llama import check_frequencies
from dualform.checkpoints.layouts.tensors import Tensors, divided, head, placed
from dualform.mixers import RGLRU, AbstractMixer, GriffinRecurrent, SoftmaxAttention
from dualform.models.block import Block
from dualform.models.language_model import LanguageModel
from dualform.models.mlp import GatedMLP
from dualform.models.norm import RMSNorm

KIND, PREFIX = "RecurrentGemma", "model."
KINDS = ["recurrent", "recurrent", "attention"]
FORMS = (
    form(
        "transformers",
        "recurrent_gemma",
        ("RecurrentGemmaForCausalLM", "RecurrentGemmaModel"),
        *SIZES,
        *rotary(0.5),
        tied(True),
        read("intermediate_size", COUNT),
        read("num_attention_heads", COUNT),
        read("num_key_value_heads", optional(COUNT)),
        read("head_dim", COUNT),
        read("lru_width", optional(COUNT)),
        read("conv1d_width", COUNT),
        read("attention_window_size", COUNT, 2048, also=("sliding_window",)),
        read("logits_soft_cap", POSITIVE, 30.0),
        read("rms_norm_eps", EPSILON, 1e-6),
        read("block_types", texts("recurrent", "attention"), KINDS),
        fixed("hidden_activation", "gelu_pytorch_tanh"),
        fixed("attention_bias", False),
        *ignored("training and first weights", "w_init_variance_scale", "final_w_init_variance_scale"),
    ),
)


def recognised(names: Collection[str]) -> bool:
    """Whether these are a RecurrentGemma's tensors, their prefix left out."""
    return "layers.0.temporal_pre_norm.weight" in names


def build(tensors: Tensors, config: Config) -> LanguageModel:
    """The model of these tensors.

    **Raises:** `FileError` where they, or the config, are not as they should be.
    """
    check_rotary(config)
    inner = tensors.base(PREFIX)
    vocabulary, d = inner.shape("embed_tokens.weight", 2)
    config.agrees("vocab_size", vocabulary)
    config.agrees("hidden_size", d)
    kinds, epsilon = config["block_types"], config["rms_norm_eps"]
    norm = lambda part, name: RMSNorm(part.take(name, d), epsilon, plus_one=True)
    embedding, blocks = placed(inner.take("embed_tokens.weight", vocabulary, d)), []
    for i in range(inner.count("layers.", config, "num_hidden_layers")):
        layer = inner.under(f"layers.{i}.")
        mixer = (_attention if kinds[i % len(kinds)] == "attention" else _recurrent)(
            layer.under("temporal_block."), config, d
        )
        norms = norm(layer, "temporal_pre_norm.weight"), norm(layer, "channel_pre_norm.weight")
        blocks.append(Block(norms[0], mixer, norms[1], _mlp(layer.under("mlp_block."), config, d)))
    return LanguageModel(
        embedding,
        tuple(blocks),
        norm(inner, "final_norm.weight"),
        head(tensors, config, embedding),
        scale=float(np.asarray(d**0.5, ml_dtypes.bfloat16)),  # transformers keeps it in bfloat16
        softcap=config["logits_soft_cap"],
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
    core = RGLRU(
        w_a=gate("recurrent"), w_x=gate("input"), b_a=bias("recurrent"), b_x=bias("input"), lam=recurrent_param
    )
    (w_y, b_y), (w_x, b_x) = linear("linear_y", n, d), linear("linear_x", n, d)
    w_o, b_o = linear("linear_out", d, n)
    return GriffinRecurrent(
        w_y=w_y,
        b_y=b_y,
        w_x=w_x,
        b_x=b_x,
        kernel=part.take("conv_1d.weight", n, 1, width)[:, 0].T,
        b_conv=part.take("conv_1d.bias", n),
        core=core,
        w_o=w_o,
        b_o=b_o,
    )


def _attention(part: Tensors, config: Config, d: int) -> AbstractMixer:
    """Half of the channels are turned, over the last `attention_window_size` tokens."""
    heads = config.needed("num_attention_heads")
    kv_heads = config["num_key_value_heads"] or heads
    width = divided(part, "a width", d, heads)
    config.agrees("head_dim", width)
    turned = int(width * config["partial_rotary_factor"])
    check_frequencies(part, "rotary_emb.inv_freq", turned, config["rope_theta"])
    into = lambda name, count: part.take(f"{name}.weight", count * width, d).reshape(count, width, d)
    return SoftmaxAttention(
        w_q=into("q_proj", heads),
        w_k=into("k_proj", kv_heads),
        w_v=into("v_proj", kv_heads),
        w_o=part.take("o_proj.weight", d, heads * width),
        b_o=part.take("o_proj.bias", d),
        window=config["attention_window_size"],
        rotary=turned,
        base=config["rope_theta"],
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
