"""Law 8 for softmax attention and Aaren: PyTorch's attention and transformers' layers give the same, with gradients."""

import pytest

from dualform.mixers import Aaren, SoftmaxAttention
from tests.oracles.held import TIERS, Held, error

TORCH, TRANSFORMERS = "torch 2.13.0", "transformers 5.23.0"


def heads(w, count):
    """(head * rows, d) as (head, rows, d)."""
    return w.reshape(count, -1, w.shape[1])


def windowed(a):
    """Our names."""
    w_q, w_k, w_v = (heads(a[name], 2) for name in ("w_q", "w_k", "w_v"))
    return {"y": SoftmaxAttention(w_q=w_q, w_k=w_k, w_v=w_v, w_o=a["w_o"], window=5)(a["x"])[0]}


def multi_query(a):
    """Our names."""
    w_k, w_v = heads(a["w_k"], 1), heads(a["w_v"], 1)
    return {"y": SoftmaxAttention(w_q=heads(a["w_q"], 3), w_k=w_k, w_v=w_v, w_o=a["w_o"], window=37)(a["x"])[0]}


def aaren(a):
    """Our names."""
    return {"y": Aaren(query=a["query"], w_k=heads(a["w_k"], 2), w_v=heads(a["w_v"], 2), w_o=a["w_o"])(a["x"])[0]}


def layer(count, kv_count, **options):
    """transformers' names."""

    def ours(a):
        mixer = SoftmaxAttention(
            w_q=heads(a["q_proj.weight"], count),
            w_k=heads(a["k_proj.weight"], kv_count),
            w_v=heads(a["v_proj.weight"], kv_count),
            w_o=a["o_proj.weight"],
            b_o=a.get("o_proj.bias"),
            **options,
        )
        return {"y": mixer(a["x"])[0]}

    return ours


HELD = {
    "softmax_window": Held("softmax_attention", windowed, TORCH),
    "softmax_multi_query": Held("multi_query_attention", multi_query, TORCH),
    "softmax_llama": Held("softmax_attention", layer(6, 2, window=37, rotary=4), TRANSFORMERS),
    "softmax_recurrent_gemma": Held("local_attention", layer(2, 1, window=7, rotary=4), TRANSFORMERS),
    "aaren": Held("aaren", aaren, TORCH),
}


@TIERS
@pytest.mark.parametrize("stem", HELD)
def test_the_oracle_agrees(stem, gradients):
    """Outputs, and the gradients of the input and every weight, are those of the peer."""
    assert error(stem, HELD[stem], gradients) <= HELD[stem].tolerance
