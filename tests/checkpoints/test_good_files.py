"""Files that are good are read: as older programs, base models, split downloads and our own `save_weights` write them."""

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from dualform import checkpoints, generation, models
from dualform.errors import FileError, InputError
from dualform.mixers import MinGRU
from dualform.models.language_model import context_of
from dualform.tensor_file import read_tensors
from tests.checkpoints.test_config_keys import made, same, stored
from tests.checkpoints.test_load import DATA, copied, error
from tests.laws import laws

BASE = {"smollm": "model.", "mamba": "backbone.", "recurrent_gemma": "model.", "gla_plain": "model."}


@pytest.mark.parametrize("name", BASE)
def test_a_base_model_has_no_prefix(name):
    """A tied model saved without its head, and so without the prefix of its names, is the same model."""
    arrays, fields = stored(name)
    bare = {key.removeprefix(BASE[name]): array for key, array in arrays.items() if key != "lm_head.weight"}
    assert same(made(bare, fields), made(arrays, fields))


def test_a_base_model_without_a_head_of_its_own_is_refused():
    """Where the head is no embedding, a base model lacks it: nothing is made up."""
    for name, prefix, head in (("llama", "model.", "lm_head.weight"), ("rwkv4", "rwkv.", "head.weight")):
        arrays, fields = stored(name)
        bare = {key.removeprefix(prefix): array for key, array in arrays.items() if key != head}
        with pytest.raises(FileError, match=f"lacks {head}"):
            made(bare, fields)


@pytest.mark.parametrize("name, dtype", [("llama", np.float32), ("mistral", np.float16), ("qwen2", np.float32)])
def test_stored_angles_are_held_to_the_config(name, dtype):
    """Older files store base^(-2 i / width): they are taken, in any precision, and refused where they are others."""
    arrays, fields = stored(name)
    width = fields.get("head_dim") or fields["hidden_size"] // fields["num_attention_heads"]
    angles = (10_000.0 ** (-np.arange(0, width, 2) / width)).astype(dtype)
    names = [f"model.layers.{i}.self_attn.rotary_emb.inv_freq" for i in range(2)] + ["model.rotary_emb.inv_freq"]
    assert same(made(arrays | {each: angles for each in names}, fields), made(arrays, fields))
    for wrong in (angles / 4, np.ones_like(angles)):
        with pytest.raises(FileError, match="inv_freq in .* is not what the config's rope_theta of 10000 gives"):
            made(arrays | {names[0]: wrong}, fields)


def test_one_file_goes_before_shards(tmp_path):
    """Where a folder has both, it is the model of the one file, as transformers reads it."""
    folder = copied(tmp_path, "gla_plain")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "gone.safetensors"}}))
    assert same(checkpoints.load(folder).model, checkpoints.load(DATA / "gla_plain").model)


def test_a_tied_head_in_a_shard_that_the_index_does_not_name(tmp_path):
    """The embedding again, under the head's name, is taken; another matrix, or a tensor of no model, is refused."""
    folder = copied(tmp_path, "gla_plain")
    arrays = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    shard, embedding = folder / "model-00001-of-00001.safetensors", arrays["model.embeddings.weight"]
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": dict.fromkeys(arrays, shard.name)}))
    save_file(arrays | {"lm_head.weight": embedding.copy()}, shard)
    assert same(checkpoints.load(folder).model, checkpoints.load(DATA / "gla_plain").model)
    for extra, message in (
        ({"lm_head.weight": embedding + 1}, "lm_head.weight is another than the embedding"),
        ({"model.more": embedding.copy()}, "has model.more, which no GLA that can be read here has"),
    ):
        save_file(arrays | extra, shard)
        with pytest.raises(FileError, match=message):
            checkpoints.load(folder)


def padded(path: Path, size: int) -> None:
    """The header of a safetensors file, as long as this."""
    data = path.read_bytes()
    old = int.from_bytes(data[:8], "little")
    header = data[8 : 8 + old].rstrip()
    assert len(header) <= size
    path.write_bytes(size.to_bytes(8, "little") + header.ljust(size) + data[8 + old :])


@pytest.mark.parametrize("size", [1144, 1152, 1408, 640 + 65536, 19280, int.from_bytes(b"GGU", "little")])
def test_the_length_of_a_header_is_no_other_format(tmp_path, size):
    """A header whose length has the first bytes of a pickle, a zip archive or another format is still a header."""
    block = models.Block.make(MinGRU.make(2, key=jax.random.key(0)), key=jax.random.key(1))
    model, path = models.LanguageModel.make((block,), 3, key=jax.random.key(2)), tmp_path / "own.safetensors"
    checkpoints.save_weights(path, model)
    padded(path, size)
    assert same(checkpoints.load(path).model, model)
    arrays, _ = checkpoints.read_arrays(path)
    np.testing.assert_array_equal(arrays["embedding"], model.embedding)


