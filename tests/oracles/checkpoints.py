"""Whole checkpoints of published libraries, random and tiny, with the logits that the library itself gives for them.

Run by hand, in an environment of its own, when a peer or the shapes change:

    pip install torch==2.13.0 transformers==5.23.0 fla-core==0.6.0 flash-linear-attention==0.6.0 einops safetensors
    python tests/oracles/checkpoints.py

It writes a folder for each to `tests/oracles/data/checkpoints`: config.json and model.safetensors (in shards for GLA) by the
library's own `save_pretrained`, and expected.safetensors with tokens and logits, all in float64. It shares no code with dualform.

fla's kernels want a GPU: its models are run as they are, on its own naive operators, with what it has as kernels alone (norms,
SwiGLU) in plain PyTorch. What a library calls float32 is float64 here (`Wide`).
"""

import shutil
from pathlib import Path
from typing import Any

import fla.layers.gla
import fla.layers.gsa
import fla.layers.hgrn2
import fla.modules.activations
import fla.modules.feature_map
import fla.modules.mlp
import torch
import transformers
from fla.models.gla import GLAConfig, GLAForCausalLM
from fla.models.gsa import GSAConfig, GSAForCausalLM
from fla.models.hgrn2 import HGRN2Config, HGRN2ForCausalLM
from fla.modules import FusedRMSNormGated, RMSNorm
from fla.ops.gla.naive import naive_recurrent_gla
from fla.ops.gsa.naive import naive_recurrent_gsa
from safetensors.torch import save_file
from torch.nn.functional import linear, silu
from torch.overrides import TorchFunctionMode

SEED, TIME, VOCABULARY, D = 20261126, 13, 23, 16
FOLDER = Path(__file__).parent / "data" / "checkpoints"
KEPT = ("config.json", "model.safetensors", "model.safetensors.index.json")


class Wide(TorchFunctionMode):
    """Where PyTorch is asked for float32, it gives float64."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        """Each call of a function of PyTorch."""
        turn: Any = lambda a: torch.float64 if a is torch.float32 or a is torch.float else a
        func = torch.Tensor.double if func is torch.Tensor.float else func
        return func(*(turn(a) for a in args), **{name: turn(a) for name, a in (kwargs or {}).items()})


def rms(x, weight, eps):
    """x / sqrt(mean(x^2) + eps) * weight."""
    x = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps)
    return x if weight is None else x * weight


def norm(self, x, residual=None, prenorm=False, residual_in_fp32=False):
    """fla's `RMSNorm`: of x + residual; with prenorm also that sum."""
    x = x if residual is None else x + residual
    y = rms(x, self.weight, self.eps)
    return (y, x) if prenorm else y


def without_kernels() -> None:
    """fla's functions that are kernels, by what they compute."""
    RMSNorm.forward = norm
    FusedRMSNormGated.forward = lambda self, x, g: rms(x, self.weight, self.eps) * silu(g)
    normed = lambda x, weight, bias, w, b, eps=1e-5: linear(rms(x, weight, eps), w, b)
    fla.layers.hgrn2.rms_norm_linear = fla.layers.gsa.rms_norm_linear = normed
    fla.modules.activations.ACT2FN["swish"] = fla.modules.feature_map.swish = fla.layers.hgrn2.swish = silu
    fla.modules.mlp.swiglu_linear = lambda gate, up, w, b: linear(silu(gate) * up, w, b)
    gla = lambda q, k, v, gk, **_: naive_recurrent_gla(q, k, v, gk)
    fla.layers.gla.fused_recurrent_gla = fla.layers.hgrn2.fused_recurrent_gla = gla
    gsa = lambda q, k, v, s, g, scale, **_: naive_recurrent_gsa(q, k, v, s, g, scale=scale)
    fla.layers.gsa.fused_recurrent_gsa = gsa


SIZES: dict[str, Any] = {"vocab_size": VOCABULARY, "hidden_size": D, "num_hidden_layers": 2}
LLAMA = SIZES | {"intermediate_size": 24, "num_attention_heads": 4, "num_key_value_heads": 2}
LLAMA |= {"max_position_embeddings": 64, "attn_implementation": "eager"}
FLA = SIZES | {"intermediate_size": 24, "fuse_cross_entropy": False, "use_cache": False}


