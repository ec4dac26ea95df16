"""Models: mixers put together."""

from dualform.models.bidirectional import Bidirectional
from dualform.models.block import Block
from dualform.models.language_model import LanguageModel
from dualform.models.mlp import MLP, GatedMLP
from dualform.models.norm import LayerNorm, RMSNorm
from dualform.models.sequence_model import SequenceModel
from dualform.models.stack import Stack
from dualform.models.tpgn import TPGN

__all__ = [
    "MLP",
    "Bidirectional",
    "Block",
    "GatedMLP",
    "LanguageModel",
    "LayerNorm",
    "RMSNorm",
    "SequenceModel",
    "Stack",
    "TPGN",
]
