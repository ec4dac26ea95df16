"""Real trained models, built of dualform's mixers: each does its job, and each is a chain of stages that can be frozen."""

from dualform.checkpoints.pretrained.g2p import G2P, LetterMap
from dualform.checkpoints.pretrained.load import load_known
from dualform.checkpoints.pretrained.nsnet2 import NSNet2
from dualform.checkpoints.pretrained.silero_vad import SileroVAD
from dualform.checkpoints.pretrained.textgenrnn import TextGenRNN
from dualform.models.model import AbstractChain

__all__ = ["AbstractChain", "G2P", "LetterMap", "NSNet2", "SileroVAD", "TextGenRNN", "load_known"]
