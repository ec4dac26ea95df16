"""Real trained models, built of dualform's mixers: each does its job, and each is a chain of stages that can be frozen."""

from dualform.models.pretrained.chain import AbstractChain
from dualform.models.pretrained.g2p import G2P, LetterMap
from dualform.models.pretrained.load import load_known
from dualform.models.pretrained.nsnet2 import NSNet2
from dualform.models.pretrained.silero_vad import SileroVAD
from dualform.models.pretrained.textgenrnn import TextGenRNN

__all__ = ["AbstractChain", "G2P", "LetterMap", "NSNet2", "SileroVAD", "TextGenRNN", "load_known"]
