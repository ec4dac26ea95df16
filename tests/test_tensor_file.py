"""Safetensors files: arrays are read when they are asked for, one at a time, from the file that was opened."""

import collections
import os
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from dualform import checkpoints
from dualform.errors import FileError
from dualform.tensor_file import _Place, open_tensors, read_tensors, write_tensors
from tests.models.families import language_model

ARRAYS = {
    "a": np.arange(6.0).reshape(2, 3),
    "b": np.asarray([1, -2, 3], ml_dtypes.bfloat16),
    "empty": np.zeros((0, 4), np.float32),
    "number": np.asarray(7, np.int32),
    "flags": np.asarray([True, False]),
}


@pytest.fixture
def path(tmp_path):
    write_tensors(tmp_path / "w.safetensors", ARRAYS, {"who": "me"})
    return tmp_path / "w.safetensors"


@pytest.fixture
def reads(monkeypatch):
    """How often each place of a file is read."""
    counts, read_into = collections.Counter(), _Place.read_into

    def counted(place, array, offset):
        counts[offset] += 1
        return read_into(place, array, offset)

    monkeypatch.setattr(_Place, "read_into", counted)
    return counts


def test_nothing_is_read_before_it_is_asked_for(path, reads):
    """The header alone says dtypes and shapes; an array is read as often as it is asked for."""
    stored, metadata = open_tensors(path)
    assert metadata == {"who": "me"} and set(reads) == {0, 8}  # the header's length, and the header
    reads.clear()
    for name, array in ARRAYS.items():
        assert (stored[name].dtype, stored[name].shape) == (array.dtype, array.shape)
        assert (stored[name].ndim, stored[name].size) == (array.ndim, array.size)
    assert not reads
    np.testing.assert_array_equal(np.asarray(stored["a"]), ARRAYS["a"])
    assert np.asarray(stored["a"], np.float32).dtype == np.float32 and sum(reads.values()) == 2


def test_arrays_are_those_that_were_written(path):
    """Every dtype and shape, to the bit, and each array its own memory."""
    found, _ = read_tensors(path)
    for name, array in ARRAYS.items():
        assert found[name].tobytes() == array.tobytes() and found[name].shape == array.shape
    found["a"][:] = 0
    assert read_tensors(path)[0]["a"].any()


def test_a_file_that_is_cut_while_it_is_read(path):
    """What is missing is an error, not zeros or other arrays' numbers."""
    stored, _ = open_tensors(path)
    os.truncate(path, path.stat().st_size - 60)
    with pytest.raises(FileError, match="ends too early: it was changed while it was read"):
        for array in stored.values():
            np.asarray(array)


def test_a_file_that_is_replaced_while_it_is_read(path, tmp_path):
    """Written anew, a file is another one: what was opened is read to its end."""
    stored, _ = open_tensors(path)
    write_tensors(path, {"other": np.ones(3)})
    np.testing.assert_array_equal(np.asarray(stored["a"]), ARRAYS["a"])


def test_a_published_checkpoint_is_read_once(reads):
    """Every tensor of a checkpoint is read a single time: memory holds the model and the tensor that is being read."""
    checkpoints.load(Path(__file__).parent / "oracles" / "data" / "checkpoints" / "llama")
    assert len(reads) > 2 and set(reads.values()) == {1}


def test_a_model_comes_back_whole(tmp_path):
    """A file of weights, read array by array, is the model that was saved."""
    model = language_model("gla")
    checkpoints.save_weights(tmp_path / "m.safetensors", model)
    found = checkpoints.load(tmp_path / "m.safetensors").model
    assert found.blocks[0].mixer.w_q.tolist() == model.blocks[0].mixer.w_q.tolist()
