"""Published checkpoints give the library's own logits; every file that is not what it should be is refused in a sentence."""

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from dualform import checkpoints
from dualform.checkpoints import Loaded
from dualform.checkpoints.loading import KNOWN, converted
from dualform.checkpoints.tokens import CharacterTokens, notes
from dualform.errors import FileError, InputError
from dualform.mixers import GLA, HGRN2
from dualform.tensor_file import read_tensors
from tests.laws import laws
from tests.models.families import tokens

DATA = Path(__file__).parents[1] / "oracles" / "data" / "checkpoints"
FLA, TORCH, TRANSFORMERS = "flash-linear-attention 0.6.0", "torch 2.13.0", "transformers 5.23.0"
PEERS = {
    "mamba": TRANSFORMERS,
    "mamba_untied": TRANSFORMERS,
    "mamba2": TRANSFORMERS,
    "rwkv4": TRANSFORMERS,
    "recurrent_gemma": TRANSFORMERS,
    "llama": TRANSFORMERS,
    "smollm": TRANSFORMERS,
    "mistral": TRANSFORMERS,
    "qwen2": TRANSFORMERS,
    "gla": FLA,
    "gla_plain": FLA,
    "hgrn2": FLA,
    "hgrn2_unbounded": FLA,
    "gsa": FLA,
    "torch_lstm": TORCH,
    "torch_gru": TORCH,
}


def error(loaded: Loaded, name: str) -> float:
    """The largest relative error of the logits, or outputs, that are stored beside a checkpoint."""
    expected, metadata = read_tensors(DATA / name / "expected.safetensors")
    assert metadata["peer"].startswith(PEERS[name]) and metadata["dtype"] == "float64"
    read, wanted = ("tokens", "logits") if "tokens" in expected else ("x", "y")
    found = np.asarray(jax.jit(lambda x: loaded.model(x)[0])(jnp.asarray(expected[read])))
    return float(np.linalg.norm(found - expected[wanted]) / np.linalg.norm(expected[wanted]))


def test_every_stored_checkpoint_is_held():
    """No folder of the oracles is left out."""
    assert set(PEERS) == {path.name for path in DATA.iterdir()}


@pytest.mark.parametrize("name", PEERS)
def test_a_checkpoint_gives_its_librarys_logits(name):
    """From the folder, tied or not, whole or in shards, with every option that the config sets: to 1e-10 in float64."""
    loaded = checkpoints.load(DATA / name)
    assert loaded.name == name and loaded.tokens is None
    assert error(loaded, name) <= laws.EXACT


def test_float32_is_close_and_can_be_asked_for():
    """In float32 the logits are within 1e-5; half precision is widened to float32 where nothing else is asked for."""
    loaded = checkpoints.load(DATA / "hgrn2", dtype=jnp.float32)
    assert loaded.model.embedding.dtype == jnp.float32 and error(loaded, "hgrn2") < 1e-5
    half = converted(loaded.model, jnp.bfloat16)
    assert half.embedding.dtype == jnp.bfloat16 and converted(half).embedding.dtype == jnp.float32
    assert converted(loaded.model).embedding.dtype == jnp.float32


@pytest.mark.parametrize("name", ["torch_lstm", "torch_gru"])
def test_torchs_own_networks_need_no_config(tmp_path, name):
    """Names and shapes of an LSTM's or a GRU's tensors tell all: one file by itself is the same model."""
    shutil.copy(DATA / name / "model.safetensors", tmp_path / "some.safetensors")
    alone, whole = checkpoints.load(tmp_path / "some.safetensors"), checkpoints.load(DATA / name)
    assert alone.architecture == whole.architecture and alone.name == "some"
    laws.check_same_bits(alone.model, whole.model, name)


