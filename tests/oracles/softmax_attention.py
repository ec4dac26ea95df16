"""The oracles of softmax attention and Aaren: PyTorch's attention, and transformers' layers, run themselves.

Run by hand, in an environment of its own, when the shapes change:

    pip install torch==2.13.0 transformers==5.23.0 numpy safetensors
    python tests/oracles/softmax_attention.py

It writes inputs, weights, outputs and gradients to `tests/oracles/data/*.safetensors`, with versions and seed as metadata.
It shares no code with dualform.
"""

from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file
from transformers.models.llama.modeling_llama import LlamaAttention, LlamaConfig
from transformers.models.recurrent_gemma.modeling_recurrent_gemma import (
    RecurrentGemmaAttention,
    RecurrentGemmaConfig,
)

SEED, TIME, D = 20251123, 37, 6
FOLDER = Path(__file__).parent / "data"
TORCH, TRANSFORMERS = f"torch {torch.__version__.split('+')[0]}", f"transformers {transformers.__version__}"


def seen(window: int) -> torch.Tensor:
    """(time, source), True where a token sees another: itself, and window - 1 before it."""
    back = torch.arange(TIME)[:, None] - torch.arange(TIME)[None]
    return (back >= 0) & (back < window)


def heads(x, w, count):
    """W x, (1, head, time, rows)."""
    return (x @ w.T).reshape(1, TIME, count, -1).transpose(1, 2)


def windowed(x, w_q, w_k, w_v, w_o):
    """`scaled_dot_product_attention` with a window of 5, two heads."""
    q, k, v = (heads(x, w, 2) for w in (w_q, w_k, w_v))
    o = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=seen(5))
    return o.transpose(1, 2).reshape(TIME, -1) @ w_o.T


def multi_query(x, w_q, w_k, w_v, w_o):
    """`scaled_dot_product_attention`, three heads on one of keys and values."""
    q, k, v = heads(x, w_q, 3), heads(x, w_k, 1), heads(x, w_v, 1)
    o = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    return o.transpose(1, 2).reshape(TIME, -1) @ w_o.T


def aaren(x, query, w_k, w_v, w_o):
    """`scaled_dot_product_attention` in which every row has the same query."""
    k, v = (heads(x, w, 2) for w in (w_k, w_v))
    q = query[None, :, None].expand(1, 2, TIME, -1)
    o = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    return o.transpose(1, 2).reshape(TIME, -1) @ w_o.T


def angles(pairs: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and sines in float64; the modules' own are rounded to float32."""
    frequency = 10000.0 ** -(torch.arange(pairs, dtype=torch.float64) / pairs)
    angle = torch.cat([torch.arange(TIME)[:, None] * frequency] * 2, -1)[None]
    return angle.cos(), angle.sin()


def hidden(window: int) -> torch.Tensor:
    """What is added to the scores, (1, 1, time, source)."""
    return torch.where(seen(window), 0.0, -torch.inf).double()[None, None]


def llama(x, **weights):
    """`LlamaAttention`, three heads of four channels on one of keys and values, all channels turned."""
    config = LlamaConfig(
        hidden_size=D, num_attention_heads=6, num_key_value_heads=2, head_dim=4, attn_implementation="sdpa"
    )
    module = LlamaAttention(config, 0).double()
    return torch.func.functional_call(module, weights, (x[None], angles(2), hidden(TIME)))[0][0]


def recurrent_gemma(x, **weights):
    """`RecurrentGemmaAttention`: two heads of eight channels, one of keys and values, half of the channels turned."""
    config = RecurrentGemmaConfig(
        hidden_size=D, num_attention_heads=2, num_key_value_heads=1, head_dim=8, attn_implementation="sdpa"
    )
    module = RecurrentGemmaAttention(config, 0).double()
    module.rotary_emb.forward = lambda *_: angles(2)
    return torch.func.functional_call(module, weights, (x[None], torch.arange(TIME)[None], hidden(7)))[0][0]


CASES = {
    "softmax_window": (windowed, TORCH, {"w_q": (8, D), "w_k": (8, D), "w_v": (6, D), "w_o": (5, 6)}),
    "softmax_multi_query": (multi_query, TORCH, {"w_q": (12, D), "w_k": (4, D), "w_v": (3, D), "w_o": (5, 9)}),
    "aaren": (aaren, TORCH, {"query": (2, 4), "w_k": (8, D), "w_v": (6, D), "w_o": (5, 6)}),
    "softmax_llama": (
        llama,
        TRANSFORMERS,
        {"q_proj.weight": (24, D), "k_proj.weight": (8, D), "v_proj.weight": (8, D), "o_proj.weight": (D, 24)},
    ),
    "softmax_recurrent_gemma": (
        recurrent_gemma,
        TRANSFORMERS,
        {
            "q_proj.weight": (16, D),
            "k_proj.weight": (8, D),
            "v_proj.weight": (8, D),
            "o_proj.weight": (D, 16),
            "o_proj.bias": (D,),
        },
    ),
}


def record(name: str) -> None:
    """Store what the peer gives for random inputs and weights, and the gradients of sum(cotangent * y)."""
    run, peer, shapes = CASES[name]
    generator = torch.Generator().manual_seed(SEED)
    draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)
    arguments = {"x": draw(TIME, D)} | {name: draw(*shape) for name, shape in shapes.items()}
    arguments = {name: value.requires_grad_() for name, value in arguments.items()}
    y = run(**arguments)
    assert y.dtype == torch.float64 and torch.isfinite(y).all()
    cotangent = draw(*y.shape)
    (cotangent * y).sum().backward()
    tensors = {"output.y": y.detach(), "cotangent.y": cotangent}
    tensors |= {name: value.detach() for name, value in arguments.items()}
    tensors |= {f"gradient.{name}": value.grad for name, value in arguments.items()}
    metadata = {"peer": peer, "torch": torch.__version__, "seed": str(SEED), "dtype": "float64"}
    save_file({k: v.contiguous() for k, v in tensors.items()}, FOLDER / f"{name}.safetensors", metadata)


if __name__ == "__main__":
    for name in CASES:
        record(name)
