"""What stands beside weights: a tokenizer for what brings none, the ends of a text; and numbers that a dtype has no place for."""

import json
import shutil
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from dualform import checkpoints
from dualform.commands.generate import ends_of
from dualform.errors import FileError, InputError
from tests.fuzz.make_corpus import CONFIG, CORPUS, LETTERS, tokenizer

pytest.importorskip("tokenizers", reason="the optional package tokenizers is not installed")
ROW = "model.layers.0.mlp.up_proj.weight"


def folder(path: Path, rows: int = len(LETTERS), change: Any = None, **config: Any) -> Path:
    """The small Llama of the corpus, with so many rows in its embedding."""
    path.mkdir(exist_ok=True)
    arrays = load_file(CORPUS / "llama.safetensors")
    name = "model.embed_tokens.weight"
    arrays[name] = np.resize(arrays[name], (rows, arrays[name].shape[1]))
    for key, array in (change or {}).items():
        arrays[key] = array
    save_file(arrays, path / "model.safetensors")
    (path / "config.json").write_text(json.dumps(CONFIG | {"vocab_size": rows} | config))
    return path


@pytest.mark.parametrize("name", ["llama.gguf", "rwkv4.bin", "llama.safetensors"])
def test_a_tokenizer_beside_is_taken_where_there_is_none(name, tmp_path, monkeypatch):
    """What the refusal of a text advises helps, whatever the format; a file's own tokenizer and ends go before."""
    monkeypatch.setenv("DUALFORM_CACHE", str(tmp_path / "cache"))
    if name.endswith("gguf"):
        pytest.importorskip("gguf", reason="the optional package gguf is not installed")
    shutil.copy(CORPUS / name, tmp_path / name)
    if name == "llama.safetensors":
        shutil.copy(CORPUS / "llama.config.json", tmp_path / "config.json")
    own = name.endswith("gguf")
    if not own:
        with pytest.raises(InputError, match=r"put a tokenizer.json beside its weights"):
            checkpoints.load(tmp_path / name).encode("a")
    (tmp_path / "tokenizer.json").write_text(tokenizer("sentencepiece" if own else "bytes").to_str())
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": 3}')
    loaded = checkpoints.load(tmp_path / name)
    assert sorted(ends_of(loaded.record)) == {"llama.gguf": [13], "rwkv4.bin": [], "llama.safetensors": [3]}[name]
    if name == "rwkv4.bin":  # of 6 tokens
        assert loaded.tokens is not None and loaded.tokens.size == len(LETTERS)
    else:
        assert loaded.encode("ab").tolist() == [LETTERS.index("<|begin|>"), LETTERS.index("ab")]


def test_our_own_file_may_have_a_tokenizer_beside(tmp_path):
    """Its own tokens go before; weights without notes take the tokenizer in their folder."""

    def tokens(name: str) -> Any:
        return checkpoints.load(tmp_path / f"{name}.safetensors").tokens

    own = checkpoints.load(CORPUS / "own.safetensors")
    checkpoints.save_weights(tmp_path / "a.safetensors", own.model)
    (tmp_path / "tokenizer.json").write_text(tokenizer("bytes").to_str())
    assert tokens("a").size == len(LETTERS)
    shutil.copy(CORPUS / "own.safetensors", tmp_path / "b.safetensors")
    assert tokens("b").size == 5


@pytest.mark.parametrize(
    "said, ends",
    [
        ([12, 13], [12, 13]),
        (12, [12]),
        (None, [13]),
        ([], []),
        ([12, -1], [12]),
    ],
)
def test_ends_of_a_text(said, ends, tmp_path):
    """generation_config.json goes before config.json where it says something, one end or several; what is no token is none."""
    path = folder(tmp_path / "a")
    assert ends_of(checkpoints.load(path).record) == {13}
    (path / "generation_config.json").write_text(json.dumps({"eos_token_id": said}))
    assert sorted(ends_of(checkpoints.load(path).record)) == ends
    assert sorted(ends_of(checkpoints.load(path / "model.safetensors").record)) == ends
    (path / "generation_config.json").write_text("[")
    with pytest.raises(FileError, match=r"generation_config.json' is not JSON. Copy it again"):
        checkpoints.load(path)


