"""Teachers: what ships, what a file may hold, and what each mistake is told."""

import hashlib

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from dualform.errors import FileError, InputError
from dualform.tasks import Teacher, TeacherStudent

D = 3


def arrays(**changed):
    """A small, sound teacher file's arrays, some of them changed or (None) left out."""
    rng = np.random.default_rng(0)
    sound = {name: rng.standard_normal((D, D)).astype(np.float32) for name in ("w_v", "w_k", "w_q")}
    sound["inputs"] = rng.standard_normal((2, 10, D)).astype(np.float32)
    return {name: array for name, array in (sound | changed).items() if array is not None}


def saved(tmp_path, **changed):
    path = tmp_path / "teacher.safetensors"
    save_file(arrays(**changed), path)
    return path


@pytest.mark.parametrize("name, d", [("smollm2_layer4_head2_d4", 4), ("smollm2_layer20_head7_d6", 6)])
def test_embedded_heads(name, d):
    """The heads that ship are whole: shapes, finite values, weights of Frobenius norm sqrt(d), whitened inputs."""
    teacher = Teacher.embedded(name)
    assert teacher.name == name and "SmolLM2" in teacher.source
    assert teacher.attention.w_v.shape == teacher.attention.w_k.shape == (1, d, d)
    assert teacher.inputs is not None and teacher.inputs.shape == (5, 767, d)
    np.testing.assert_allclose(jnp.linalg.norm(teacher.attention.w_v), d**0.5, rtol=1e-5)
    tokens = np.asarray(teacher.inputs).reshape(-1, d)
    np.testing.assert_allclose(np.cov(tokens.T), np.eye(d), atol=0.1)


def test_embedded_heads_are_the_data(shared):
    """The files that ship are, byte for byte, those of the data folder."""
    import importlib.resources

    for path in (shared / "data" / "heads").glob("*.safetensors"):
        shipped = (importlib.resources.files("dualform.tasks") / "data" / path.name).read_bytes()
        assert hashlib.sha256(shipped).digest() == hashlib.sha256(path.read_bytes()).digest()


def test_default_is_the_first_embedded():
    """`default()` and the name "default" are the four-dimensional head."""
    assert Teacher.default().name == Teacher.embedded("default").name == "smollm2_layer4_head2_d4"


def test_unknown_name_lists_the_known():
    """A head that does not ship is answered with those that do."""
    with pytest.raises(
        InputError,
        match="no embedded head is called 'gpt5'; there are smollm2_layer4_head2_d4, smollm2_layer20_head7_d6",
    ):
        Teacher.embedded("gpt5")


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64])
def test_every_float_dtype(tmp_path, dtype):
    """A file's values come back exactly, whatever the float dtype; halves are widened to float32."""
    changed = {name: array.astype(dtype) for name, array in arrays().items()}
    teacher = Teacher.load(saved(tmp_path, **changed))
    assert teacher.attention.w_v.dtype == (np.float64 if dtype == np.float64 else np.float32)
    np.testing.assert_array_equal(teacher.attention.w_v[0], changed["w_v"].astype(np.float64))
    assert teacher.inputs is not None
    np.testing.assert_array_equal(teacher.inputs, changed["inputs"].astype(np.float64))


def test_rectangular_and_multi_head(tmp_path):
    """Heads, d_v other than d_k, and an output matrix are taken as they are."""
    rng = np.random.default_rng(1)
    path = saved(
        tmp_path,
        w_v=rng.standard_normal((2, 4, D)),
        w_k=rng.standard_normal((2, 5, D)),
        w_q=rng.standard_normal((2, 5, D)),
        w_o=rng.standard_normal((7, 8)),
        inputs=None,
    )
    teacher = Teacher.load(path)
    assert teacher.attention.d_out == 7 and teacher.inputs is None and teacher.name == "teacher"


def test_save_and_load(tmp_path, getkey):
    """`save` writes what `load` reads, to the bit."""
    teacher = Teacher.gaussian(D, key=getkey())
    teacher.save(tmp_path / "t.safetensors")
    again = Teacher.load(tmp_path / "t.safetensors")
    np.testing.assert_array_equal(again.attention.w_q, teacher.attention.w_q)
    assert again.source == teacher.source


def test_gaussian(getkey):
    """Entries have variance 1 / d, also where W_V has a lower rank."""
    full, low = Teacher.gaussian(64, key=getkey()), Teacher.gaussian(64, key=getkey(), rank=32)
    for teacher in (full, low):
        for w in (teacher.attention.w_v, teacher.attention.w_k, teacher.attention.w_q):
            np.testing.assert_allclose(float(jnp.var(w)), 1 / 64, rtol=0.25)
    rank = lambda w: int(np.linalg.matrix_rank(np.asarray(w[0])))
    assert (rank(low.attention.w_v), rank(low.attention.w_k), rank(full.attention.w_v)) == (32, 64, 64)


