"""The same Llama in transformers: our weights under its names, for benchmarks beside it."""

import importlib
from typing import Any

import numpy as np

from dualform.models import LanguageModel


def transformers_llama(model: LanguageModel) -> tuple[Any, Any] | None:
    """torch, and a `LlamaForCausalLM` with a copy of the model's weights, in float32; None where either is not installed.

    pip install torch==2.13.0 transformers==5.23.0
    """
    try:
        torch, transformers = importlib.import_module("torch"), importlib.import_module("transformers")
    except ImportError:
        return None
    first: Any = model.blocks[0]
    (heads, width, d), attention = first.mixer.w_q.shape, first.mixer
    config = transformers.LlamaConfig(
        vocab_size=model.vocabulary,
        hidden_size=d,
        intermediate_size=len(first.mlp.w_gate),
        num_hidden_layers=len(model.blocks),
        num_attention_heads=heads,
        num_key_value_heads=len(attention.w_k),
        head_dim=width,
        max_position_embeddings=attention.bound,
        rms_norm_eps=first.norm.epsilon,
        rope_parameters={"rope_type": "default", "rope_theta": attention.base},
        tie_word_embeddings=model.head is None,
    )
    hub = transformers.LlamaForCausalLM(config).eval()
    tensor = lambda a: torch.tensor(np.asarray(a, np.float32))
    found = hub.load_state_dict({name: tensor(a) for name, a in _tensors(model).items()}, strict=False)
    assert set(found.missing_keys) <= {"lm_head.weight"} and not found.unexpected_keys, found
    hub.tie_weights()
    return torch, hub


def _tensors(model: Any) -> dict[str, Any]:
    """The weights by transformers' names."""
    rows = lambda w: w.reshape(-1, w.shape[-1])
    found = {"model.embed_tokens.weight": model.embedding, "model.norm.weight": model.norm.weight}
    if model.head is not None:
        found["lm_head.weight"] = model.head
    for i, block in enumerate(model.blocks):
        inner = {
            "input_layernorm": block.norm.weight,
            "self_attn.q_proj": rows(block.mixer.w_q),
            "self_attn.k_proj": rows(block.mixer.w_k),
            "self_attn.v_proj": rows(block.mixer.w_v),
            "self_attn.o_proj": block.mixer.w_o,
            "post_attention_layernorm": block.mlp_norm.weight,
            "mlp.gate_proj": block.mlp.w_gate,
            "mlp.up_proj": block.mlp.w_up,
            "mlp.down_proj": block.mlp.w_down,
        }
        found |= {f"model.layers.{i}.{name}.weight": a for name, a in inner.items()}
    return found
