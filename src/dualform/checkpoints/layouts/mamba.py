"""Mamba as transformers, flash-linear-attention and its authors write it: state-spaces' checkpoints, with or without -hf."""

import math
from collections.abc import Collection

import numpy as np

from dualform.checkpoints.layouts.config import COUNT, EPSILON, FLAG, POSITIVE, Config, Key, Kind, fixed, ignored, read
from dualform.checkpoints.layouts.fla import LIBRARY
from dualform.checkpoints.layouts.keys import FUSED, SIZES, form, tied
from dualform.checkpoints.layouts.tensors import Tensors, head, placed
from dualform.mixers import Mamba
from dualform.models.block import Block
from dualform.models.language_model import LanguageModel
from dualform.models.norm import RMSNorm

KIND, PREFIX = "Mamba", "backbone."
AUTHORS = "its authors (mamba_ssm)"
RANK = Kind('a whole number of at least 1, or "auto"', lambda value: value == "auto" or COUNT.fits(value))
START, ROUNDING = "training and first weights", "the dtype of the residual stream, which rounds alone"


def transformers_keys(tied_default: bool) -> tuple[Key, ...]:
    """What transformers' Mamba and Mamba-2 both may say; the authors' own keys stay in files that were converted."""
    return (
        *SIZES,
        tied(tied_default),
        read("layer_norm_epsilon", EPSILON, 1e-5),
        read("state_size", COUNT),
        read("conv_kernel", COUNT),
        read("expand", POSITIVE),
        read("intermediate_size", COUNT, also=("d_inner",)),
        read("use_conv_bias", FLAG, True),
        read("d_model", COUNT),
        read("n_layer", COUNT),
        fixed("hidden_act", "silu", "swish"),
        fixed("use_bias", False),
        fixed("rms_norm", True),
        fixed("ssm_cfg", {}, None),
        *ignored(ROUNDING, "residual_in_fp32", "fused_add_norm"),
        *ignored(START, "time_step_min", "time_step_max", "time_step_floor", "time_step_scale"),
        *ignored(START, "time_step_init_scheme", "rescale_prenorm_residual"),
        *ignored("rows of the vocabulary are counted already", "pad_vocab_size_multiple"),
    )


def fla_keys() -> tuple[Key, ...]:
    """What flash-linear-attention's Mamba and Mamba-2 both may say."""
    return (
        *SIZES,
        *FUSED,
        tied(False),
        read("norm_eps", EPSILON, 1e-5, asked="layer_norm_epsilon"),
        read("state_size", COUNT),
        read("conv_kernel", COUNT),
        read("expand", POSITIVE),
        read("intermediate_size", COUNT),
        read("use_conv_bias", FLAG, True),
        fixed("hidden_act", "silu", "swish"),
        fixed("use_bias", False),
        *ignored("how fla computes: the same numbers", "fuse_norm"),
        *ignored(ROUNDING, "residual_in_fp32"),
        *ignored(START, "dt_min", "dt_max", "dt_init_floor", "rescale_prenorm_residual"),
    )


def authors_keys() -> tuple[Key, ...]:
    """What the authors' Mamba and Mamba-2 both may say."""
    return (
        read("d_model", COUNT, asked="hidden_size"),
        read("n_layer", COUNT, asked="num_hidden_layers"),
        read("vocab_size", COUNT),
        read("pad_vocab_size_multiple", COUNT, 8),
        read("tie_embeddings", FLAG, True, asked="tie_word_embeddings"),
        read("ssm_cfg.d_state", COUNT, asked="state_size"),
        read("ssm_cfg.d_conv", COUNT, asked="conv_kernel"),
        read("ssm_cfg.expand", POSITIVE, asked="expand"),
        read("ssm_cfg.conv_bias", FLAG, True, asked="use_conv_bias"),
        fixed("norm_epsilon", 1e-5, asked="layer_norm_epsilon"),
        fixed("rms_norm", True),
        fixed("d_intermediate", 0),
        fixed("attn_layer_idx", []),
        fixed("ssm_cfg.bias", False),
        *ignored("of attention layers, of which there are none", "attn_cfg"),
        *ignored(ROUNDING, "residual_in_fp32", "fused_add_norm"),
        *ignored(START, "ssm_cfg.dt_min", "ssm_cfg.dt_max", "ssm_cfg.dt_init_floor"),
    )


