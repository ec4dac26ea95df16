"""Mixers: one file for each system of the literature, its equations and nothing else."""

from dualform.mixers.aaren import Aaren
from dualform.mixers.causal_convolution import CausalConvolution
from dualform.mixers.constant import Constant
from dualform.mixers.cross_attention import CrossAttention
from dualform.mixers.delta_rule import DeltaRule
from dualform.mixers.dense_gated_rnn import DenseGatedRNN
from dualform.mixers.gated_rnn import GatedRNN
from dualform.mixers.gla import GLA
from dualform.mixers.griffin_recurrent import GriffinRecurrent
from dualform.mixers.gru import GRU
from dualform.mixers.gsa import GSA
from dualform.mixers.hgrn import HGRN, HGRNComplex
from dualform.mixers.hgrn2 import HGRN2
from dualform.mixers.linear_attention import LinearAttention
from dualform.mixers.lru import LRU, LRUInOut, LRUInSkip, LRUOut
from dualform.mixers.lstm import LSTM
from dualform.mixers.mamba import Mamba
from dualform.mixers.mamba2 import Mamba2
from dualform.mixers.min_gru import MinGRU
from dualform.mixers.min_lstm import MinLSTM
from dualform.mixers.mixer import AbstractMixer
from dualform.mixers.pgn import PGN
from dualform.mixers.position_aware_cross_attention import PositionAwareCrossAttention
from dualform.mixers.registration import register, registry
from dualform.mixers.retnet import RetNet
from dualform.mixers.rg_lru import RGLRU
from dualform.mixers.rwkv4 import RWKV4ChannelMixing, RWKV4TimeMixing
from dualform.mixers.side_gated_rnn import SideGatedRNN
from dualform.mixers.softmax_attention import SoftmaxAttention
from dualform.mixers.tanh_rnn import TanhRNN
from dualform.mixers.wave_rnn import WaveRNN

__all__ = [
    "RWKV4TimeMixing",
    "RWKV4ChannelMixing",
    "Mamba2",
    "Mamba",
    "SoftmaxAttention",
    "CrossAttention",
    "PositionAwareCrossAttention",
    "Aaren",
    "CausalConvolution",
    "Constant",
    "PGN",
    "WaveRNN",
    "GSA",
    "DeltaRule",
    "RetNet",
    "HGRN2",
    "GLA",
    "GriffinRecurrent",
    "RGLRU",
    "MinLSTM",
    "MinGRU",
    "HGRNComplex",
    "HGRN",
    "GRU",
    "LRU",
    "LSTM",
    "AbstractMixer",
    "DenseGatedRNN",
    "GatedRNN",
    "LRUInOut",
    "LRUInSkip",
    "LRUOut",
    "LinearAttention",
    "SideGatedRNN",
    "TanhRNN",
    "register",
    "registry",
]
