"""Law 8 for cross-attention: PyTorch's attention, twice and with its GRU between, gives the same, with gradients."""

import pytest

from dualform.mixers import GRU, CrossAttention, PositionAwareCrossAttention
from tests.oracles.held import TIERS, Held, error

TORCH = "torch 2.13.0"


def weights(a):
    """Our names; two heads."""
    split = lambda w: w.reshape(2, -1, w.shape[1])
    return {name: split(a[name]) for name in ("w_q", "w_k", "w_v")} | {"w_o": a["w_o"]}


def plain(a):
    """Our names."""
    return {"y": CrossAttention(**weights(a), window=12)(a["x"])[0]}


def position_aware(a):
    """Our names; the window is wider than the text."""
    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    recurrence = GRU.from_torch(*(a[name] for name in names))
    return {"y": PositionAwareCrossAttention(**weights(a), recurrence=recurrence, window=12)(a["x"])[0]}


HELD = {
    "cross_attention": Held("cross_attention", plain, TORCH),
    "position_aware_cross_attention": Held("position_aware_cross_attention", position_aware, TORCH),
}


@TIERS
@pytest.mark.parametrize("stem", HELD)
def test_torch_gives_the_same(stem, gradients):
    """Outputs, and the gradients of all inputs and weights."""
    assert error(stem, HELD[stem], gradients) <= HELD[stem].tolerance
