"""Files of rwkv.cpp's format: what is written is read to the bit, and what is wrong with a file is said in a sentence."""

import struct
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from dualform.checkpoints import read_rwkv4
from dualform.checkpoints.rwkv4_file import MAGIC
from dualform.errors import DualformError, FileError, InputError
from tests.laws import laws

VOCABULARY, D, LAYERS, HIDDEN = 5, 3, 2, 4
HEADER: dict[str, int] = {
    "magic": MAGIC,
    "version": 101,
    "vocabulary": VOCABULARY,
    "d": D,
    "layers": LAYERS,
    "dtype": 0,
}


def arrays() -> dict[str, np.ndarray]:
    """Every array of a model of two layers by the file's names, its numbers exact in float16."""
    shapes: dict[str, tuple[int, ...]] = {"emb.weight": (VOCABULARY, D), "head.weight": (VOCABULARY, D)}
    for name in ("blocks.0.ln0", "ln_out", *(f"blocks.{i}.ln{j}" for i in range(LAYERS) for j in (1, 2))):
        shapes |= {f"{name}.weight": (D,), f"{name}.bias": (D,)}
    for i in range(LAYERS):
        vectors = "time_mix_k", "time_mix_v", "time_mix_r", "time_first", "time_decay"
        shapes |= {f"blocks.{i}.att.{name}": (D,) for name in vectors}
        shapes |= {f"blocks.{i}.att.{name}.weight": (D, D) for name in ("key", "value", "receptance", "output")}
        shapes |= {f"blocks.{i}.ffn.{name}": (D,) for name in ("time_mix_k", "time_mix_r")}
        shapes |= {f"blocks.{i}.ffn.key.weight": (HIDDEN, D), f"blocks.{i}.ffn.value.weight": (D, HIDDEN)}
        shapes[f"blocks.{i}.ffn.receptance.weight"] = (D, D)
    rng = np.random.default_rng(0)
    drawn: dict[str, Any] = {name: rng.integers(-64, 64, shape).astype("<f4") / 32 for name, shape in shapes.items()}
    for i in range(LAYERS):
        drawn[f"blocks.{i}.att.time_decay"] = -np.abs(drawn[f"blocks.{i}.att.time_decay"]) - np.float32(0.5)
    return drawn


def written(given: dict[str, np.ndarray], **header: int) -> bytes:
    """The file's bytes."""
    data = [struct.pack("<6i", *(HEADER | header).values())]
    for name, array in given.items():
        code = {"float32": 0, "float16": 1}[array.dtype.name]
        data.append(
            struct.pack("<3i", array.ndim, len(name), code) + struct.pack(f"<{array.ndim}i", *array.shape[::-1])
        )
        data.append(name.encode() + array.tobytes())
    return b"".join(data)


@pytest.mark.parametrize("version", [100, 101])
@pytest.mark.parametrize("dtype", ["<f4", "<f2"])
def test_what_is_written_is_read(tmp_path, version, dtype):
    """Every array is where it belongs, to the bit; a decay is stored as -exp(log_rate)."""
    given = arrays()
    stored = {name: array.astype(dtype) if array.ndim == 2 else array for name, array in given.items()}
    (tmp_path / "m.bin").write_bytes(written(stored, version=version, dtype=int(dtype == "<f2")))
    model: Any = read_rwkv4(tmp_path / "m.bin")
    assert len(model.blocks) == 2 * LAYERS and model.vocabulary == VOCABULARY
    time, channel = model.blocks[2], model.blocks[3]
    found = {
        "emb.weight": model.embedding,
        "head.weight": model.head,
        "blocks.0.ln0.weight": model.embedding_norm.weight,
        "ln_out.bias": model.norm.bias,
        "blocks.1.ln1.bias": time.norm.bias,
        "blocks.1.ln2.weight": channel.norm.weight,
        "blocks.1.att.time_mix_v": time.mixer.mu_v,
        "blocks.1.att.time_first": time.mixer.u,
        "blocks.1.att.receptance.weight": time.mixer.w_r,
        "blocks.1.att.output.weight": time.mixer.w_o,
        "blocks.1.ffn.time_mix_r": channel.mixer.mu_r,
        "blocks.1.ffn.key.weight": channel.mixer.w_k,
        "blocks.1.ffn.value.weight": channel.mixer.w_v,
    }
    for name, array in found.items():
        assert array.dtype == jnp.float32, name
        np.testing.assert_array_equal(array, given[name], name)
    np.testing.assert_allclose(time.mixer.log_decay(), given["blocks.1.att.time_decay"], rtol=1e-6)
    assert bool(jnp.isfinite(laws.call(model, jnp.arange(VOCABULARY))[0]).all())