def test_one_call_reads_more_than_the_context(tmp_path):
    """transformers' logits of 13 tokens with a context of 5: each token sees all. Going on from a state behind it is refused."""
    loaded = checkpoints.load(copied(tmp_path, "llama", max_position_embeddings=5))
    model: Any = loaded.model
    assert context_of(model) == 5 and error(loaded, "llama") <= laws.EXACT
    x = jnp.asarray(read_tensors(DATA / "llama" / "expected.safetensors")[0]["tokens"])
    whole = checkpoints.load(DATA / "llama").model
    logits, state = model(x[:4])
    rest, after = model(x[4:], state)
    laws.check_close(rest, whole(x)[0][4:], laws.EXACT, "from a state within the context")
    message = "goes on from a state in a context of 5 tokens .*, and 14 are to be read. Give a shorter text, or bound"
    for call in (lambda: model(x[:2], after), lambda: model.read(x[:2], after), lambda: model.step(x[0], after)):
        with pytest.raises(InputError, match=message):
            call()
    anew = jnp.arange(2) == 0
    laws.check_close(model(x[:2], after, start=anew)[0], whole(x[:2])[0], laws.EXACT, "a document that begins")
    assert np.isnan(jax.jit(lambda state: model(x[:2], state)[0])(after)).all()
    late = jax.jit(lambda state: model(x[:2], state, start=anew[::-1])[0])(after)
    assert np.isnan(late[0]).all() and np.isfinite(late[1]).all()


def test_texts_beyond_the_context_are_refused_as_they_are_written():
    """Every driver says so before or when it comes to it; what it gave until then is the model's own."""
    small: Any = {"vocabulary": 23, "d": 8, "layers": 1, "heads": 2, "kv_heads": 1, "hidden": 8, "context": 5}
    model = models.llama(key=jax.random.key(0), **small)
    with pytest.raises(InputError, match="in a context of 5 tokens .*, and 7 are to be read"):
        generation.generate(model, [1, 2, 3], 5, temperature=0)
    with pytest.raises(InputError, match="and 7 are to be read"):
        generation.generate_batch(model, [[1], [1, 2, 3]], 5, temperature=0)
    tokens = generation.stream(model, [1, 2, 3], temperature=0)
    found = [next(tokens) for _ in range(2)]
    assert found == generation.generate(model, [1, 2, 3], 3, temperature=0)[0].tolist()[:2]
    with pytest.raises(InputError, match="and 6 are to be read"):
        next(tokens)
    session = generation.Session(model)
    session.read(np.array([1, 2, 3]))
    with pytest.raises(InputError, match="and 6 are to be read"):
        session.read(np.array([1, 2, 3]))
    assert session.write(2, temperature=0) == found[:2]
    with pytest.raises(InputError, match="and 6 are to be read"):
        session.write(1, temperature=0)


def test_a_context_is_no_window_of_a_bounded_model(tmp_path):
    """A policy that keeps the first token keeps it behind the context, too; a sliding window forgets it as it always does."""
    attention = checkpoints.load(copied(tmp_path, "llama", max_position_embeddings=5)).model.blocks[0].mixer
    slides = checkpoints.load(DATA / "mistral").model.blocks[0].mixer
    assert (attention.window, attention.context) == (None, 5) and (slides.window, slides.context) == (5, None)
    assert attention.reach > 10**9 and slides.reach == 5 and attention.bound == slides.bound == 5
    arrays, fields = stored("mistral")
    for context in (4, 5, 6):  # a window that is no smaller slides all the same
        assert same(made(arrays, fields | {"max_position_embeddings": context}), made(arrays, fields))


def test_qwen2s_windows_are_of_its_last_layers():
    """With a window, layers from max_window_layers on slide, or those that layer_types says; the others read the context."""
    arrays, fields = stored("qwen2")
    windows = lambda **more: [(b.mixer.window, b.mixer.context) for b in made(arrays, fields | more).blocks]
    whole, slides = (None, 64), (5, None)
    said: Any = {"use_sliding_window": True, "sliding_window": 5, "layer_types": None}
    assert windows(**said) == [whole, whole]
    assert windows(**said, max_window_layers=1) == [whole, slides]
    assert windows(**said, max_window_layers=0) == [slides, slides]
    assert windows(**said | {"layer_types": ["sliding_attention", "full_attention"]}) == [slides, whole]
    for more in (
        {"layer_types": ["sliding_attention"] * 2},
        {"layer_types": ["full_attention"]},
        {"layer_types": ["conv"] * 2},
    ):
        with pytest.raises(FileError, match="says layer_types"):
            windows(**more)


def test_a_text_longer_than_a_sliding_window():
    """Text longer than the window is written, each token as reading the whole text anew says."""
    model: Any = checkpoints.load(DATA / "mistral").model
    ids = [1, 2, 3]
    for _ in range(9):  # what comes later changes nothing
        ids.append(int(model(jnp.asarray(ids + [0] * (12 - len(ids))))[0][len(ids) - 1].argmax()))
    session = generation.Session(model)
    session.read(np.array(ids[:3]))
    assert session.write(9, temperature=0) == ids[3:]
