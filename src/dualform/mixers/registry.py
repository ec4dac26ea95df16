"""The mixers by name: one line each. Laws, dual forms, benchmarks and the docs' table read them from here."""

from collections.abc import Callable
from functools import partial

from dualform.mixers.aaren import Aaren
from dualform.mixers.causal_convolution import CausalConvolution
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
from dualform.mixers.retnet import RetNet
from dualform.mixers.rg_lru import RGLRU
from dualform.mixers.rwkv4 import RWKV4ChannelMixing, RWKV4TimeMixing
from dualform.mixers.side_gated_rnn import SideGatedRNN
from dualform.mixers.softmax_attention import SoftmaxAttention
from dualform.mixers.tanh_rnn import TanhRNN
from dualform.mixers.wave_rnn import WaveRNN

_MAKERS: dict[str, Callable[..., AbstractMixer]] = {
    "linear_attention": LinearAttention.make,
    "gated_rnn": GatedRNN.make,
    "dense_gated_rnn": DenseGatedRNN.make,
    "side_gated_rnn": SideGatedRNN.make,
    "lru": LRU.make,
    "lru_out": LRUOut.make,
    "lru_in_out": LRUInOut.make,
    "lru_in_skip": LRUInSkip.make,
    "lstm": LSTM.make,
    "lstm_chung": partial(LSTM.make, variant="chung"),
    "gru": GRU.make,
    "gru_chung": partial(GRU.make, variant="chung"),
    "tanh_rnn": TanhRNN.make,
    "hgrn": HGRN.make,
    "hgrn_complex": HGRNComplex.make,
    "min_gru": MinGRU.make,
    "min_gru_log": partial(MinGRU.make, candidate="positive"),
    "min_lstm": MinLSTM.make,
    "min_lstm_log": partial(MinLSTM.make, candidate="positive"),
    "rg_lru": RGLRU.make,
    "griffin_recurrent": GriffinRecurrent.make,
    "gla": GLA.make,
    "hgrn2": HGRN2.make,
    "retnet": RetNet.make,
    "delta_rule": DeltaRule.make,
    "gated_delta_rule": partial(DeltaRule.make, gated=True),
    "gsa": GSA.make,
    "wave_rnn": WaveRNN.make,
    "pgn": PGN.make,
    "causal_convolution": CausalConvolution.make,
    "aaren": Aaren.make,
    "softmax_attention": SoftmaxAttention.make,
    "multi_query_attention": partial(SoftmaxAttention.make, kv_heads=1),
    "local_attention": partial(SoftmaxAttention.make, kv_heads=1, window=16),
    "mamba": Mamba.make,
    "mamba2": Mamba2.make,
    "rwkv4": RWKV4TimeMixing.make,
    "rwkv4_channel": RWKV4ChannelMixing.make,
}


def registry() -> dict[str, Callable[..., AbstractMixer]]:
    """Every mixer's maker by name: `make(d, key=...)` gives one of width d in and out, small enough to test."""
    return dict(_MAKERS)


def classes() -> dict[str, type[AbstractMixer]]:
    """The class of every registered mixer, by the class's name: variants of one class count once."""
    makers = (getattr(make, "func", make) for make in _MAKERS.values())
    return {make.__self__.__name__: make.__self__ for make in makers}  # pyright: ignore[reportFunctionMemberAccess] - bound