CLASSES = ("MambaForCausalLM", "MambaModel")
FORMS = (
    form(
        "transformers",
        "mamba",
        CLASSES,
        *transformers_keys(True),
        read("time_step_rank", RANK),
        *ignored("how the scan is computed: the same numbers", "use_mambapy", "use_associative_scan"),
    ),
    form(
        LIBRARY,
        "mamba",
        CLASSES,
        *fla_keys(),
        read("dt_rank", RANK, asked="time_step_rank"),
        *ignored(START, "dt_scale", "dt_init_scheme"),
    ),
    form(
        AUTHORS,
        None,
        ("MambaLMHeadModel",),
        *authors_keys(),
        read("ssm_cfg.dt_rank", RANK, asked="time_step_rank"),
        fixed("ssm_cfg.layer", "Mamba1"),
        *ignored(START, "ssm_cfg.dt_init", "ssm_cfg.dt_scale"),
        *ignored("how the scan is computed: the same numbers", "ssm_cfg.use_fast_path"),
    ),
)


def recognised(names: Collection[str]) -> bool:
    """Whether these are a Mamba's tensors, their prefix left out."""
    return "layers.0.mixer.x_proj.weight" in names


def build(tensors: Tensors, config: Config) -> LanguageModel:
    """The model of these tensors.

    **Raises:** `FileError` where they, or the config, are not as they should be.
    """
    return mamba_model(tensors, config, _mixer)


def mamba_model(tensors: Tensors, config: Config, mixer) -> LanguageModel:
    """Blocks of a norm and the mixer that `mixer` makes of a layer's tensors; the embedding by the authors' name or another."""
    backbone = tensors.base(PREFIX)
    name = "embedding.weight" if "embedding.weight" in backbone else "embeddings.weight"
    vocabulary, d = backbone.shape(name, 2)
    _check_sizes(config, vocabulary, d)
    norm = lambda part, name: RMSNorm(part.take(name, d), config["layer_norm_epsilon"])
    embedding, blocks = placed(backbone.take(name, vocabulary, d)), []
    layers = backbone.count("layers.", config, "num_hidden_layers")
    if config.knows("n_layer"):
        config.agrees("n_layer", layers)
    for i in range(layers):
        layer = backbone.under(f"layers.{i}.")
        blocks.append(Block(norm(layer, "norm.weight"), mixer(layer.under("mixer."), config, d)))
    return LanguageModel(embedding, tuple(blocks), norm(backbone, "norm_f.weight"), head(tensors, config, embedding))


def _check_sizes(config: Config, vocabulary: int, d: int) -> None:
    """Raise `FileError` for others than the config's; the authors' vocabulary is rounded up."""
    config.agrees("hidden_size", d)
    if config.knows("d_model"):
        config.agrees("d_model", d)
    told = config["vocab_size"]
    if config.form.library == AUTHORS and told and config["pad_vocab_size_multiple"]:
        multiple = config["pad_vocab_size_multiple"]
        if -(-told // multiple) * multiple == vocabulary:
            return
    config.agrees("vocab_size", vocabulary)


def check_widths(config: Config, channels: int, d: int) -> None:
    """Raise `FileError` where the inner width is not the config's, by itself or by expansion."""
    if config.knows("intermediate_size"):
        config.agrees("intermediate_size", channels)
    if config.says("expand") and int(config["expand"] * d) != channels:
        raise config.wrong("expand", f"{channels / d:g}, as the tensors have")


def _mixer(part: Tensors, config: Config, d: int) -> Mamba:
    """v and z share a matrix, and so do rank, B and C."""
    channels, n = part.shape("A_log", 2)
    rank, (_, _, width) = part.shape("dt_proj.weight", 2)[1], part.shape("conv1d.weight", 3)
    config.agrees("state_size", n)
    config.agrees("conv_kernel", width)
    check_widths(config, channels, d)
    told = config["time_step_rank"]
    if told is not None and rank != (math.ceil(d / 16) if told == "auto" else told):
        raise config.wrong("time_step_rank", f"{rank}, as the tensors have")
    w_u, w_z = np.split(part.take("in_proj.weight", 2 * channels, d), 2)
    w_1, w_b, w_c = np.split(part.take("x_proj.weight", rank + 2 * n, channels), (rank, rank + n))
    kernel = part.take("conv1d.weight", channels, 1, width)[:, 0].T
    return Mamba(
        w_u=w_u,
        w_z=w_z,
        kernel=kernel,
        bias=convolution_bias(part, config, channels, kernel),
        w_b=w_b,
        w_c=w_c,
        w_1=w_1,
        w_2=part.take("dt_proj.weight", channels, rank),
        b_delta=part.take("dt_proj.bias", channels),
        a_log=part.take("A_log", channels, n),
        skip=part.take("D", channels),
        w_o=part.take("out_proj.weight", d, channels),
    )


def convolution_bias(part: Tensors, config: Config, channels: int, kernel: np.ndarray) -> np.ndarray:
    """conv1d.bias, zeros where the config says that there is none."""
    if config["use_conv_bias"]:
        return part.take("conv1d.bias", channels)
    return np.zeros(channels, kernel.dtype)
