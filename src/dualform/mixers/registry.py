"""The mixers by name: one line each. Laws, dual forms, benchmarks and the docs' table read them from here."""

from collections.abc import Callable

from dualform.mixers.dense_gated_rnn import DenseGatedRNN
from dualform.mixers.gated_rnn import GatedRNN
from dualform.mixers.linear_attention import LinearAttention
from dualform.mixers.mixer import AbstractMixer
from dualform.mixers.side_gated_rnn import SideGatedRNN

_MAKERS: dict[str, Callable[..., AbstractMixer]] = {
    "linear_attention": LinearAttention.make,
    "gated_rnn": GatedRNN.make,
    "dense_gated_rnn": DenseGatedRNN.make,
    "side_gated_rnn": SideGatedRNN.make,
}


def registry() -> dict[str, Callable[..., AbstractMixer]]:
    """Every mixer's maker by name: `make(d, key=...)` gives one of width d in and out, small enough to test."""
    return dict(_MAKERS)
