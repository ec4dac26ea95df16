"""Recurrences: pure functions on arrays, each beside the naive loop that is its specification."""

from dualform.recurrences.attention import attend
from dualform.recurrences.cells import cell
from dualform.recurrences.convolutions import convolution
from dualform.recurrences.delta_rule import delta
from dualform.recurrences.dense_scan import dense
from dualform.recurrences.diagonal_scan import diagonal
from dualform.recurrences.outer_product import outer
from dualform.recurrences.prefixes import many_to_one
from dualform.recurrences.selective_scan import selective
from dualform.recurrences.softmax import softmax_scan
from dualform.recurrences.windows import window
from dualform.recurrences.wkv_average import wkv

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
