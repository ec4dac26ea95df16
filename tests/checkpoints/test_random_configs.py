"""Random configs of every layout: the library's own logits, or a refusal, never a third thing.

The reference is the library itself on the same folder: transformers in float64, flash-linear-attention on its naive operators.
Where it cannot load a folder there is nothing to compare with, and only an error that is none of ours would be a fault.
"""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from dualform import checkpoints
from dualform.errors import DualformError

TIME, VOCABULARY = 12, 23
CLOSE = 1e-5
"""Of the largest logit: libraries compute norms, gates and decays in float32 whatever the dtype of the weights."""

Draw = Callable[[random.Random], dict[str, Any]]


def sizes(draw: random.Random) -> dict[str, Any]:
    """What all have."""
    return {"vocab_size": VOCABULARY, "hidden_size": 16, "num_hidden_layers": draw.choice((1, 2))}


def attention(draw: random.Random) -> dict[str, Any]:
    """Of Llama and its kin."""
    kv_heads = draw.choice((1, 2, 4))
    return sizes(draw) | {
        "intermediate_size": 24,
        "num_attention_heads": 4,
        "num_key_value_heads": kv_heads,
        "rms_norm_eps": draw.choice((1e-6, 1e-5, 0.1)),
        "max_position_embeddings": draw.choice((5, 12, 64)),
        "tie_word_embeddings": draw.random() < 0.5,
        "attn_implementation": "eager",
        "rope_parameters": {"rope_type": "default", "rope_theta": draw.choice((10.0, 10_000.0))},
    }


def llama(draw: random.Random) -> dict[str, Any]:
    given = {"attention_bias": draw.random() < 0.3, "mlp_bias": draw.random() < 0.3}
    return attention(draw) | given | ({"head_dim": 6} if draw.random() < 0.3 else {})


def mistral(draw: random.Random) -> dict[str, Any]:
    return attention(draw) | {"sliding_window": draw.choice((None, 1, 3, 5, 100))}


def qwen2(draw: random.Random) -> dict[str, Any]:
    given = {"use_sliding_window": draw.random() < 0.5, "sliding_window": draw.choice((2, 5))}
    return attention(draw) | given | {"max_window_layers": draw.choice((0, 1, 2))}


def mamba(draw: random.Random) -> dict[str, Any]:
    given = {"state_size": draw.choice((2, 4)), "expand": draw.choice((1, 2)), "conv_kernel": draw.choice((2, 4))}
    given |= {"use_conv_bias": draw.random() < 0.5, "layer_norm_epsilon": draw.choice((1e-5, 0.1))}
    return sizes(draw) | given | {"tie_word_embeddings": draw.random() < 0.5}


def mamba2(draw: random.Random) -> dict[str, Any]:
    given = mamba(draw) | {"head_dim": 4, "n_groups": draw.choice((1, 2)), "chunk_size": 4}
    limit = {"time_step_limit": (0.1, 0.5)} if draw.random() < 0.2 else {}
    return given | {"num_heads": given["expand"] * 4} | limit


def rwkv4(draw: random.Random) -> dict[str, Any]:
    given = {"rescale_every": draw.choice((0, 1, 2, 6)), "layer_norm_epsilon": draw.choice((1e-5, 0.1))}
    return sizes(draw) | given | {"num_hidden_layers": draw.choice((2, 3))}


def recurrent_gemma(draw: random.Random) -> dict[str, Any]:
    given = {"num_attention_heads": 2, "num_key_value_heads": draw.choice((1, 2)), "intermediate_size": 48}
    given |= {"lru_width": draw.choice((12, 16)), "attention_window_size": draw.choice((1, 4, 50))}
    given |= {"logits_soft_cap": draw.choice((2.0, 30.0)), "attn_implementation": "eager"}
    blocks = draw.choice((["recurrent", "recurrent", "attention"], ["attention", "recurrent"]))
    return sizes(draw) | given | {"num_hidden_layers": len(blocks), "block_types": blocks}


def of_fla(draw: random.Random) -> dict[str, Any]:
    """Of flash-linear-attention's models."""
    given = {"intermediate_size": 24, "fuse_cross_entropy": False, "use_cache": False, "fuse_norm": draw.random() < 0.5}
    given |= {"norm_eps": draw.choice((1e-6, 0.1)), "elementwise_affine": draw.choice((True, False, None))}
    return sizes(draw) | given | {"tie_word_embeddings": draw.random() < 0.3}


