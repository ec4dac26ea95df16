"""Weights on disk: to the bit, with the mixer's class in the file, and clear words for any other file."""

import functools
import json
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
import pytest
from safetensors.numpy import save_file

from dualform.checkpoints import load_weights, save_weights
from dualform.errors import FileError, InputError
from dualform.mixers import GatedRNN, LinearAttention, SideGatedRNN, registry
from dualform.models import Stack
from tests.laws import laws


@functools.cache
def kinds() -> list[Any]:
    """Modules of every kind of structure, in float64: arrays that are given or not, every mixer, a stack."""
    key = jr.key(0)
    rnn, attention = GatedRNN.make(3, key=key, n=5, m=4, d_out=2), LinearAttention.make(4, key=key)
    side = laws.make("side_gated_rnn")
    return [
        rnn,
        GatedRNN(
            w_m_in=rnn.w_m_in,
            w_x_in=rnn.w_x_in,
            w_m_out=rnn.w_m_out,
            w_x_out=rnn.w_x_out,
            readout=rnn.readout,
            decay=rnn.decay,
        ),
        side,
        SideGatedRNN(**dict.fromkeys(("w_m_in", "w_x_in", "w_side"), np.ones((4, 3))), readout=np.ones((2, 4))),
        attention,
        LinearAttention(attention.w_v, attention.w_k, attention.w_q, np.ones((7, 4))),
        *map(laws.make, registry()),
        Stack.make((laws.make("lru_in_out"), laws.make("gru")), 3, 2, key=key),
    ]


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
def test_round_trip(tmp_path, dtype):
    """Every mixer comes back as it was: class, dtypes, shapes, and values to the bit; the same weights, the same bytes."""
    for number, mixer in enumerate(laws.rounded_to(dtype, kinds())):
        path = tmp_path / f"{number}.safetensors"
        save_weights(path, mixer)
        found = load_weights(path, type(mixer))
        assert jtu.tree_structure(found) == jtu.tree_structure(mixer)
        for a, b in zip(jtu.tree_leaves(found), jtu.tree_leaves(mixer), strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(np.asarray(a).view(np.uint8), np.asarray(b).view(np.uint8))
        before = path.read_bytes()
        save_weights(path, mixer)
        assert path.read_bytes() == before


def test_other_reader(tmp_path, getkey):
    """The file is plain safetensors: the reference reader finds the same arrays, aligned, and the metadata."""
    from safetensors import safe_open

    rnn = laws.cast(kinds()[0], jnp.float32)
    save_weights(tmp_path / "w.safetensors", rnn)
    with safe_open(tmp_path / "w.safetensors", framework="np") as file:
        metadata = file.metadata()
        structure = json.loads(metadata.pop("structure"))
        assert metadata == {"format": "dualform", "version": "2", "mixer": "GatedRNN"}
        assert structure == {"class": "GatedRNN", "parts": {}, "settings": {"decay": None}}
        np.testing.assert_array_equal(file.get_tensor("w_m_out"), rnn.w_m_out)
    size = int.from_bytes((tmp_path / "w.safetensors").read_bytes()[:8], "little")
    assert size % 8 == 0


def saved(tmp_path, metadata, **changed):
    arrays = {name: np.ones((2, 3), np.float32) for name in ("w_v", "w_k", "w_q")} | changed
    path = tmp_path / "w.safetensors"
    save_file({name: array for name, array in arrays.items() if array is not None}, path, metadata)
    return path


SOUND = {"format": "dualform", "version": "1", "mixer": "LinearAttention"}


@pytest.mark.parametrize(
    "metadata, changed, error, message",
    [
        (None, {}, FileError, "does not say which mixer it holds: it was not written by save_weights"),
        (SOUND | {"version": "3"}, {}, FileError, "has format version 3; this dualform reads 1 and 2. Update it"),
        (SOUND | {"version": "2"}, {}, FileError, "does not say what its LinearAttention is made of. Write it again"),
        (
            SOUND | {"version": "2", "structure": '{"class": "LinearAttention", "parts": {"a": 3}, "settings": {}}'},
            {},
            FileError,
            "does not say what its LinearAttention is made of",
        ),
        (
            SOUND | {"mixer": "Unheard"},
            {},
            FileError,
            "holds a Unheard, which this dualform does not know; it knows Aaren, CausalConvolution, ",
        ),
        (SOUND, {"w_q": None}, FileError, "lacks w_q, which a LinearAttention needs. Write it again"),
        (SOUND, {"w_z": np.ones(3, np.float32)}, FileError, "has what no LinearAttention has: w_z"),
        (
            SOUND,
            {"w_q": np.ones((2, 4), np.float32)},
            InputError,
            "do not fit together: LinearAttention.w_q has shape",
        ),
    ],
)
def test_foreign_files(tmp_path, metadata, changed, error, message):
    """What a file lacks, or has too much of, is named."""
    with pytest.raises(error, match=message):
        load_weights(saved(tmp_path, metadata, **changed))


def test_wrong_mixer(tmp_path):
    """Another mixer than the one that is needed."""
    with pytest.raises(FileError, match="holds a LinearAttention, and a GatedRNN is needed here. Check the path"):
        load_weights(saved(tmp_path, SOUND), GatedRNN)


def test_decays_out_of_range(tmp_path, getkey):
    """Weights that no such network can have are refused as its constructor refuses them."""
    rnn = laws.cast(kinds()[1], jnp.float32)
    save_weights(tmp_path / "w.safetensors", rnn)
    from dualform.tensor_file import read_tensors

    arrays, metadata = read_tensors(tmp_path / "w.safetensors")
    arrays["decay"] = arrays["decay"] + 1
    save_file(arrays, tmp_path / "w.safetensors", metadata)
    with pytest.raises(InputError, match=r"do not fit together: lambda has an entry of 1.* Clip it"):
        load_weights(tmp_path / "w.safetensors")


def test_truncated_weights(tmp_path):
    """A file cut short, and one that is not there."""
    path = saved(tmp_path, SOUND)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(FileError, match="is not a whole safetensors file"):
        load_weights(path)
    with pytest.raises(FileError, match="there is no file"):
        load_weights(tmp_path / "other.safetensors")


def test_unknown_kind_is_not_saved(tmp_path, getkey):
    """A mixer without a file format, alone or in a stack, is refused before anything is written."""

    class Own(LinearAttention):
        pass

    own = Own(*jnp.ones((3, 2, 2)))
    for mixer in (own, Stack.make((own,), 2, 2, key=getkey())):
        with pytest.raises(InputError, match="a Own cannot be saved; Aaren, CausalConvolution, .* can"):
            save_weights(tmp_path / "w.safetensors", mixer)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "change, error, message",
    [
        ({"readout": None}, FileError, "lacks readout, which a Stack needs"),
        ({"other": np.ones(1)}, FileError, "has what no Stack has: other"),
        ({"layers.7.u": np.ones(1)}, FileError, "has what no Stack has: layers.7.u"),
        ({"layers.0.core.nu": None}, FileError, "lacks nu, which a LRU needs"),
        ({"layers.0.core.theta": np.ones(9)}, InputError, "do not fit together: LRU.theta has shape"),
        ({"embedding": np.ones((3, 3))}, InputError, "do not fit together: layer 1 takes tokens of width 4"),
    ],
)
def test_damaged_stacks(tmp_path, getkey, change, error, message):
    """What a stack's file lacks, or has too much of, is named, down to the part of a layer."""
    from dualform.tensor_file import read_tensors

    path = tmp_path / "w.safetensors"
    save_weights(path, kinds()[-1])
    arrays, metadata = read_tensors(path)
    save_file({k: v for k, v in (arrays | change).items() if v is not None}, path, metadata)
    with pytest.raises(error, match=message):
        load_weights(path)


def test_float64_without_float64_enabled(tmp_path, getkey):
    """A float64 file is rounded to float32 where JAX has no float64."""
    rnn = kinds()[0]
    save_weights(tmp_path / "w.safetensors", rnn)
    with jax.enable_x64(False):
        found = load_weights(tmp_path / "w.safetensors")
    assert isinstance(found, GatedRNN) and found.readout.dtype == jnp.float32
    np.testing.assert_array_equal(found.readout, np.asarray(rnn.readout).astype(np.float32))