@pytest.mark.parametrize("name", sorted({name for name in PEERS if not name.startswith("torch")} - {"gla"}))
def test_any_other_config_is_asked_for(tmp_path, name):
    """Tensors have other architectures' names, and no shape tells an epsilon: a file without a config that says what it is."""
    shutil.copy(DATA / name / "model.safetensors", tmp_path / "a.safetensors")
    with pytest.raises(
        FileError, match=r"tensors named as those of a .*, and there is no config.json beside it. .* Keep"
    ):
        checkpoints.load(tmp_path / "a.safetensors")
    said = json.loads((DATA / name / "config.json").read_text())
    (tmp_path / "config.json").write_text(
        json.dumps({k: said[k] for k in said if k not in ("model_type", "architectures")})
    )
    with pytest.raises(FileError, match="its config.json says no model_type"):
        checkpoints.load(tmp_path / "a.safetensors")


def test_norms_go_over_all_heads_as_published():
    """HGRN2 has a norm weight for each channel of all heads at once, GLA one that its heads share."""
    hgrn2, gla = (checkpoints.load(DATA / name).model.blocks[0].mixer for name in ("hgrn2", "gla"))
    assert isinstance(hgrn2, HGRN2) and hgrn2.norm.shape == (2, 8) and hgrn2.epsilon == 8e-5
    assert isinstance(gla, GLA) and gla.norm.shape == (4,)


def copied(tmp_path: Path, name: str, tensors: Callable[[dict], Any] | None = None, **config: Any) -> Path:
    """A stored checkpoint with some tensors and some of its config changed."""
    folder = tmp_path / name
    shutil.copytree(DATA / name, folder)
    if tensors is not None:
        arrays = load_file(folder / "model.safetensors")
        save_file(tensors(arrays) or arrays, folder / "model.safetensors")
    if config:
        path = folder / "config.json"
        said = json.loads(path.read_text()) | config
        path.write_text(json.dumps({key: value for key, value in said.items() if value != "leave out"}))
    return folder


def put(name: str, value: Any) -> Callable[[dict], None]:
    def change(arrays: dict) -> None:
        arrays[name] = value(arrays[name]) if callable(value) else value

    return change


def without(name: str) -> Callable[[dict], dict]:
    return lambda arrays: {key: array for key, array in arrays.items() if key != name}


D_NAME = "backbone.layers.1.mixer.D"


def with_nan(a: np.ndarray) -> np.ndarray:
    return np.where(np.arange(len(a)) == 3, np.nan, a)


