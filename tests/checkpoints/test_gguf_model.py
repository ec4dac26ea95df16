"""A GGUF file gives the model that it was made of, its own tokenizer, and loads from the cache the second time."""

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from dualform import checkpoints, models
from dualform.checkpoints import gguf_conversion
from dualform.checkpoints.cache import is_there, sha256_of
from dualform.checkpoints.catalogue import known
from dualform.checkpoints.gguf_conversion import converted_place
from dualform.checkpoints.gguf_model import _INNER, _OUTER, SPLITS
from dualform.errors import FileError, InputError
from dualform.tensor_file import read_tensors
from tests.checkpoints.test_load import DATA

gguf = pytest.importorskip("gguf", reason="the optional package gguf is not installed")
pytest.importorskip("tokenizers", reason="the optional package tokenizers is not installed")

LETTERS = [*"abehinrt012\u0120\u010a", "<|end|>", "he", "\u0120t", "\u0120the", "[x]"]
MERGES = ["h e", "\u0120 t", "\u0120t he"]
TYPES = [3 if token == "<|end|>" else 4 if token == "[x]" else 1 for token in LETTERS]
VOCABULARY = LETTERS + [f"unused{i}" for i in range(23 - len(LETTERS))]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """A cache folder of its own."""
    monkeypatch.setenv("DUALFORM_CACHE", str(tmp_path / "cache"))


def in_pairs(array: np.ndarray, heads: int) -> np.ndarray:
    """Rows of queries or keys as llama.cpp's converter has them: the two halves of each head, row by row in turn."""
    halves = array.reshape(heads, 2, -1, *array.shape[1:])
    return np.stack([halves[:, 0], halves[:, 1]], axis=2).reshape(array.shape)