@pytest.mark.parametrize("said", [True, "12", 2.0, [12, "</s>"], [[12]], {"a": 12}])
@pytest.mark.parametrize("name", ["generation_config.json", "config.json"])
def test_an_end_that_is_no_token_is_refused(name, said, tmp_path):
    """An end that is not read would let a text go on behind it."""
    path = folder(tmp_path / "a")
    fields = json.loads((path / name).read_text()) if (path / name).is_file() else {}
    (path / name).write_text(json.dumps(fields | {"eos_token_id": said}))
    with pytest.raises(FileError, match=rf"{name}' says eos_token_id .* a token's number, a list of such, or null"):
        checkpoints.load(path)


@pytest.mark.parametrize("dtype", ["float99", jnp.int8, jnp.complex64, jnp.float8_e4m3fn, bool])
def test_a_model_is_in_a_dtype_of_models(dtype, tmp_path):
    """Weights that are cut to whole numbers, or that nothing computes with, are no model; one may be named."""
    with pytest.raises(
        InputError, match="the dtype is .*; a model's weights can be in float16, bfloat16, float32, float64"
    ):
        checkpoints.load(CORPUS / "own.safetensors", dtype=dtype)
    assert checkpoints.load(folder(tmp_path / "a"), dtype="bfloat16").model.embedding.dtype == jnp.bfloat16


def test_rows_without_tokens_and_tokens_without_rows(tmp_path):
    """A padded table's rows can be shown; a tokenizer of more tokens than the model has is said where it matters."""
    path = folder(tmp_path / "a", rows=20)
    (path / "tokenizer.json").write_text(tokenizer("bytes").to_str())
    loaded = checkpoints.load(path)
    assert loaded.decode([0, 17, 19]) == ["a", "\ufffd", "\ufffd"]
    with pytest.raises(InputError, match="token 20 is not in this vocabulary, which goes from 0 to 19"):
        loaded.decode([20])
    path = folder(tmp_path / "b", rows=13)
    (path / "tokenizer.json").write_text(tokenizer("bytes").to_str())
    loaded = checkpoints.load(path)
    assert loaded.encode("c").tolist() == [12, 2]
    with pytest.raises(InputError, match=r"the tokenizer gives this text token 15, and b has tokens from 0 to 12"):
        loaded.encode("c a")


@pytest.mark.parametrize("dtype, value", [(jnp.float16, 1e5), (jnp.float16, -70_000.0), (jnp.bfloat16, 3.4028e38)])
def test_what_is_beyond_the_dtype_is_refused(dtype, value, tmp_path):
    """A weight that becomes infinite is named, as one that is infinite in the file; in a wider dtype the model is there."""
    change = {ROW: np.full((8, 8), 0.5, np.float32)}
    change[ROW][3, 1] = value
    path = folder(tmp_path / "a", change=change)
    said = rf"blocks\[0\].mlp.* of the model in '.*a' has 1 entries beyond {np.dtype(dtype)}, whose largest number is"
    with pytest.raises(FileError, match=said):
        checkpoints.load(path, dtype=dtype)
    assert checkpoints.load(path).model.vocabulary == len(LETTERS)
    change[ROW][3, 1] = float(jnp.finfo(dtype).max)
    assert checkpoints.load(folder(tmp_path / "b", change=change), dtype=dtype).model.embedding.dtype == dtype


def test_float64_beyond_float32_is_refused(tmp_path):
    """Without JAX's float64 a number beyond float32 is infinite, and is refused in the same sentence."""
    import jax

    path = folder(tmp_path / "a", change={ROW: np.full((8, 8), 1e39)})
    assert np.isfinite(checkpoints.load(path).model.blocks[0].mlp.w_up).all()
    with jax.enable_x64(False), np.errstate(over="ignore"), pytest.raises(FileError, match="64 entries beyond float32"):
        checkpoints.load(path)