WRONG: dict[str, tuple[str, Callable | None, dict, str]] = {
    "missing": ("mamba", without(D_NAME), {}, rf"lacks {D_NAME}, which a Mamba has"),
    "surplus": ("mamba", put("backbone.more", np.ones(2)), {}, "has backbone.more, which no Mamba that can be read"),
    "shape": ("mamba", put(D_NAME, np.ones(3)), {}, rf"{D_NAME} in .* has shape \(3,\); .* need \(32,\)"),
    "axes": ("mamba", put("backbone.embeddings.weight", np.ones(3)), {}, r"has shape \(3,\); a Mamba has 2 axes there"),
    "NaN": ("mamba", put(D_NAME, with_nan), {}, rf"{D_NAME} in .* holds NaN or infinity. The checkpoint is damaged"),
    "integers": ("mamba", put(D_NAME, np.ones(32, np.int8)), {}, "is int8; weights are real numbers. Save it as F32"),
    "layers": ("mamba", None, {"num_hidden_layers": 3}, r"no tensors of layer 2 \(backbone.layers.2.\), of 3 layers"),
    "more layers": ("mamba", None, {"num_hidden_layers": 1}, "has backbone.layers.1.mixer.A_log, and 9 more, which no"),
    "width": ("mamba", None, {"hidden_size": 32}, "says hidden_size 32, and the tensors have 16"),
    "vocabulary": (
        "gsa",
        None,
        {"vocab_size": 24},
        "says vocab_size 24, and the tensors have 23. They are of different",
    ),
    "untied": ("mamba", None, {"tie_word_embeddings": False}, "lacks lm_head.weight, which a Mamba has"),
    "tied": ("mamba_untied", None, {"tie_word_embeddings": True}, "lm_head.weight is another than the embedding"),
    "activation": ("mamba", None, {"hidden_act": "gelu"}, 'says hidden_act "gelu"; .* needs "silu"'),
    "biases": ("mamba2", None, {"use_bias": True}, "says use_bias true; what can be read here needs false"),
    "limits": ("mamba2", None, {"time_step_limit": [0.0, 1.0]}, "says time_step_limit "),
    "groups": ("mamba2", None, {"n_groups": 3}, "6 do not divide convolved channels of B and C of 20"),
    "field": ("mamba", None, {"num_hidden_layers": "two"}, 'says num_hidden_layers "two"; .* needs a whole number'),
    "number": ("gla_plain", None, {"norm_eps": "x"}, 'says norm_eps "x"; what can be read here needs a number'),
    "flag": ("gla_plain", None, {"fuse_norm": 3}, "says fuse_norm 3; what can be read here needs true or false"),
    "model_type": (
        "mamba",
        None,
        {"model_type": "bert"},
        "says model_type 'bert', which cannot be read here; Mamba, ",
    ),
    "no string": ("mamba", None, {"model_type": 3}, "says model_type 3; what can be read here needs a string"),
    "convolutions": (
        "gsa",
        None,
        {"use_short_conv": True},
        "says use_short_conv true; what can be read here needs false",
    ),
    "hybrid": ("gsa", None, {"attn": {"layers": [0]}}, "says attn .*; what can be read here needs null"),
    "features": ("gla_plain", None, {"feature_map": "relu"}, 'says feature_map "relu"; .* needs null'),
    "heads": ("hgrn2", None, {"expand_ratio": 5}, "5 do not divide a width of 16"),
    "kinds": (
        "recurrent_gemma",
        None,
        {"block_types": ["linear"]},
        'says block_types .* needs a list of "recurrent" and',
    ),
    "rope": (
        "recurrent_gemma",
        None,
        {"rope_parameters": {"rope_type": "yarn"}},
        'rope_type "yarn"; .* needs "default"',
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_checkpoints_are_refused(tmp_path, case):
    """A tensor missing, too many, of another shape or not finite; a config that says what cannot be read: each is named."""
    name, tensors, config, message = WRONG[case]
    with pytest.raises(FileError, match=message):
        checkpoints.load(copied(tmp_path, name, tensors, **config))


RNN: dict[str, tuple[Callable, str]] = {
    "both directions": (
        put("weight_ih_l0_reverse", np.ones((20, 3))),
        "reads in both directions, and a causal model in",
    ),
    "projection": (put("weight_hr_l0", np.ones((3, 5))), "has a projection. Such a one cannot be read here"),
    "neither": (put("weight_hh_l0", np.ones((10, 5))), r"has shape \(10, 5\); an LSTM has four times as many rows"),
    "missing bias": (without("bias_hh_l1"), "lacks bias_hh_l1, which a torch.nn.LSTM or GRU has"),
    "surplus": (
        put("weight_ih_l3", np.ones((20, 5))),
        "has weight_ih_l3, which no torch.nn.LSTM or GRU that can be read",
    ),
}


@pytest.mark.parametrize("case", RNN)
def test_wrong_networks_of_torch_are_refused(tmp_path, case):
    """A network that is read in both directions, projected, or neither an LSTM nor a GRU."""
    change, message = RNN[case]
    with pytest.raises(FileError, match=message):
        checkpoints.load(copied(tmp_path, "torch_lstm", change))


def test_wrong_shards_are_refused(tmp_path):
    """A shard that is missing, holds another tensor than the index says, or lies elsewhere; an index that says nothing."""
    folder = copied(tmp_path, "gla")
    index = folder / "model.safetensors.index.json"
    said, first = json.loads(index.read_text()), "model-00001-of-00003.safetensors"
    name = next(key for key, place in said["weight_map"].items() if place == first)
    for change, message in (
        ({"extra": first}, f"{first}' lacks extra, which model.safetensors.index.json says is in it"),
        (
            {name: "model-00002-of-00003.safetensors"},
            f"{first}' has {name}, which model.safetensors.index.json does not name",
        ),
        (
            {name: "../gla/a.safetensors"},
            "names a shard '../gla/a.safetensors'; shards are safetensors files in the same",
        ),
        ({"extra": "model-00009-of-00003.safetensors"}, "there is no file .*model-00009"),
    ):
        index.write_text(json.dumps({"weight_map": said["weight_map"] | change}))
        with pytest.raises(FileError, match=message):
            checkpoints.load(folder)
    for text, message in (("{}", "has no weight_map"), ("[]", "is a list, not an object"), ("{", "is not JSON")):
        index.write_text(text)
        with pytest.raises(FileError, match=message):
            checkpoints.load(folder)


class Evil:
    """A pickle that leaves a file behind when it is opened."""

    def __reduce__(self):
        return (Path.touch, (Path("opened"),))


@pytest.mark.parametrize("name", ["model.bin", "model.pt", "model.pth", "model.ckpt", "model.safetensors", "weights"])
def test_a_pickle_is_never_opened(tmp_path, monkeypatch, name):
    """Whatever it is called, it is refused with what to do, and nothing in it runs."""
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(pickle.dumps(Evil()))
    with pytest.raises(
        FileError, match="is a pickle, or named as one: .* so it is not opened. Convert it to safetensors"
    ):
        checkpoints.load(name)
    (tmp_path / "folder").mkdir()
    Path(name).rename(tmp_path / "folder" / "pytorch_model.bin")
    with pytest.raises(FileError, match=r"pytorch_model.bin' is a pickle"):
        checkpoints.load(tmp_path / "folder")
    assert not Path("opened").exists()


def header(said: Any, size: int = 8) -> bytes:
    text = json.dumps(said).encode()
    return len(text).to_bytes(8, "little") + text + bytes(size)


HOSTILE = {
    "no file at all": b"",
    "a header longer than the file": (2**62).to_bytes(8, "little") + b"{}",
    "overlapping tensors": header(
        {
            "a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
            "b": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]},
        }
    ),
    "a tensor past the end": header({"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}),
    "a negative shape": header({"a": {"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]}}),
    "a shape that overflows": header({"a": {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 8]}}),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_files_are_refused(tmp_path, case):
    """What is no whole safetensors file is refused, without asking for memory that the file only claims."""
    path = tmp_path / "a.safetensors"
    path.write_bytes(HOSTILE[case])
    with pytest.raises(FileError, match="is not a whole safetensors file"):
        checkpoints.load(path)


def test_what_is_not_there_and_what_is_unknown(tmp_path):
    """A name that is none, a folder without weights, tensors of no architecture."""
    with pytest.raises(FileError, match="no file or folder 'gpt-9', and no model of that name. .* characters, recall"):
        checkpoints.load("gpt-9")
    with pytest.raises(FileError, match="has no model.safetensors and no model.safetensors.index.json"):
        checkpoints.load(tmp_path)
    save_file({"a": np.ones(2)}, tmp_path / "model.safetensors")
    with pytest.raises(FileError, match=r"tensors of no architecture that is known here \(the first are a\)"):
        checkpoints.load(tmp_path)
    (tmp_path / "config.json").write_text("[1]")
    with pytest.raises(FileError, match="is not a config: it is a list, not an object"):
        checkpoints.load(tmp_path)


def test_what_may_not_be_read(tmp_path, monkeypatch):
    """A file that the system does not let be read is named, with the system's reason."""
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"12345678")

    def refused(*_: Any, **__: Any):
        raise PermissionError(13, "Permission denied")

    message = "a.safetensors' cannot be read: Permission denied. Check its permissions"
    with monkeypatch.context() as patch, pytest.raises(FileError, match=message):
        patch.setattr(Path, "open", refused)
        checkpoints.load(path)


def test_our_own_weights_and_their_tokens(tmp_path):
    """What `save_weights` wrote comes back with its tokens and its record, as a file and as a run's folder."""
    model, made = checkpoints.load(DATA / "mamba", dtype=jnp.float32).model, CharacterTokens("abcdef")
    checkpoints.save_weights(tmp_path / "weights.safetensors", model, notes(made) | {"record": '{"loss": 1.5}'})
    for path in (tmp_path / "weights.safetensors", tmp_path):
        loaded = checkpoints.load(path)
        laws.check_same_bits(loaded.model, model, "model")
        assert loaded.architecture == "LanguageModel" and loaded.record == {"loss": 1.5}
        np.testing.assert_array_equal(loaded.encode("fax"), [5, 0, 6])
        assert loaded.decode([0, 6]) == ["a", "\ufffd"]
    arrays, metadata = read_tensors(tmp_path / "weights.safetensors")
    for change, error, message in (
        ({"tokens": '{"kind": "words"}'}, FileError, "does not say clearly which tokens its model reads"),
        ({"version": "9"}, FileError, "has format version 9"),
    ):
        save_file(arrays, tmp_path / "weights.safetensors", metadata | change)
        with pytest.raises(error, match=message):
            checkpoints.load(tmp_path / "weights.safetensors")
    save_file(
        arrays | {"embedding": arrays["embedding"] + np.float32(np.inf)}, tmp_path / "weights.safetensors", metadata
    )
    with pytest.raises(FileError, match="embedding in .* holds NaN or infinity"):
        checkpoints.load(tmp_path / "weights.safetensors")


def test_text_for_a_model_without_a_tokenizer():
    """It is said that there is none, and what to do; an empty text is no text."""
    loaded = checkpoints.load(DATA / "mamba")
    with pytest.raises(InputError, match="mamba came without a tokenizer, .* put a tokenizer.json beside its weights"):
        loaded.encode("a")
    assert loaded.decode([3, 4]) == ["3", "4"]
    with pytest.raises(InputError, match="the text is empty"):
        loaded._replace(tokens=CharacterTokens("a")).encode("")


def test_known_names_are_a_table(monkeypatch):
    """Whoever can fetch a model puts it into the table by its name; a path of the same name goes first."""
    made = checkpoints.load(DATA / "mamba")._replace(source="somewhere")
    monkeypatch.setitem(KNOWN, "mine", lambda: made)
    assert checkpoints.load("mine").source == "somewhere"


def test_rwkv_cpps_file(shared):
    """The trained RWKV-4 reads bytes, and gives the logits that rwkv.cpp gives after the prompt."""
    folder = shared / "data" / "rwkv"
    loaded = checkpoints.load(folder / "tiny-rwkv-4v0-660K-FP32.bin")
    assert loaded.architecture == "RWKV-4" and loaded.decode(loaded.encode('"in\u20ac')) == [
        *'"in',
        "<E2>",
        "<82>",
        "<AC>",
    ]
    logits, _ = jax.jit(lambda x: loaded.model(x))(jnp.asarray(loaded.encode('"in')))
    expected = np.fromfile(folder / "expected-logits-4v0-660K.bin", np.float32)
    assert np.linalg.norm(logits[-1] - expected) <= 1e-5 * np.linalg.norm(expected)


def test_an_imported_model_goes_on_from_a_state():
    """Norms over all heads: two calls, the second from the first one's state, give the logits of one."""
    model: Any = checkpoints.load(DATA / "gsa").model
    x = tokens(0)
    whole, _ = laws.call(model, x)
    first, state = laws.call(model, x[:2])
    rest, _ = laws.call(model, x[2:], state)
    laws.check_close(jnp.concatenate([first, rest]), whole, laws.EXACT, "a split")
