"""Files of weights: what was written is read, and what is wrong, foreign or hostile gets a sentence."""

import io
import json
import struct
import sys
import zipfile
from pathlib import Path

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from numpy.lib import format as npy
from safetensors.numpy import save_file

from dualform.checkpoints.files import read_arrays, read_gguf, read_hdf5, read_npz, read_onnx
from dualform.checkpoints.files.npz import read_npy
from dualform.errors import FileError

ABSENT = "the optional package that reads such files is not installed"
RNG = np.random.default_rng(0)
ARRAYS = {"w": RNG.normal(size=(3, 4)).astype(np.float32), "b": RNG.normal(size=5), "n": np.arange(3)}


def write_hdf5(path: Path, arrays=ARRAYS, **options) -> Path:
    h5py = pytest.importorskip("h5py", reason=ABSENT)
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file.create_dataset(f"layer/{name}", data=array, **options)
        file.attrs["backend"] = np.bytes_("tensorflow")
        file.attrs["of variable length"] = "which is not read"
        file.attrs["layers"] = [1, 2]
    return path


def write_onnx(path: Path, arrays=ARRAYS, change=lambda model: None) -> Path:
    onnx = pytest.importorskip("onnx", reason=ABSENT)
    tensors = [onnx.numpy_helper.from_array(array, name) for name, array in arrays.items()]
    graph = onnx.helper.make_graph([], "graph", [], [], initializer=tensors)
    model = onnx.helper.make_model(graph, producer_name="test")
    change(model)
    path.write_bytes(model.SerializeToString())
    return path


