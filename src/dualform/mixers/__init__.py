"""Mixers: one file for each system of the literature, its equations and nothing else."""

from dualform.mixers.dense_gated_rnn import DenseGatedRNN
from dualform.mixers.gated_rnn import GatedRNN
from dualform.mixers.linear_attention import LinearAttention
from dualform.mixers.mixer import AbstractMixer
from dualform.mixers.registry import registry
from dualform.mixers.side_gated_rnn import SideGatedRNN

__all__ = ["AbstractMixer", "DenseGatedRNN", "GatedRNN", "LinearAttention", "SideGatedRNN", "registry"]
