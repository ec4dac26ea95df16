"""Files of weights: one reader for each format, every one of which gives (arrays by name, metadata) and never unpickles."""

from dualform.models.files.gguf import read_gguf
from dualform.models.files.hdf5 import read_hdf5
from dualform.models.files.npz import read_npz
from dualform.models.files.onnx import read_onnx
from dualform.models.files.reader import read_arrays

__all__ = ["read_arrays", "read_gguf", "read_hdf5", "read_npz", "read_onnx"]
