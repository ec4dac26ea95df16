"""Recurrences: pure functions on arrays, each beside the naive loop that is its specification."""

from dualform.recurrences.convolution import convolution
from dualform.recurrences.delta import delta
from dualform.recurrences.dense import dense
from dualform.recurrences.diagonal import diagonal
from dualform.recurrences.outer import outer

__all__ = ["convolution", "delta", "dense", "diagonal", "outer"]