def gla(draw: random.Random) -> dict[str, Any]:
    given = {"num_heads": 4, "num_kv_heads": draw.choice((None, 2)), "expand_k": draw.choice((0.5, 1.0))}
    given |= {"feature_map": draw.choice((*[None] * 6, "relu")), "clamp_min": draw.choice((*[None] * 6, -0.01))}
    return of_fla(draw) | given | {"use_output_gate": draw.random() < 0.9}


def gsa(draw: random.Random) -> dict[str, Any]:
    given = {"num_heads": 4, "num_kv_heads": draw.choice((None, 2)), "num_slots": draw.choice((None, 3))}
    given |= {"gate_logit_normalizer": draw.choice((8, 2)), "feature_map": draw.choice(("swish", "swish", "relu"))}
    return of_fla(draw) | given


def hgrn2(draw: random.Random) -> dict[str, Any]:
    heads = draw.choice(({"expand_ratio": 8}, {"expand_ratio": None, "num_heads": 4}))
    return of_fla(draw) | heads | {"use_lower_bound": draw.random() < 0.7}


TRANSFORMERS: dict[str, tuple[str, Draw]] = {
    "llama": ("Llama", llama),
    "mistral": ("Mistral", mistral),
    "qwen2": ("Qwen2", qwen2),
    "mamba": ("Mamba", mamba),
    "mamba2": ("Mamba2", mamba2),
    "rwkv": ("Rwkv", rwkv4),
    "recurrent_gemma": ("RecurrentGemma", recurrent_gemma),
}
FLA: dict[str, tuple[str, Draw]] = {"gla": ("GLA", gla), "gsa": ("GSA", gsa), "hgrn2": ("HGRN2", hgrn2)}

