"""Recurrences: pure functions on arrays, each beside the naive loop that is its specification."""

from dualform.recurrences.attend import attend
from dualform.recurrences.cell import cell
from dualform.recurrences.convolution import convolution
from dualform.recurrences.delta import delta
from dualform.recurrences.dense import dense
from dualform.recurrences.diagonal import diagonal
from dualform.recurrences.many_to_one import many_to_one
from dualform.recurrences.outer import outer
from dualform.recurrences.selective import selective
from dualform.recurrences.softmax import softmax_scan
from dualform.recurrences.window import window
from dualform.recurrences.wkv import wkv

__all__ = [
    "attend",
    "cell",
    "convolution",
    "delta",
    "dense",
    "diagonal",
    "many_to_one",
    "outer",
    "selective",
    "softmax_scan",
    "window",
    "wkv",
]
