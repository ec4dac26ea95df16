"""Models: mixers put together."""

from dualform.models.aaren_models import aaren, aaren_of, with_aaren
from dualform.models.bidirectional import Bidirectional
from dualform.models.block import Block
from dualform.models.depth import with_depth
from dualform.models.dropout import with_dropout
from dualform.models.griffin_models import griffin
from dualform.models.language_model import LanguageModel
from dualform.models.linear_models import delta_net, gated_delta_net, gla, gsa, hgrn, hgrn2, retnet
from dualform.models.llama_models import llama, with_context
from dualform.models.mamba_models import mamba, mamba2
from dualform.models.minimal_models import min_rnn
from dualform.models.mlp import MLP, GatedMLP
from dualform.models.norm import LayerNorm, RMSNorm
from dualform.models.presets import Preset, preset, published
from dualform.models.recurrent import Recurrent
from dualform.models.rwkv4_models import rwkv4
from dualform.models.sequence_model import SequenceModel
from dualform.models.speech_model import SpeechModel
from dualform.models.spoken_layers import Among, FromText
from dualform.models.stack import Stack
from dualform.models.tpgn import TPGN

__all__ = [
    "aaren",
    "aaren_of",
    "delta_net",
    "gated_delta_net",
    "gla",
    "griffin",
    "gsa",
    "hgrn",
    "hgrn2",
    "retnet",
    "llama",
    "mamba",
    "mamba2",
    "min_rnn",
    "Preset",
    "preset",
    "published",
    "rwkv4",
    "MLP",
    "Bidirectional",
    "Block",
    "GatedMLP",
    "LanguageModel",
    "LayerNorm",
    "RMSNorm",
    "Recurrent",
    "SequenceModel",
    "Among",
    "FromText",
    "SpeechModel",
    "Stack",
    "TPGN",
    "with_aaren",
    "with_context",
    "with_depth",
    "with_dropout",
]