def cases() -> dict[str, Any]:
    """The models by name."""
    t = transformers
    gemma = {"num_hidden_layers": 3, "num_attention_heads": 2, "num_key_value_heads": 1, "lru_width": 12}
    gemma |= {
        "intermediate_size": 48,
        "attention_window_size": 5,
        "logits_soft_cap": 2.0,
        "attn_implementation": "eager",
    }
    return {
        "mamba": t.MambaForCausalLM(t.MambaConfig(**SIZES, state_size=3)),
        "mamba_untied": t.MambaForCausalLM(
            t.MambaConfig(
                **SIZES, state_size=2, expand=3, time_step_rank=2, use_conv_bias=False, tie_word_embeddings=False
            )
        ),
        "mamba2": t.Mamba2ForCausalLM(t.Mamba2Config(**SIZES, state_size=5, num_heads=4, head_dim=8, n_groups=2)),
        "rwkv4": t.RwkvForCausalLM(t.RwkvConfig(**SIZES, rescale_every=0, layer_norm_epsilon=1e-4)),
        "recurrent_gemma": t.RecurrentGemmaForCausalLM(t.RecurrentGemmaConfig(**(SIZES | gemma))),
        "llama": t.LlamaForCausalLM(
            t.LlamaConfig(**(LLAMA | {"head_dim": 6}), rms_norm_eps=1e-4, attention_bias=True, mlp_bias=True)
        ),
        "smollm": t.LlamaForCausalLM(
            t.LlamaConfig(
                **LLAMA, tie_word_embeddings=True, rope_parameters={"rope_type": "default", "rope_theta": 100.0}
            )
        ),
        "mistral": t.MistralForCausalLM(t.MistralConfig(**LLAMA, sliding_window=5)),
        "qwen2": t.Qwen2ForCausalLM(t.Qwen2Config(**LLAMA)),
        "gla": GLAForCausalLM(GLAConfig(**FLA, num_heads=4, num_kv_heads=2)),
        "gla_plain": GLAForCausalLM(
            GLAConfig(
                **FLA,
                num_heads=2,
                expand_k=1.0,
                expand_v=1.5,
                fuse_norm=False,
                elementwise_affine=False,
                norm_eps=1e-3,
                tie_word_embeddings=True,
            )
        ),
        "hgrn2": HGRN2ForCausalLM(HGRN2Config(**(FLA | {"num_hidden_layers": 3}), expand_ratio=8)),
        "hgrn2_unbounded": HGRN2ForCausalLM(HGRN2Config(**FLA, expand_ratio=None, num_heads=4, use_lower_bound=False)),
        "gsa": GSAForCausalLM(GSAConfig(**FLA, num_heads=4, num_kv_heads=2, num_slots=3, gate_logit_normalizer=5)),
    }


def redraw(model: torch.nn.Module, generator: torch.Generator) -> None:
    """Every parameter random, so that none is 0 or 1: matrices by fan-in, the rest moved."""
    with torch.no_grad():
        for parameter in dict(model.named_parameters()).values():
            draw = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            start = torch.nan_to_num(parameter.data, 0.0, 0.0, 0.0).clamp(-3, 3)
            parameter.data = draw / parameter.shape[-1] ** 0.5 if parameter.ndim == 2 else start + 0.3 * draw


def record(name: str, model: Any, peer: str) -> None:
    """Store a model's checkpoint, tokens, and its logits."""
    generator = torch.Generator().manual_seed(SEED)
    redraw(model, generator)
    tokens = torch.randint(0, VOCABULARY, (1, TIME), generator=generator)
    logits = model(input_ids=tokens, use_cache=False).logits[0]
    assert logits.dtype == torch.float64 and torch.isfinite(logits).all() and logits.std() > 0.1, name
    folder = FOLDER / name
    model.save_pretrained(folder, max_shard_size="20KB" if name == "gla" else "1GB")
    for path in folder.iterdir():
        if path.name not in KEPT and not path.name.startswith("model-"):
            path.unlink()
    expect(folder, peer, tokens=tokens[0], logits=logits.detach())


def expect(folder: Path, peer: str, **tensors: torch.Tensor) -> None:
    """What a checkpoint gives, beside it."""
    metadata = {"peer": peer, "torch": torch.__version__, "seed": str(SEED), "dtype": "float64"}
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    save_file(tensors, folder / "expected.safetensors", metadata)


def record_rnn(name: str, module: Any, prefix: str) -> None:
    """Store the state dict of a recurrent network of PyTorch's, behind a prefix, tokens, and its outputs."""
    generator = torch.Generator().manual_seed(SEED)
    redraw(module, generator)
    x = torch.randn(TIME, module.input_size, generator=generator)
    folder = FOLDER / name
    folder.mkdir(parents=True)
    weights = {prefix + key: value.detach().contiguous() for key, value in module.state_dict().items()}
    save_file(weights, folder / "model.safetensors")
    expect(folder, f"torch {torch.__version__}", x=x, y=module(x)[0].detach())


if __name__ == "__main__":
    shutil.rmtree(FOLDER, ignore_errors=True)
    torch.set_default_dtype(torch.float64)
    without_kernels()
    with Wide():
        for name, model in cases().items():
            library = "fla" in type(model).__module__
            peer = "flash-linear-attention 0.6.0" if library else f"transformers {transformers.__version__}"
            record(name, model.double().eval(), peer)
        record_rnn("torch_lstm", torch.nn.LSTM(3, 5, num_layers=2), "")
        record_rnn("torch_gru", torch.nn.GRU(3, 4, num_layers=3, bias=False), "encoder.")