def write(path: Path, name: str = "smollm", kind: str = "llama", change: Any = None, **fields: Any) -> Path:
    """A stored checkpoint as a GGUF file in float32, with a small tokenizer."""
    arrays, config = load_file(DATA / name / "model.safetensors"), json.loads((DATA / name / "config.json").read_text())
    writer = gguf.GGUFWriter(path, kind)
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    writer.add_block_count(2)
    writer.add_context_length(64)
    writer.add_embedding_length(16)
    writer.add_feed_forward_length(24)
    writer.add_head_count(heads)
    if "llama.attention.head_count_kv" not in fields.get("said", {}):
        writer.add_head_count_kv(kv_heads)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_tokenizer_model(fields.get("tokenizer", "gpt2"))
    writer.add_tokenizer_pre(fields.get("split", "smollm"))
    writer.add_token_list(fields.get("tokens", VOCABULARY))
    writer.add_token_merges(fields.get("merges", MERGES))
    writer.add_token_types(TYPES + [1] * (23 - len(TYPES)))
    names = {new: old for old, new in (_OUTER | _INNER).items()}
    for key, value in fields.get("said", {}).items():
        add = {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}
        add.get(type(value), writer.add_array)(key, value)
    for long, array in (change(arrays) if change else arrays).items():
        part, _, end = long.rpartition(".")
        layer, _, inner = part.removeprefix("model.layers.").partition(".")
        short = names[part] if part in names else f"blk.{layer}.{names[inner]}"
        if kind == "llama" and short.endswith(("attn_q", "attn_k")):
            array = in_pairs(array, heads if short.endswith("q") else kv_heads)
        writer.add_tensor(f"{short}.{end}", np.ascontiguousarray(array, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def logits_error(model: Any, name: str) -> float:
    expected, _ = read_tensors(DATA / name / "expected.safetensors")
    found = np.asarray(jax.jit(lambda x: model(x)[0])(jnp.asarray(expected["tokens"])))
    return float(np.linalg.norm(found - expected["logits"]) / np.linalg.norm(expected["logits"]))


@pytest.mark.parametrize("name, kind", [("smollm", "llama"), ("qwen2", "qwen2")])
def test_a_gguf_file_gives_its_models_logits(tmp_path, name, kind):
    """Tensors are found by their names, and pairs of rows put back into halves: within float32 of transformers' logits."""
    loaded = checkpoints.load(write(tmp_path / "a.gguf", name, kind), dtype=jnp.float64)
    assert loaded.architecture == "Llama" and loaded.name == "a" and logits_error(loaded.model, name) < 1e-6
    assert loaded.model.blocks[0].mixer.context == 64 and (loaded.model.head is None) == (name == "smollm")


def test_the_second_load_is_from_the_cache(tmp_path, monkeypatch):
    """Weights are dequantised once; afterwards they come from the cache to the bit, for each dtype its own file."""
    path = write(tmp_path / "a.gguf")
    first, place = checkpoints.load(path), converted_place(sha256_of(path), np.float32)
    half = checkpoints.load(path, dtype=jnp.bfloat16)
    assert half.model.embedding.dtype == jnp.bfloat16
    assert place.is_file() and place.with_name(place.name.replace("float32", "bfloat16")).is_file()
    whole, read = place.read_bytes(), gguf_conversion.read_gguf  # pyright: ignore[reportAttributeAccessIssue] - patched
    monkeypatch.setattr("dualform.checkpoints.gguf_conversion.read_gguf", lambda path: pytest.fail("it was read again"))
    again = checkpoints.load(path)
    for one, other in zip(jax.tree.leaves(first.model), jax.tree.leaves(again.model), strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(again.encode("the 10"), first.encode("the 10"))
    monkeypatch.setattr("dualform.checkpoints.gguf_conversion.read_gguf", read)
    for damaged in (whole[:-1] + bytes([whole[-1] ^ 1]), whole[: len(whole) // 2], b""):
        place.write_bytes(damaged)
        np.testing.assert_array_equal(checkpoints.load(path).model.embedding, first.model.embedding)
        assert place.read_bytes() == whole


def test_a_cache_that_cannot_be_written_is_no_hindrance(tmp_path, monkeypatch, caplog):
    """The model is read all the same, and the log says why it is not kept."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DUALFORM_CACHE", str(tmp_path / "file" / "cache"))
    loaded = checkpoints.load(write(tmp_path / "a.gguf"), dtype=jnp.float64)
    assert logits_error(loaded.model, "smollm") < 1e-6 and "are not kept" in caplog.text


def test_the_tokenizer_is_the_files_own(tmp_path):
    """Bytes are merged as the file says, digits are alone, tokens of control are whole; text comes back."""
    loaded = checkpoints.load(write(tmp_path / "a.gguf"))
    text = "the the 10\n<|end|>[x]"
    ids = loaded.encode(text)
    assert [VOCABULARY[i] for i in ids] == [
        *("t", "he", "\u0120the", "\u0120", "1", "0", "\u010a", "<|end|>", "[x]"),
    ]
    assert "".join(loaded.decode(ids)) == text
    plain = checkpoints.load(write(tmp_path / "b.gguf", split="gpt-2", merges=[*MERGES, "1 0"][:3]))
    np.testing.assert_array_equal(plain.encode(text), ids)
    assert set(SPLITS) == {"gpt-2", "default", "smollm", "llama-bpe", "qwen2"}


@pytest.mark.parametrize("fields", [{"tokenizer": "llama"}, {"split": "another"}])
def test_another_tokenizer_is_none(tmp_path, fields):
    """A tokenizer that is not of a known kind is not guessed: the model has none, and a text is refused."""
    loaded = checkpoints.load(write(tmp_path / "a.gguf", **fields))
    assert loaded.tokens is None
    with pytest.raises(InputError, match="came without a tokenizer"):
        loaded.encode("the")


NORM = "model.layers.1.input_layernorm.weight"
WRONG: dict[str, tuple[dict, str]] = {
    "architecture": ({"kind": "gemma"}, "GGUF file of the architecture 'gemma'; llama and qwen2 can be read here"),
    "missing": (
        {"change": lambda a: {k: v for k, v in a.items() if k != NORM}},
        f"lacks {NORM}, which a Llama has",
    ),
    "rows": (
        {"change": lambda a: a | {"model.layers.0.self_attn.q_proj.weight": np.ones((4, 16))}},
        r"blk.0.attn_q.weight in .* has 4 rows, which are not 4 heads of pairs",
    ),
    "merges": ({"merges": ["h e", "x y"]}, "the tokenizer in .* does not fit together"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_files_are_refused(tmp_path, monkeypatch, case):
    """Another architecture, a tensor that is missing or too short, merges of no tokens: each gets a sentence."""
    fields, message = WRONG[case]
    if case == "rows":
        monkeypatch.setattr(f"{__name__}.in_pairs", lambda array, heads: array)
    with pytest.raises(FileError, match=message):
        checkpoints.load(write(tmp_path / "a.gguf", **fields))


SAID: dict[str, tuple[dict[str, Any], str]] = {
    "factor": (
        {"llama.rope.scaling.factor": 4.0},
        "says rope.scaling.factor 4.0; what can be read here needs 1.0 or 0.0",
    ),
    "older factor": ({"llama.rope.scale_linear": 4.0}, "says rope.scale_linear 4.0"),
    "yarn": ({"llama.rope.scaling.type": "yarn"}, 'says rope.scaling.type "yarn"'),
    "experts": ({"llama.expert_count": 8}, "says expert_count 8"),
    "unknown": (
        {"llama.attention.clamp_kqv": 8.0},
        "says attention.clamp_kqv 8.0, a key that is not known here of a GGUF",
    ),
    "epsilon": ({"llama.attention.layer_norm_rms_epsilon": -1.0}, "layer_norm_rms_epsilon -1.0"),
    "context": ({"llama.context_length": 0}, "says context_length 0"),
    "width": ({"llama.rope.dimension_count": 2}, "and the tensors have 4. They are of different models"),
    "two widths": ({"llama.rope.dimension_count": 4, "llama.attention.key_length": 8}, "which are one thing"),
    "layers": ({"llama.attention.head_count_kv": [2, 1]}, "another value for each layer"),
    "part": ({"split.count": 2}, "is one part of 2 of a split file. Join them"),
    "adapter": ({"general.type": "adapter"}, "holds no model: its general.type is 'adapter'"),
}


@pytest.mark.parametrize("case", SAID)
def test_what_a_header_says_is_understood_or_refused(tmp_path, monkeypatch, case):
    """Scaled angles by any key, experts, keys that nobody knows, numbers of no model, parts: each gets a sentence."""
    said, message = SAID[case]
    if case in ("epsilon", "context"):  # which the file has already
        key = next(iter(said))
        named = {"epsilon": "add_layer_norm_rms_eps", "context": "add_context_length"}[case]
        monkeypatch.setattr(gguf.GGUFWriter, named, lambda self, value: None)
        said = {key: said[key]}
    with pytest.raises(FileError, match=message):
        checkpoints.load(write(tmp_path / "a.gguf", said=said))


def test_what_a_header_says_of_nothing_changes_nothing(tmp_path):
    """A factor of 1, no type of scaling, one value for all layers, angles' factors of 1, keys of others: the same model."""
    whole = checkpoints.load(write(tmp_path / "a.gguf"))
    said = {"llama.rope.scaling.type": "none", "llama.rope.scaling.factor": 1.0, "llama.rope.dimension_count": 4}
    said |= {"llama.attention.head_count_kv": [2, 2], "llama.attention.causal": True, "quantize.imatrix.file": "x"}
    said |= {"llama.attention.key_length": 4, "llama.vocab_size": 23, "general.type": "model", "split.count": 1}
    found = checkpoints.load(write(tmp_path / "b.gguf", said=said))
    assert jax.tree.structure(found.model) == jax.tree.structure(whole.model)
    for one, other in zip(jax.tree.leaves(found.model), jax.tree.leaves(whole.model), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_text_that_several_tokens_have_is_the_last_ones(tmp_path):
    """As llama.cpp has it; the others keep their numbers, and a text with their names in it is no token of theirs."""
    tokens = [*VOCABULARY[:-2], "he", "\u0120t"]
    loaded = checkpoints.load(write(tmp_path / "a.gguf", tokens=tokens))
    first = VOCABULARY.index("he")
    ids = loaded.encode("the the he")
    assert [tokens[i] for i in ids] == ["t", "he", "\u0120the", *("\u0120", "he")] and first not in ids and 21 in ids
    assert loaded.tokens is not None and loaded.tokens.size == 23
    assert loaded.decode([21]) == ["he"] and loaded.decode([first]) != ["None"]


@pytest.mark.slow
def test_smollm2_is_the_real_model(monkeypatch):
    """The weights of the package, dequantised here, give transformers' logits and know a capital; digits stand alone."""
    monkeypatch.delenv("DUALFORM_CACHE")
    if not is_there(known("smollm2")):
        pytest.skip("smollm2 is not in the cache; `dualform models get smollm2` brings it")
    loaded = checkpoints.load("smollm2", dtype=jnp.float32)
    assert loaded.model.parameters() == 134_515_008 and loaded.tokens is not None
    ids = loaded.encode("Call me Ishmael. Some years ago\u2014never mind how long precisely, 1851")
    assert loaded.decode(ids)[:4] == ["Call", " me", " Ishmael", "."] and loaded.decode(ids)[-4:] == [*"1851"]
    oracle, _ = read_tensors(DATA.parent / "generation" / "smollm2.safetensors")
    small = models.with_context(loaded.model, 64)
    with jax.enable_x64(False):  # not compiled, which would take longer than both runs
        logits, _ = small(jnp.asarray(oracle["tokens"]))
        answer, _ = small(jnp.asarray(loaded.encode("The capital of France is")))
    assert np.abs(np.asarray(logits)[:, oracle["columns"]] - oracle["logits"]).max() < 1e-3
    assert loaded.decode(np.asarray(answer[-1:].argmax(1))) == [" Paris"]


def test_the_context_can_be_cut():
    """Up to the context nothing changes; behind it the past is forgotten, and the state is as small."""
    model = checkpoints.load(DATA / "smollm").model
    x = jnp.asarray(read_tensors(DATA / "smollm" / "expected.safetensors")[0]["tokens"])
    short = models.with_context(model, 9)
    whole, cut = np.asarray(model(x)[0]), np.asarray(short(x)[0])
    np.testing.assert_allclose(cut[:9], whole[:9], rtol=1e-10)
    assert np.abs(cut[9:] - whole[9:]).max() > 1e-3
    assert short.init_state()[0][0].keys.shape == (2, 9, 4)  # one place for each token that is seen
    with pytest.raises(InputError, match="window is 0; a token sees at least itself"):
        models.with_context(model, 0)


def test_fresh_llamas_have_biases_where_asked_for():
    """Fresh weights are of the shapes of a checkpoint; a Qwen2 has biases of queries, keys and values."""
    sizes: Any = {"vocabulary": 23, "d": 16, "layers": 2, "heads": 4, "kv_heads": 2, "hidden": 24, "context": 64}
    shapes = lambda model: [leaf.shape for leaf in jax.tree.leaves(model)]
    make: Any = lambda **options: shapes(models.llama(key=jax.random.key(0), **sizes, **options))
    assert make(tied=False, biases=True) == shapes(checkpoints.load(DATA / "qwen2").model)
    assert make() == shapes(checkpoints.load(DATA / "smollm").model)


def test_a_folder_of_transformers_has_the_configs_window(tmp_path):
    """Mistral's attention sees as many tokens as its config's sliding window."""
    save_file(load_file(DATA / "mistral" / "model.safetensors"), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text((DATA / "mistral" / "config.json").read_text())
    assert checkpoints.load(tmp_path).model.blocks[0].mixer.window == 5
