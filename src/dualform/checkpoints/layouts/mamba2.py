"""Mamba-2 as transformers, flash-linear-attention and its authors write it."""

import math
from collections.abc import Collection

import numpy as np

from dualform.checkpoints.layouts.config import COUNT, Config, fixed, ignored, read
from dualform.checkpoints.layouts.fla import LIBRARY
from dualform.checkpoints.layouts.keys import form
from dualform.checkpoints.layouts.mamba import (
    AUTHORS,
    START,
    authors_keys,
    check_widths,
    convolution_bias,
    fla_keys,
    mamba_model,
    transformers_keys,
)
from dualform.checkpoints.layouts.tensors import Tensors, divided
from dualform.mixers import Mamba2
from dualform.models.language_model import LanguageModel

KIND = "Mamba-2"
CLASSES = ("Mamba2ForCausalLM", "Mamba2Model")
NO_LIMIT = [0.0, math.inf]
CHUNKS = "how the scan is computed: the same numbers"
FORMS = (
    form(
        "transformers",
        "mamba2",
        CLASSES,
        *transformers_keys(False),
        read("n_groups", COUNT, 8),
        read("num_heads", COUNT),
        read("head_dim", COUNT),
        fixed("time_step_limit", NO_LIMIT, None),
        *ignored(CHUNKS, "chunk_size"),
        *ignored("the rank of Mamba's steps, of which Mamba-2 has one for each head", "time_step_rank"),
        *ignored("the library's gate comes before the norm, whatever is said", "norm_before_gate"),
    ),
    form(
        LIBRARY,
        "mamba2",
        CLASSES,
        *fla_keys(),
        fixed("n_groups", 1),  # with several, its norm is one for each group
        read("num_heads", COUNT),
        read("head_dim", COUNT),
        fixed("dt_limit", NO_LIMIT),
        fixed("norm_before_gate", False),
        fixed("rmsnorm", True),
        fixed("D_has_hdim", False),
        *ignored(CHUNKS, "chunk_size"),
        *ignored(START, "conv_init", "A_init_range"),
    ),
    form(
        AUTHORS,
        None,
        ("MambaLMHeadModel",),
        *authors_keys(),
        read("ssm_cfg.headdim", COUNT, asked="head_dim"),
        fixed("ssm_cfg.layer", "Mamba2"),
        fixed("ssm_cfg.ngroups", 1, asked="n_groups"),
        fixed("ssm_cfg.d_ssm", None),
        fixed("ssm_cfg.dt_limit", NO_LIMIT),
        fixed("ssm_cfg.norm_before_gate", False),
        fixed("ssm_cfg.rmsnorm", True),
        fixed("ssm_cfg.D_has_hdim", False),
        *ignored(CHUNKS, "ssm_cfg.chunk_size", "ssm_cfg.use_mem_eff_path"),
        *ignored(START, "ssm_cfg.conv_init", "ssm_cfg.A_init_range"),
    ),
)


def recognised(names: Collection[str]) -> bool:
    """Whether these are a Mamba-2's tensors, their prefix left out."""
    return "layers.0.mixer.dt_bias" in names and "layers.0.mixer.in_proj.weight" in names


def build(tensors: Tensors, config: Config) -> LanguageModel:
    """The model of these tensors.

    **Raises:** `FileError` where they, or the config, are not as they should be.
    """
    return mamba_model(tensors, config, _mixer)


def _mixer(part: Tensors, config: Config, d: int) -> Mamba2:
    """z, v, B, C and delta share a matrix."""
    (heads,), (inner,) = part.shape("A_log", 1), part.shape("norm.weight", 1)
    channels, _, width = part.shape("conv1d.weight", 3)
    groups = config["n_groups"]  # which shapes do not tell apart from states
    if config.knows("num_heads"):
        config.agrees("num_heads", heads)
    config.agrees("conv_kernel", width)
    config.agrees("head_dim", divided(part, "an inner width", inner, heads))
    check_widths(config, inner, d)
    n = divided(part, "convolved channels of B and C", channels - inner, 2 * groups)
    config.agrees("state_size", n)
    cuts = np.cumsum([inner, inner, groups * n, groups * n])
    w_z, w_v, w_b, w_c, w_delta = np.split(part.take("in_proj.weight", inner + channels + heads, d), cuts)
    into = lambda w, count: w.reshape(count, -1, d)
    kernel = part.take("conv1d.weight", channels, 1, width)[:, 0].T
    return Mamba2(
        w_v=into(w_v, heads),
        w_z=into(w_z, heads),
        w_b=into(w_b, groups),
        w_c=into(w_c, groups),
        w_delta=w_delta,
        b_delta=part.take("dt_bias", heads),
        a_log=part.take("A_log", heads),
        skip=part.take("D", heads),
        kernel=kernel,
        bias=convolution_bias(part, config, channels, kernel),
        norm=part.take("norm.weight", inner),
        w_o=part.take("out_proj.weight", d, inner),
        epsilon=config["layer_norm_epsilon"],
    )