ANY: list[dict[str, Any]] = [
    {"use_cache": False, "_name_or_path": "x", "torch_dtype": None, "temperature": 0.3},
    {"no_such_key": 3},
    {"no_such_key": None},
    {"hidden_act": "gelu"},
    {"hidden_act": "swish"},
    {"num_hidden_layers": 1},
    {"vocab_size": VOCABULARY + 1},
    {"architectures": None},
    {"architectures": ["GraniteForCausalLM"]},
    {"tie_word_embeddings": True},
    {"tie_word_embeddings": False},
    {"residual_multiplier": 0.5},
    {"layer_types": ["full_attention"]},
    {"norm_eps": 0.3},
    {"use_bias": True},
    {"clamp_min": -0.5},
    {"attention_bias": True},
    {"initializer_range": 0.5, "attention_dropout": 0.5},
]
ROTARY: list[dict[str, Any]] = [
    {"rope_parameters": {"type": "linear", "factor": 4.0, "rope_theta": 100.0}},
    {"rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 100.0}},
    {"rope_parameters": {"factor": 4.0, "rope_theta": 100.0}},
    {"rope_parameters": None, "rope_theta": 100.0},
    {"rope_parameters": {}, "rope_theta": 7},
    {"rope_parameters": None, "rope_scaling": {"type": "default"}},
    {"rope_parameters": None, "rope_scaling": {"rope_type": "default", "rope_theta": 5.0}},
    {"rope_scaling": {"type": "default"}},
    {"rope_scaling": {"type": "dynamic", "factor": 2.0}},
    {"rope_theta": 3.0},
    {"rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 100.0}}},
    {"partial_rotary_factor": 0.5},
    {"sliding_window": 3},
    {"sliding_window": None},
    {"attention_window_size": 3},
    {"max_position_embeddings": 4},
    {"use_sliding_window": True, "sliding_window": 3, "max_window_layers": 0},
    {"layer_types": ["sliding_attention", "full_attention"]},
    {"num_key_value_heads": None},
    {"head_dim": None},
    {"logits_soft_cap": 3.0},
]
RECURRENT: list[dict[str, Any]] = [
    {"layer_norm_epsilon": 0.2},
    {"time_step_limit": [0.0, 0.1]},
    {"time_step_min": 0.05, "time_step_floor": 0.1},
    {"norm_before_gate": True},
    {"n_groups": 4},
    {"rms_norm": False},
    {"rescale_every": 1},
    {"context_length": 3},
    {"state_size": 3},
    {"expand": 3},
    {"dt_limit": [0.1, 0.2]},
]
OF_FLA: list[dict[str, Any]] = [
    {"num_heads": 2},
    {"expand_k": 2.0},
    {"use_short_conv": True},
    {"use_norm": False},
    {"use_gv": True},
    {"attn": {"layers": [0], "num_heads": 2, "window_size": 3}},
    {"hidden_act": "powlu"},
    {"gate_logit_normalizer": 3},
    {"max_position_embeddings": 4},
    {"hidden_ratio": 2, "attn_mode": "fused_recurrent"},
]
LOST = ("model_type", "architectures", "rms_norm_eps", "rope_parameters", "sliding_window", "layer_norm_epsilon")
LOST += ("n_groups", "rescale_every", "num_key_value_heads", "attention_window_size", "block_types", "norm_eps")
LOST += ("num_heads", "tie_word_embeddings", "elementwise_affine", "num_slots", "expand_ratio", "logits_soft_cap")


def edited(fields: dict[str, Any], draw: random.Random, name: str) -> dict[str, Any]:
    """The config with up to two changes."""
    special = OF_FLA if name in FLA else RECURRENT if name in ("mamba", "mamba2", "rwkv") else ROTARY
    for _ in range(draw.choice((0, 1, 1, 2))):
        if draw.random() < 0.25:
            lost = draw.choice(LOST)
            fields = {key: value for key, value in fields.items() if key != lost}
        else:
            fields = fields | draw.choice(special if draw.random() < 0.65 else ANY)
    return fields


def library(name: str) -> Any:
    """The class of a model and of its config, by transformers or flash-linear-attention."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    kind, _ = (TRANSFORMERS | FLA)[name]
    home = transformers
    if name in FLA:
        pytest.importorskip("fla", reason="flash-linear-attention is not installed")
        pytest.importorskip("triton", reason="triton, which flash-linear-attention imports, is not installed")
        from tests.oracles.checkpoints import without_kernels

        without_kernels()
        import fla.models as home
    return getattr(home, f"{kind}ForCausalLM"), getattr(home, f"{kind}Config")


def verdict(name: str, seed: int, folder: Path) -> str:
    """What became of one config: "equal", "refused", or "alone" where the library itself cannot load it.

    **Raises:** `AssertionError` for other logits; whatever is none of our errors.
    """
    torch: Any = pytest.importorskip("torch", reason="PyTorch, which the libraries run on, is not installed")
    draw, (model_class, config_class) = random.Random(f"{name} {seed}"), library(name)
    torch.manual_seed(seed)
    model = model_class(config_class(**(TRANSFORMERS | FLA)[name][1](draw))).double().eval()
    with torch.no_grad():
        for parameter in dict(model.named_parameters()).values():
            noise = torch.randn(parameter.shape, dtype=torch.float64)
            parameter.copy_(
                noise / parameter.shape[-1] ** 0.5 if parameter.ndim == 2 else parameter.clamp(-3, 3) + 0.3 * noise
            )
    model.save_pretrained(folder)
    path = folder / "config.json"
    fields = edited(json.loads(path.read_text()), draw, name)
    path.write_text(json.dumps(fields))
    if draw.random() < 0.15:  # a base model
        arrays, prefix = load_file(folder / "model.safetensors"), model.base_model_prefix + "."
        bare = {key.removeprefix(prefix): array for key, array in arrays.items() if key.startswith(prefix)}
        save_file(bare, folder / "model.safetensors", {"format": "pt"})
    tokens = torch.randint(0, VOCABULARY, (1, TIME))
    try:
        found = checkpoints.load(folder, dtype=jnp.float64).model(jnp.asarray(tokens[0].numpy().astype(np.int32)))[0]
    except DualformError:
        return "refused"
    try:
        again, told = model_class.from_pretrained(folder, dtype=torch.float64, output_loading_info=True)
        with torch.no_grad():
            expected = again.double().eval()(input_ids=tokens, use_cache=False).logits[0].numpy()
    except Exception:  # whatever a library says of a config that is not its own
        return "alone"
    assert not told["missing_keys"], f"{name} {seed}: {told['missing_keys']} were made up, and loaded here"
    error = float(np.abs(np.asarray(found) - expected).max() / np.abs(expected).max())
    assert error <= CLOSE, f"{name} {seed}: {error:.1e} of the largest logit with {fields}"
    return "equal"


@pytest.mark.parametrize("name", [*TRANSFORMERS, *FLA])
def test_a_random_config_is_understood_or_refused(name, tmp_path):
    """One of each layout."""
    assert verdict(name, 0, tmp_path) in ("equal", "refused", "alone")


@pytest.mark.slow
@pytest.mark.parametrize("name", [*TRANSFORMERS, *FLA])
def test_random_configs_are_understood_or_refused(name, tmp_path):
    """50 of each layout, 500 in all: some are equal and some refused."""
    found = [verdict(name, seed, tmp_path / str(seed)) for seed in range(1, 51)]
    assert found.count("equal") >= 5 and found.count("refused") >= 5, found