def changed(name: str, change) -> bytes:
    """The file with one array changed, or left out where the change gives None."""
    given = arrays()
    after = change(given.pop(name))
    return written(given if after is None else given | {name: after})


WHOLE = written(arrays())
CUT = WHOLE[: WHOLE.index(b"blocks.0.ffn.time_mix_k") - 16]
W = "blocks.1.att.key.weight"
BAD: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is not a file of RWKV weights in rwkv.cpp's format: it does not begin as one"),
    "half a header": (WHOLE[:20], "is not a file of RWKV weights"),
    "foreign": (b"GGUF" + WHOLE[4:], "is not a file of RWKV weights in rwkv.cpp's format"),
    "version": (written(arrays(), version=102), "has format version 102; 100 and 101 can be read here"),
    "quantised": (written(arrays(), dtype=7), r"is quantised \(dtype 7\); convert it to FP32 or FP16"),
    "no width": (written(arrays(), d=0), "says that it has 5 tokens, width 0 and 2 layers. It is damaged"),
    "only a header": (WHOLE[:24], "lacks blocks.0.att.key.weight and other arrays. It is truncated"),
    "cut in an array's head": (WHOLE[:30], "ends, or is damaged, after the header. Copy or convert it again"),
    "cut in a name": (WHOLE[:50], "ends, or is damaged, after the header"),
    "cut in numbers": (WHOLE[:-1], r"ends, or is damaged, after blocks.1.ffn.value.weight"),
    "cut between arrays": (
        CUT,
        r"lacks blocks.0.ffn.key.weight and other arrays. It is truncated",
    ),
    "quantised array": (WHOLE[:32] + struct.pack("<i", 2) + WHOLE[36:], "an array of 2 dimensions and dtype 2"),
    "three dimensions": (WHOLE[:24] + struct.pack("<i", 3) + WHOLE[28:], "an array of 3 dimensions and dtype 0"),
    "negative side": (WHOLE[:36] + struct.pack("<i", -3) + WHOLE[40:], r"an array 'emb.weight' of shape \(5, -3\)"),
    "huge side": (WHOLE[:36] + struct.pack("<i", 2**31 - 1) + WHOLE[40:], "ends, or is damaged, after the header"),
    "negative name": (WHOLE[:28] + struct.pack("<i", -1) + WHOLE[32:], "ends, or is damaged, after the header"),
    "twice": (WHOLE + WHOLE[24:], "an array 'emb.weight' of shape .* or twice"),
    "another name": (
        WHOLE.replace(b"att.time_first", b"att.time_faaaa"),
        "has blocks.0.att.time_faaaa, which no RWKV-4",
    ),
    "more layers": (written(arrays(), layers=3), "lacks blocks.2.att.key.weight and other arrays"),
    "billions of layers": (written(arrays(), layers=2**31 - 1), "lacks blocks.10.att.key.weight and other arrays"),
    "fewer layers": (written(arrays(), layers=1), "has blocks.1.att.key.weight, which no RWKV-4 of 1 layers has"),
    "other vocabulary": (
        written(arrays(), vocabulary=6),
        r"says that it has 6 tokens of width 3, and its emb.weight is",
    ),
    "a missing array": (changed(W, lambda w: None), rf"lacks {W}\. It is truncated"),
    "a wide array": (
        changed(W, lambda w: np.ones((3, 4), "<f4")),
        r"do not fit together: RWKV4TimeMixing.w_k has shape",
    ),
    "NaN": (changed(W, lambda w: w * np.float32("nan")), f"has a number in {W} that is not finite"),
    "infinity": (changed(W, lambda w: np.full_like(w, np.inf)), f"has a number in {W} that is not finite"),
    "log rates": (
        changed("blocks.0.att.time_decay", lambda w: -w),
        r"blocks.0.att.time_decay in .* has an entry of [\d.]+; decays are stored as w = -exp\(log_rate\), below 0",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files(tmp_path, unchecked, case):
    """What is wrong is named, with the file, and nothing else happens."""
    data, message = BAD[case]
    path = tmp_path / "bad.bin"
    path.write_bytes(data)
    with pytest.raises((FileError, InputError), match=message) as caught:
        read_rwkv4(path)
    assert isinstance(caught.value, DualformError) and repr(str(path)) in str(caught.value)


def test_no_file(tmp_path):
    """A path without a file, and a folder, are named."""
    with pytest.raises(FileError, match=r"there is no file '.*none.bin'. Check the path"):
        read_rwkv4(tmp_path / "none.bin")
    with pytest.raises(FileError, match="is a folder; give the path of a file"):
        read_rwkv4(tmp_path)
