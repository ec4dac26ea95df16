"""Checkpoints: all that brings weights. `load` is the one door: own files, published folders and files, real models by name."""

from dualform.checkpoints.catalogue import known
from dualform.checkpoints.download import get
from dualform.checkpoints.files import read_arrays
from dualform.checkpoints.loading import Loaded, load
from dualform.checkpoints.rwkv4_file import read_rwkv4
from dualform.checkpoints.weights import load_weights, save_weights

__all__ = ["Loaded", "get", "known", "load", "load_weights", "read_arrays", "read_rwkv4", "save_weights"]