def write_gguf(path: Path, arrays=ARRAYS, kinds=None) -> Path:
    gguf = pytest.importorskip("gguf", reason=ABSENT)
    writer = gguf.GGUFWriter(path, "test")
    writer.add_string("general.name", "a model")
    writer.add_array("tokens", ["a", "b"])
    writer.add_array("scores", [0.5, 1.5])
    for name, array in arrays.items():
        kind = gguf.GGMLQuantizationType[(kinds or {})[name]] if name in (kinds or {}) else None
        writer.add_tensor(name, array if kind is None else gguf.quants.quantize(array, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_npz(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def npy_bytes(array: np.ndarray, shape=None) -> bytes:
    """An .npy file, whose header may say that it has another shape."""
    file = io.BytesIO()
    header = npy.header_data_from_array_1_0(array) | ({} if shape is None else {"shape": shape})
    npy.write_array_header_1_0(file, header)
    return file.getvalue() + array.tobytes()


def header_of_gguf(tensors=0, metadata=0, body=b"", version=3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, metadata) + body


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def tensor_of_gguf(name: str, shape, offset=0, kind=0) -> bytes:
    return (
        text(name)
        + struct.pack("<I", len(shape))
        + struct.pack(f"<{len(shape)}Q", *shape)
        + struct.pack("<IQ", kind, offset)
    )


def same(found: dict, expected: dict) -> None:
    assert set(found) == set(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


def test_npz(tmp_path):
    """Arrays come back by name, in their own dtypes, compressed or not."""
    for i, save in enumerate((np.savez, np.savez_compressed)):
        save(tmp_path / f"{i}.npz", **ARRAYS, scalar=np.float32(2), turned=np.asfortranarray(ARRAYS["w"]))
        found, metadata = read_npz(tmp_path / f"{i}.npz")
        same(found, ARRAYS | {"scalar": np.asarray(np.float32(2)), "turned": ARRAYS["w"]})
        assert metadata == {}


def test_hdf5(tmp_path):
    """Arrays come back by their path, and the root's texts of fixed length as metadata."""
    for options in ({}, {"compression": "gzip", "shuffle": True}):
        found, metadata = read_hdf5(write_hdf5(tmp_path / "w.h5", **options))
        same(found, {f"layer/{name}": array for name, array in ARRAYS.items()})
        assert metadata == {"backend": "tensorflow"}


def test_onnx(tmp_path):
    """Initialisers come back by name, in their own dtypes, those kept number by number and in bfloat16, too."""
    onnx = pytest.importorskip("onnx", reason=ABSENT)
    half = ARRAYS["w"].astype(ml_dtypes.bfloat16)

    def change(model):
        listed = onnx.helper.make_tensor("listed", onnx.TensorProto.FLOAT, [2], [1.5, 2.5])
        model.graph.initializer.append(listed)
        brain = onnx.helper.make_tensor("half", onnx.TensorProto.BFLOAT16, half.shape, half.tobytes(), raw=True)
        model.graph.initializer.append(brain)

    found, metadata = read_onnx(write_onnx(tmp_path / "w.onnx", change=change))
    half = found.pop("half")
    np.testing.assert_allclose(half.astype(np.float32), ARRAYS["w"], rtol=2**-8)
    same(found, ARRAYS | {"listed": np.asarray([1.5, 2.5], np.float32)})
    assert metadata["producer"] == "test" and metadata["opset"].startswith("ai.onnx ")


def test_gguf(tmp_path):
    """Plain tensors come back as they are, quantised ones within half a step of their block, and metadata as text."""
    arrays = {f"t{kind}": RNG.normal(size=(3, 64)).astype(np.float32) for kind in ("Q4_0", "Q4_1", "Q8_0", "F16")}
    kinds = {name: name[1:] for name in arrays}
    found, metadata = read_gguf(write_gguf(tmp_path / "w.gguf", ARRAYS | arrays, kinds))
    assert metadata["general.name"] == "a model" and json.loads(metadata["tokens"]) == ["a", "b"]
    assert json.loads(metadata["scores"]) == [0.5, 1.5]
    same({name: found.pop(name) for name in ARRAYS}, ARRAYS)
    for name, step in (("tQ4_0", 1 / 8), ("tQ4_1", 1 / 15), ("tQ8_0", 1 / 127), ("tF16", 2**-10)):
        blocks, read = (a.astype(np.float32).reshape(-1, 32) for a in (arrays[name], found[name]))
        spread = 2 * np.abs(blocks).max(1, keepdims=True)
        assert found[name].shape == (3, 64) and (np.abs(read - blocks) <= 0.51 * step * spread + 1e-3).all(), name
        assert (read != blocks).any()


def test_any_format_is_told_by_its_content(tmp_path):
    """`read_arrays` reads every format, whatever the file is called, ONNX by its ending."""
    floats = {name: array for name, array in ARRAYS.items() if name != "n"}
    np.savez(tmp_path / "w.npz", **floats)
    save_file(floats, tmp_path / "w.safetensors")
    for path in (tmp_path / "w.npz", tmp_path / "w.safetensors"):
        renamed = path.rename(path.with_suffix(".weights"))
        same(read_arrays(renamed)[0], floats)
    same(read_arrays(write_gguf(tmp_path / "w.bin", floats))[0], floats)
    same(read_arrays(write_onnx(tmp_path / "w.onnx", floats))[0], floats)
    assert set(read_arrays(write_hdf5(tmp_path / "w.dat"))[0]) == {"layer/w", "layer/b", "layer/n"}


READERS = {"npz": read_npz, "h5": read_hdf5, "onnx": read_onnx, "gguf": read_gguf}
WRITERS = {"h5": write_hdf5, "onnx": write_onnx, "gguf": write_gguf}


@pytest.mark.parametrize("ending", READERS)
def test_no_file_a_folder_and_a_foreign_file(ending, tmp_path):
    """A path that leads nowhere, to a folder, or to a file of another kind gets a sentence that names it."""
    if ending != "npz":
        pytest.importorskip("h5py" if ending == "h5" else ending, reason=ABSENT)
    read, path = READERS[ending], tmp_path / f"w.{ending}"
    with pytest.raises(FileError, match=r"there is no file .*w\."):
        read(path)
    with pytest.raises(FileError, match="is a folder; give the path of an? .* in it"):
        read(tmp_path)
    for content in (b"", b"to be or not to be, that is the question", bytes(200)):
        path.write_bytes(content)
        with pytest.raises(
            FileError, match=r"w\..* is not a whole .* file \(.*\). It is truncated, damaged or of another"
        ):
            read(path)


@pytest.mark.parametrize("ending", READERS)
def test_every_truncation_is_refused(ending, tmp_path):
    """Cut short anywhere, a file is refused with a sentence, or gives what it gave whole: ONNX and padding have no end mark."""
    path = tmp_path / f"w.{ending}"
    if ending == "npz":
        np.savez(path, **ARRAYS)
    else:
        WRITERS[ending](path)
    whole, data = READERS[ending](path)[0], path.read_bytes()
    refused = 0
    for length in range(0, len(data), max(1, len(data) // 60)):
        path.write_bytes(data[:length])
        try:
            found = READERS[ending](path)[0]
            assert set(found) <= set(whole)
            for name, array in found.items():
                np.testing.assert_array_equal(array, whole[name])
        except FileError as error:
            refused += 1
            assert str(path) in str(error)
    assert refused > 40


@pytest.mark.parametrize("ending", READERS)
def test_a_flipped_byte_is_never_an_odd_error(ending, tmp_path):
    """With any one byte changed, a file is read or refused with a sentence; nothing else happens."""
    path = tmp_path / f"w.{ending}"
    if ending == "npz":
        np.savez(path, **ARRAYS)
    else:
        WRITERS[ending](path)
    data, refused = bytearray(path.read_bytes()), 0
    for place in range(0, len(data), max(1, len(data) // 150)):
        damaged = bytearray(data)
        damaged[place] ^= 0xFF
        path.write_bytes(damaged)
        try:
            READERS[ending](path)
        except FileError:
            refused += 1
    assert refused > 10


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("ending", [*READERS, "safetensors"])
def test_numbers_that_are_not_finite(ending, value, tmp_path):
    """NaN and infinity are refused, with the array, the place and how many there are."""
    path, bad = tmp_path / f"w.{ending}", {"w": ARRAYS["w"].copy()}
    bad["w"][1, 2:] = value
    if ending == "npz":
        np.savez(path, **bad)
    elif ending == "safetensors":
        save_file(bad, path)
    else:
        WRITERS[ending](path, bad)
    with pytest.raises(FileError, match=rf"w in .* has an entry of {value} at \(1, 2\), and 2 such in all"):
        read_arrays(path)


@pytest.mark.parametrize("kind", [">f4", ">f8", ">i2", ">c8"])
def test_arrays_are_in_the_order_of_this_machine(kind, tmp_path):
    """What another machine wrote with its bytes in the other order are the same numbers, and JAX takes them."""
    array = ARRAYS["w"].astype(kind)
    np.savez(tmp_path / "a.npz", w=array)
    np.save(tmp_path / "a.npy", array)
    for found in (
        read_npz(tmp_path / "a.npz")[0]["w"],
        read_npy(tmp_path / "a.npy"),
        read_hdf5(write_hdf5(tmp_path / "a.h5", {"w": array}))[0]["layer/w"],
    ):
        assert found.dtype.isnative and found.dtype == np.dtype(kind).newbyteorder("=")
        np.testing.assert_array_equal(found, array)
        assert jnp.asarray(found).shape == array.shape


def test_numbers_wider_than_64_bits_are_refused(tmp_path):
    """Long doubles are of one machine, and no program here computes with them."""
    if np.dtype(np.longdouble).itemsize <= 8:
        pytest.skip("a long double is a double here")
    np.savez(tmp_path / "a.npz", w=np.ones(2, np.longdouble))
    with pytest.raises(FileError, match="w in .*a.npz' has dtype float128; numbers are needed. Save it as float32 or"):
        read_npz(tmp_path / "a.npz")


def test_npz_with_objects_is_not_unpickled(tmp_path):
    """An array of objects is refused before anything is unpickled."""

    class Mine:
        def __reduce__(self):
            return (pytest.fail, ("unpickled",))

    np.savez(tmp_path / "w.npz", w=np.asarray([Mine()], dtype=object), allow_pickle=True)
    with pytest.raises(FileError, match="w in .* holds Python objects, which only unpickling could read"):
        read_npz(tmp_path / "w.npz")


def test_pickles_are_named(tmp_path):
    """A pickle, bare or in PyTorch's archive, is refused as what it is, with what to do."""
    write_npz(tmp_path / "model.pt", {"model/data.pkl": b"\x80\x02}q\x00."})
    (tmp_path / "model.pkl").write_bytes(b"\x80\x04}\x94.")
    for name in ("model.pt", "model.pkl"):
        with pytest.raises(FileError, match="is a pickle.*unpickling runs whatever code.*safetensors instead"):
            read_arrays(tmp_path / name)


@pytest.mark.parametrize(
    ("members", "says"),
    [
        (
            {"w.npy": npy_bytes(np.zeros(3), (10**9, 10**9))},
            "has 24 bytes, and its shape .* needs 8,000,000,000,000,000,000",
        ),
        ({"w.npy": npy_bytes(np.zeros(3), (2,))}, "has 24 bytes, and its shape .* needs 16"),
        ({"w.npy": npy_bytes(np.zeros(3), (-1, -3))}, "which no array of weights has"),
        ({"w.npy": npy_bytes(np.zeros(0), (0, 2**63))}, "which no array of weights has"),
        ({"w.npy": npy_bytes(np.zeros(1), (1,) * 30)}, "which no array of weights has"),
        ({"w.npy": npy_bytes(np.asarray(["text"]))}, "has dtype <U4; numbers are needed"),
        ({"w.npy": npy_bytes(np.asarray(["2020-02-02"], "datetime64[D]"))}, "numbers are needed"),
        ({"w.npy": b"\x93NUMPY\x09\x00"}, "is of version .*; 1.0 and 2.0 can be read"),
        ({"notes.txt": b"hello"}, "holds 'notes.txt', which is no array"),
        ({"w.npy": bytes(80 * 2**20)}, "says that it holds arrays of 83,886,080. No weights compress that well"),
    ],
)
def test_hostile_npz(members, says, tmp_path):
    """Absurd shapes, foreign members and a zip bomb are refused before memory is taken for them."""
    with pytest.raises(FileError, match=says):
        read_npz(write_npz(tmp_path / "w.npz", members))


def test_hostile_hdf5(tmp_path):
    """What points out of the file, huge arrays that are not there, texts, plug-ins and circles are refused."""
    h5py = pytest.importorskip("h5py", reason=ABSENT)
    secret = write_hdf5(tmp_path / "secret.h5", {"w": ARRAYS["w"]})
    virtual = h5py.VirtualLayout((3, 4), "f4")
    virtual[:] = h5py.VirtualSource(secret, "layer/w", (3, 4))
    cases = {
        "is a link to another place": lambda file: file.__setitem__("w", h5py.ExternalLink(secret, "/layer/w")),
        "is a link to another": lambda file: file.__setitem__("w", h5py.SoftLink("/v")),
        "keeps its numbers in another file": lambda file: file.create_virtual_dataset("w", virtual),
        "w in .* keeps its numbers in another": lambda file: file.create_dataset(
            "w", (12,), "f4", external=[(str(secret), 0, 48)]
        ),
        "No weights compress that well": lambda file: file.create_dataset(
            "w", (10**6, 10**6), "f4", chunks=(1000, 1000)
        ),
        "holds Python objects|numbers are needed": lambda file: file.create_dataset("w", data=["text"]),
        "has the group .* in two places or in itself": lambda file: file.__setitem__("w", file),
        "is no array but a Datatype": lambda file: file.__setitem__("w", np.dtype("f4")),
        "without a shape": lambda file: file.create_dataset("w", data=h5py.Empty("f4")),
    }
    for i, (says, make) in enumerate(cases.items()):
        path = tmp_path / f"{i}.h5"
        with h5py.File(path, "w") as file:
            make(file)
        with pytest.raises(FileError, match=says):
            read_hdf5(path)


def test_hostile_onnx(tmp_path):
    """Weights in other files, shapes that are not what is there, sparse, doubled and textual ones are refused."""
    onnx = pytest.importorskip("onnx", reason=ABSENT)

    def external(model):
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        entry = tensor.external_data.add()
        entry.key, entry.value = "location", "../../etc/passwd"

    def shaped(*shape):
        def change(model):
            del model.graph.initializer[0].dims[:]
            model.graph.initializer[0].dims.extend(shape)

        return change

    texts = lambda model: model.graph.initializer.append(
        onnx.helper.make_tensor("t", onnx.TensorProto.STRING, [1], [b"a"])
    )
    cases = {
        r"w in .* keeps its numbers in '\.\./\.\./etc/passwd', which is not opened": external,
        "has 12 numbers, and its shape .* needs 1,000,000,000,000": shaped(10**6, 10**6),
        r"shape \(-3, -4\), which no array of weights has": shaped(-3, -4),
        "two initialisers of the name 'w'": lambda model: model.graph.initializer.append(model.graph.initializer[0]),
        "sparse weights": lambda model: model.graph.sparse_initializer.add(),
        "holds Python objects|numbers are needed": texts,
        "has the unknown dtype 99": lambda model: setattr(model.graph.initializer[0], "data_type", 99),
    }
    for says, change in cases.items():
        with pytest.raises(FileError, match=says):
            read_onnx(write_onnx(tmp_path / "w.onnx", change=change))


HOSTILE_GGUF = {
    "its version is 1; 2 and 3": header_of_gguf(version=1),
    "bytes are to follow at": header_of_gguf(tensors=2**60),
    "bytes are to follow at 24": header_of_gguf(metadata=2**60),
    "9,223,372,036,854,775,808 bytes are to follow": header_of_gguf(metadata=1, body=struct.pack("<Q", 2**63)),
    # An array of 2^60 items of no size at all would never end.
    "the type 9 within an array": header_of_gguf(
        metadata=1, body=text("a") + struct.pack("<IIQ", 9, 9, 2**60) + struct.pack("<IQ", 9, 0)
    ),
    "a metadatum has the type 77": header_of_gguf(metadata=1, body=text("a") + struct.pack("<I", 77) + bytes(50)),
    "its alignment is '3', no power of two": header_of_gguf(
        metadata=1, body=text("general.alignment") + struct.pack("<II", 4, 3)
    ),
    "which no array of weights has": header_of_gguf(tensors=1, body=tensor_of_gguf("w", [1] * 20) + bytes(64)),
    "shape .9223372036854775808, 0., which no array of weights": header_of_gguf(
        tensors=1, body=tensor_of_gguf("w", [0, 2**63]) + bytes(64)
    ),
    r"w in .* its 4,611,686,018,427,387,904 bytes": header_of_gguf(
        tensors=1, body=tensor_of_gguf("w", [2**30, 2**30]) + bytes(64)
    ),
    # 2^64 elements are 0 where the product overflows.
    "its 73,786,976,294,838,206,464 bytes": header_of_gguf(
        tensors=1, body=tensor_of_gguf("w", [2**32, 2**32]) + bytes(64)
    ),
    "w is there twice|w in .* is there twice": header_of_gguf(tensors=2, body=2 * tensor_of_gguf("w", [1]) + bytes(64)),
    "a and b in .* lie upon each other": header_of_gguf(
        tensors=2, body=tensor_of_gguf("a", [4]) + tensor_of_gguf("b", [4], offset=8) + bytes(64)
    ),
    "has the unknown type 5000": header_of_gguf(tensors=1, body=tensor_of_gguf("w", [1], kind=5000) + bytes(64)),
    "rows are not whole blocks of 32": header_of_gguf(tensors=1, body=tensor_of_gguf("w", [33], kind=2) + bytes(64)),
}


@pytest.mark.parametrize("says", HOSTILE_GGUF)
def test_hostile_gguf(says, tmp_path):
    """Counts, lengths and shapes that the file does not hold, overlaps and unknown types are refused, at once."""
    pytest.importorskip("gguf", reason=ABSENT)
    (tmp_path / "w.gguf").write_bytes(HOSTILE_GGUF[says])
    with pytest.raises(FileError, match=says):
        read_gguf(tmp_path / "w.gguf")


def test_sides_of_zero(tmp_path):
    """An array without entries is one, plain or quantised, in every format; so is one without sides."""
    pytest.importorskip("gguf", reason=ABSENT)
    for kind in (0, 1, 2, 8):
        body = tensor_of_gguf("w", [32, 0], kind=kind) + tensor_of_gguf("v", [0, 3], kind=kind) + bytes(64)
        (tmp_path / "w.gguf").write_bytes(header_of_gguf(tensors=2, body=body))
        found = read_gguf(tmp_path / "w.gguf")[0]
        assert found["w"].shape == (0, 32) and found["v"].shape == (3, 0)
    empty = {"w": np.zeros((0, 3), np.float32), "v": np.zeros((2, 0)), "s": np.float32(1)}
    np.savez(tmp_path / "w.npz", **empty)
    assert {name: array.shape for name, array in read_npz(tmp_path / "w.npz")[0].items()} == {
        "w": (0, 3),
        "v": (2, 0),
        "s": (),
    }
    save_file({name: np.asarray(array) for name, array in empty.items()}, tmp_path / "w.safetensors")
    assert read_arrays(tmp_path / "w.safetensors")[0]["v"].shape == (2, 0)


@pytest.mark.parametrize(
    "head",
    [
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (3, }",
        b"{'descr': (), 'fortran_order': False, 'shape': (3,)}",
    ]
    + [b"{[]: 1}", b"'''", b"{'descr': '<f4', 'fortran_order': False, 'shape': (3, -3)}", b"'\\\x1b'", b"(" * 90]
    + [
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (10**30, 0)}",
        b"{'descr': 'V', 'shape': (), 'fortran_order': 0}",
    ],
)
def test_damaged_headers_of_arrays(head, tmp_path, recwarn):
    """Whatever NumPy's parser makes of a header, alone or in an archive, is a refusal; no warning prints what is in it."""
    text = head.ljust(117) + b"\n"
    data = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + bytes(12)
    write_npz(tmp_path / "a.npz", {"w.npy": data})
    (tmp_path / "a.npy").write_bytes(data)
    for read, name in ((read_npz, "a.npz"), (read_npy, "a.npy")):
        with pytest.raises(FileError) as caught:
            read(tmp_path / name)
        assert str(caught.value).isprintable() and not recwarn.list


@pytest.mark.parametrize("kind", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_every_byte_of_a_compressed_archive(kind, tmp_path):
    """Damaged at any byte, an archive of each compression gives what it gave, or is refused."""
    array, path = np.arange(60.0), tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", kind) as archive:
        archive.writestr("w.npy", npy_bytes(array))
    whole, refused = path.read_bytes(), 0
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 0xFF
        path.write_bytes(damaged)
        try:
            (found,) = read_npz(path)[0].values()
            np.testing.assert_array_equal(found, array)
        except FileError:
            refused += 1
    assert refused > len(whole) // 2


def test_messages_are_short_and_plain(tmp_path):
    """Names that a file gives are cut, and control characters do not reach the terminal."""
    pytest.importorskip("gguf", reason=ABSENT)
    name = "\x1b[2J" + "a" * 10_000
    (tmp_path / "w.gguf").write_bytes(header_of_gguf(tensors=1, body=tensor_of_gguf(name, [1], kind=5000)))
    with pytest.raises(FileError) as refused:
        read_gguf(tmp_path / "w.gguf")
    assert str(refused.value).isprintable() and len(str(refused.value)) < 500
    write_npz(tmp_path / "w.npz", {f"{name}.npy": npy_bytes(np.asarray([np.nan]))})
    with pytest.raises(FileError) as refused:
        read_npz(tmp_path / "w.npz")
    assert str(refused.value).isprintable() and len(str(refused.value)) < 500


def test_hostile_safetensors(tmp_path):
    """A huge header and overlapping tensors are refused."""
    path = tmp_path / "w.safetensors"
    entry = lambda begin, end: {"dtype": "F32", "shape": [2], "data_offsets": [begin, end]}
    for header, size in ((b"{" + bytes(20), 2**62), (json.dumps({"a": entry(0, 8), "b": entry(4, 12)}).encode(), None)):
        path.write_bytes(struct.pack("<Q", size or len(header)) + header + bytes(12))
        with pytest.raises(FileError, match="is not a whole safetensors file"):
            read_arrays(path)


def test_unknown_formats(tmp_path):
    """A file of no known format is refused with the formats that there are."""
    (tmp_path / "w.bin").write_bytes(b"some other thing")
    with pytest.raises(FileError, match="is of no format that is read here: safetensors, npz, HDF5, GGUF, or ONNX"):
        read_arrays(tmp_path / "w.bin")


@pytest.mark.parametrize(("module", "ending"), [("h5py", "h5"), ("onnx", "onnx"), ("gguf", "gguf")])
def test_a_missing_library_is_said(module, ending, tmp_path, monkeypatch):
    """Without the optional library, a sentence says which command installs it."""
    path = tmp_path / f"w.{ending}"
    path.write_bytes({"gguf": header_of_gguf()}.get(ending, b"\x89HDF\r\n\x1a\n"))
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(
        FileError, match=rf"the library {module}, which is not installed. Run pip install 'dualform\[checkp"
    ):
        READERS[ending](path)
