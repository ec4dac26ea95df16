"""A model comes back from its file to the bit, with its settings, and goes on as if it had never been written."""

import json
from typing import Any

import jax.numpy as jnp
import jax.random as jr
import pytest

from dualform.checkpoints import load_weights, save_weights
from dualform.errors import FileError
from dualform.mixers import SoftmaxAttention, registry
from dualform.models import Bidirectional, Block, LanguageModel, LayerNorm
from dualform.tensor_file import read_tensors, write_tensors
from tests.laws import laws
from tests.models.families import VOCABULARY, D, language_model, sequence_model, shaken, tokens


def models(dtype):
    """Every part and every setting, present and absent."""
    gru = registry()["gru"](D, key=jr.key(0), dtype=dtype)
    plain = Block(None, gru, None, None)
    layer = Block.make(gru, key=jr.key(1), norm="layer", mlp="gelu", hidden=3, dtype=dtype)
    offset = Block.make(gru, key=jr.key(1), mlp="geglu", hidden=3, bias=True, plus_one=True, epsilon=1e-4, dtype=dtype)
    hgrn = Block.make(registry()["hgrn"](D, key=jr.key(2), dtype=dtype), key=jr.key(2), dtype=dtype)
    lm = lambda blocks, **options: shaken(LanguageModel.make(blocks, VOCABULARY, key=jr.key(3), dtype=dtype, **options))
    return [
        language_model("lru_in_out", dtype=dtype),
        lm((plain, layer, offset), tied=True, scale=2.0, softcap=30.0, norm=LayerNorm(jnp.ones(D, dtype))),
        lm((hgrn, hgrn), bounds=jnp.ones((2, D), dtype)),
        sequence_model("lru_in_out", pool="mean", dtype=dtype),
        Block.make(Bidirectional(gru, gru, "sum"), key=jr.key(4), dtype=dtype),
    ]


def test_models_come_back_to_the_bit(tmp_path):
    """The same tree, settings included, the same bits in any dtype, and the same file when it is written again."""
    made = models(jnp.float32)
    for i, model in enumerate([*made, *laws.cast(made, jnp.bfloat16)]):
        path = tmp_path / f"{i}.safetensors"
        save_weights(path, model)
        found = load_weights(path, type(model))
        laws.check_same_bits(found, model, type(model).__name__)
        before = path.read_bytes()
        save_weights(path, found)
        assert path.read_bytes() == before


def test_a_loaded_model_gives_the_same_logits(tmp_path):
    """Logits and states of the loaded model are the saved one's to the bit, from a carried state on."""
    model = models(jnp.float32)[1]
    save_weights(tmp_path / "m.safetensors", model)
    found = load_weights(tmp_path / "m.safetensors", LanguageModel)
    _, state = laws.call(model, tokens(1))
    laws.check_same_bits(laws.call(found, tokens(0), state), laws.call(model, tokens(0), state), "logits")


def test_a_damaged_model_names_the_part(tmp_path):
    """A missing array is named, with the part that needs it."""
    path = tmp_path / "m.safetensors"
    save_weights(path, models(jnp.float32)[1])
    arrays, metadata = read_tensors(path)
    write_tensors(path, {name: array for name, array in arrays.items() if name != "blocks.2.mlp.w_up"}, metadata)
    with pytest.raises(FileError, match="lacks w_up, which a GatedMLP needs"):
        load_weights(path)


STRUCTURES: dict[str, Any] = {
    "settings: a list": {"settings": []},
    "settings: nothing": {"settings": None},
    "parts: a list": {"parts": []},
    "parts: a number": {"parts": 3},
    "parts: a text": {"parts": "blocks"},
    "class: a number": {"class": 3},
    "an array's name": {"settings": {"embedding": 1.0}},
    "a text for a number": {"settings": {"softcap": "x"}},
    "a flag for a number": {"settings": {"scale": True}},
    "nothing for a number": {"settings": {"scale": None}},
    "a part of another class": {"parts": {"norm": {"class": "LRU", "parts": {}, "settings": {}}}},
    "no blocks": {"parts": {"blocks": 5}},
}


@pytest.mark.parametrize("case", STRUCTURES)
def test_a_damaged_structure_is_refused(tmp_path, case):
    """A list or a number where an object is to be, a setting of another kind, a part that does not belong: our own error."""
    path = tmp_path / "m.safetensors"
    save_weights(path, models(jnp.float32)[1])
    arrays, metadata = read_tensors(path)
    structure = json.loads(metadata["structure"])
    for key, value in STRUCTURES[case].items():
        structure[key] = structure[key] | value if isinstance(value, dict) else value
    write_tensors(path, arrays, metadata | {"structure": json.dumps(structure)})
    with pytest.raises(FileError, match="Write it again|does not know"):
        load_weights(path)


OLD: dict[str, Any] = {
    "a window": ({"window": 5, "sliding": True}, {"window": 5}),
    "a window, before contexts": ({"window": 5}, {"window": 5}),
    "none said": ({}, {"window": 1024}),
    "a context": ({"window": 5, "sliding": False}, {"context": 5}),
}


def renamed(path, settings):
    """The file of an attention, with other words for what bounds it."""
    save_weights(path, SoftmaxAttention.make(D, key=jr.key(0), window=3))
    arrays, metadata = read_tensors(path)
    structure = json.loads(metadata["structure"])
    others = {name: value for name, value in structure["settings"].items() if name not in ("window", "context")}
    structure["settings"] = others | settings
    write_tensors(path, arrays, metadata | {"structure": json.dumps(structure)})
    return path


@pytest.mark.parametrize("case", OLD)
def test_older_words_for_a_window_and_a_context(tmp_path, case):
    """A file with one number, and a mark of whether it slides, is the attention that it was."""
    settings, now = OLD[case]
    found = load_weights(renamed(tmp_path / "m.safetensors", settings), SoftmaxAttention)
    laws.check_same_bits(found, SoftmaxAttention.make(D, key=jr.key(0), **now), case)


def test_a_mark_of_sliding_that_is_none_is_refused(tmp_path):
    """A number where yes or no was said, and both words at once."""
    for settings in ({"window": 5, "sliding": 1}, {"window": 5, "context": None, "sliding": False}):
        with pytest.raises(FileError, match="has what no SoftmaxAttention has: sliding"):
            load_weights(renamed(tmp_path / "m.safetensors", settings))
