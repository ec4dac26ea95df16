"""Files of weights: one reader for each format, every one of which gives (arrays by name, metadata) and never unpickles."""

from dualform.checkpoints.files.gguf import read_gguf
from dualform.checkpoints.files.hdf5 import read_hdf5
from dualform.checkpoints.files.npz import read_npz
from dualform.checkpoints.files.onnx import read_onnx
from dualform.checkpoints.files.reader import read_arrays

__all__ = ["read_arrays", "read_gguf", "read_hdf5", "read_npz", "read_onnx"]