@pytest.mark.parametrize(
    "changed, message",
    [
        (
            {"w_k": None},
            r"has no w_k; a teacher needs w_v, w_k and w_q \(it has inputs, w_q, w_v\)",
        ),
        ({"wo": np.eye(3, dtype=np.float32)}, "has unknown arrays wo; a teacher's are w_v, w_k, w_q, w_o, inputs"),
        ({"w_q": np.full((D, D), np.nan, np.float32)}, r"w_q in .* holds nan at \(0, 0\) \(9 such values in all\)"),
        ({"inputs": np.full((1, 9, D), np.inf, np.float32)}, r"inputs in .* holds inf at \(0, 0, 0\)"),
        (
            {"w_v": np.ones((D, D), np.int32)},
            "w_v in .* has dtype int32; save it as float16, bfloat16, float32 or float64",
        ),
        (
            {"w_v": np.ones((D, 4), np.float32)},
            r"the weights in .* do not fit together: .*w_v has shape \(1, 3, 4\); it must be \(1, d_v, 3\)",
        ),
        (
            {"w_k": np.ones((2, D), np.float32)},
            r"w_q has shape \(1, 3, 3\); it must be \(1, 2, 3\): .* d_k is 2 in w_k",
        ),
        ({"w_v": np.ones(D, np.float32)}, r"w_v has shape \(3,\); it must be \(1, d_v, 3\): \(head, d_v, d\)"),
        ({"w_o": np.ones((2, 2), np.float32)}, r"w_o has shape \(2, 2\); it must be \(d_out, 3\), or None"),
        ({"inputs": np.ones((9, D), np.float32)}, r"inputs in .* has shape \(9, 3\); it must be \(sequence, time, d\)"),
        ({"inputs": np.ones((1, 9, 5), np.float32)}, "tokens of width 5, but the weights take 3"),
    ],
)
def test_bad_content(tmp_path, changed, message):
    """What is wrong with the arrays of a file is said in one sentence, with the value."""
    with pytest.raises(InputError, match=message):
        Teacher.load(saved(tmp_path, **changed))


def test_missing_file(tmp_path):
    """A path that is not there."""
    with pytest.raises(FileError, match="there is no file '.*nothing.safetensors'. Check the path"):
        Teacher.load(tmp_path / "nothing.safetensors")
    with pytest.raises(FileError, match="is a folder; give the path of a safetensors file in it"):
        Teacher.load(tmp_path)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-4],
        lambda data: data[:50],
        lambda data: b"",
        lambda data: b"PK\x03\x04 a zip file, no tensors in it",
        lambda data: (2**62).to_bytes(8, "little") + data[8:],
        lambda data: (4096).to_bytes(8, "little") + b"[" * 4096,
        lambda data: data[:8] + data[8:].replace(b'"data_offsets":[0,', b'"data_offsets":[9,', 1),
        lambda data: data + b"more",
    ],
)
def test_damaged_file(tmp_path, damage):
    """A truncated, foreign or hostile file is refused before anything of it is used."""
    path = saved(tmp_path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(FileError, match="is not a whole safetensors file .* copy or export it again"):
        Teacher.load(path)


@pytest.mark.parametrize(
    "arguments, message", [({"d": 0}, "d is 0"), ({"d": 3, "rank": 4}, "rank is 4; it must lie between 1")]
)
def test_bad_gaussian(arguments, message, getkey):
    """A width or rank that no teacher has."""
    with pytest.raises(InputError, match=message):
        Teacher.gaussian(**arguments, key=getkey())


def test_windows_are_of_the_inputs(tmp_path, getkey):
    """Every sample is a window of the teacher's inputs, every place is reached, and y is the attention's output."""
    teacher = Teacher.load(saved(tmp_path))
    task = TeacherStudent(teacher, time=8, batch=64)
    x, y = eqx.filter_jit(task.sample)(getkey())
    assert teacher.inputs is not None
    windows = np.stack([s[p : p + 8] for s in np.asarray(teacher.inputs) for p in range(3)])
    matches = (np.asarray(x)[:, None] == windows[None]).all((2, 3))
    assert matches.sum(1).tolist() == [1] * 64 and matches.any(0).all()
    for one, target in zip(x[:3], y[:3], strict=True):
        np.testing.assert_allclose(target, teacher.attention(one)[0], rtol=1e-5, atol=1e-5)


def test_gaussian_inputs_and_power(getkey):
    """Without inputs, tokens are standard normal; the target's power is that of the samples, and the same each time."""
    task = TeacherStudent(Teacher.gaussian(D, key=getkey()), time=5, batch=4096)
    key = getkey()
    x, y = task.sample(key)
    assert x.shape == (4096, 5, D) and y.shape == (4096, 5, D)
    np.testing.assert_allclose([float(jnp.mean(x)), float(jnp.std(x))], [0, 1], atol=0.02)
    power = task.target_power(key, batches=4)
    assert power == task.target_power(key, batches=4)
    np.testing.assert_allclose(power, float(jnp.mean(jnp.square(y))), rtol=0.2)


def test_same_key_same_sample(getkey):
    """A sample is a function of its key."""
    task, key = TeacherStudent(Teacher.default(), time=4, batch=3), getkey()
    np.testing.assert_array_equal(task.sample(key)[0], task.sample(key)[0])
    assert not np.array_equal(task.sample(key)[0], task.sample(jr.fold_in(key, 1))[0])


def test_window_too_long():
    """Inputs shorter than the window, or a window of nothing."""
    with pytest.raises(
        InputError, match="inputs have 767 tokens, fewer than the window of 800; give longer ones, or a smaller"
    ):
        TeacherStudent(Teacher.default(), time=800)
    with pytest.raises(InputError, match="time is 0 and batch 64; both must be at least 1"):
        TeacherStudent(Teacher.default(), time=0)
