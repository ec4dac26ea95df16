"""The models that come with the package: small, with a record, and as good as it says; their commands train and write."""

from importlib.resources import files
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from dualform import checkpoints
from dualform.checkpoints.loading import SHIPPED
from dualform.errors import FileError, InputError
from dualform.experiments.embedded_models import (
    Characters,
    held_out_loss,
    main,
    read_text,
    write,
)
from dualform.mixers import GLA, Mamba, MinGRU
from dualform.tasks import TokenRecall
from dualform.tasks.token_recall import KEYS, VALUES
from dualform.tensor_file import read_tensors
from dualform.training import FitConfig

FIT = FitConfig(steps=3, chunk=2, warmup=1, learning_rate=1e-3)
PLAY = "Who's there?\nNay, answer me: stand, and unfold yourself.\n"


@pytest.mark.parametrize("name", SHIPPED)
def test_what_is_shipped_is_small_and_has_a_record(name):
    """Under 400 KB each, with the config, the seed, the versions and what was measured; run in float32."""
    path = files("dualform.checkpoints") / "data" / SHIPPED[name]
    assert len(path.read_bytes()) < 400_000
    loaded = checkpoints.load(name)
    assert (loaded.name, loaded.source) == (name, "dualform") and loaded.model.embedding.dtype == jnp.float32
    assert {"seed", "fit", "d"} <= set(loaded.record["config"]) and {"jax", "dualform"} <= set(
        loaded.record["versions"]
    )
    assert loaded.tokens is not None and loaded.tokens.size == loaded.model.vocabulary


def test_the_character_model_reads_english():
    """Gated linear attention, Mamba and a minimal GRU, of which English is likely and the same letters sorted are not."""
    loaded = checkpoints.load("characters")
    assert [type(block.mixer) for block in loaded.model.blocks] == [GLA, Mamba, MinGRU]
    assert loaded.record["measured"]["held_out_loss"] < 1.75
    loss = eqx.filter_jit(
        lambda x: -jnp.mean(jax.nn.log_softmax(loaded.model(x[:-1])[0])[jnp.arange(len(x) - 1), x[1:]])
    )
    said, sorted_letters = (float(loss(jnp.asarray(loaded.encode(text)))) for text in (PLAY, "".join(sorted(PLAY))))
    assert said < 2 < 3 < sorted_letters
    assert loaded.decode(loaded.encode("A\u00e9")) == ["A", "\ufffd"]


def test_the_character_models_loss_is_the_records(shared):
    """On the held-out tenth of the text that it was trained on."""
    loaded = checkpoints.load("characters")
    text = read_text(shared / "data" / "text" / loaded.record["config"]["text"])
    held_out = loaded.encode(text[len(text) * 9 // 10 :])[:20_481]
    found = held_out_loss(loaded.model, held_out)
    assert abs(found - loaded.record["measured"]["held_out_loss"]) < 0.1  # a fifth of the held-out text


def test_the_recall_model_recalls():
    """More than 99 of 100 questions are answered, of sequences that were not trained on."""
    loaded = checkpoints.load("recall")
    task = TokenRecall(pairs=loaded.record["config"]["pairs"], asked=loaded.record["config"]["pairs"], batch=256)
    tokens, targets = jax.jit(task.sample)(jr.key(2**20))
    logits = eqx.filter_jit(jax.vmap(lambda row: loaded.model(row)[0]))(tokens)
    answers = np.asarray(targets)
    assert (np.asarray(logits).argmax(-1) == answers)[answers >= 0].mean() > 0.99
    assert loaded.encode(KEYS + VALUES).max() == len(KEYS + VALUES) - 1


FEW = ["--fit.steps", "3", "--fit.chunk", "2", "--fit.warmup", "1", "--batch", "2"]


@pytest.mark.slow
def test_a_command_trains_and_writes(tmp_path: Path):
    """A few steps give a file that `checkpoints.load` reads, with its vocabulary and its record, in float16 on disk."""
    out = tmp_path / "a.safetensors"
    main(["recall", "--out", str(out), "--d", "4", "--pairs", "2", *FEW])
    found = checkpoints.load(out)
    assert 0 <= found.record["measured"]["accuracy"] <= 1 and found.record["measured"]["steps"] == 3
    assert found.record["config"]["pairs"] == 2 and "".join(found.decode(found.encode("ab01"))) == "ab01"
    assert {array.dtype for array in read_tensors(out)[0].values()} == {np.dtype(np.float16)}


@pytest.mark.slow
def test_the_character_command_trains_and_writes(tmp_path: Path):
    """The same for a text: the vocabulary is the text's."""
    (tmp_path / "play.txt").write_text(PLAY * 40)
    sizes = ["--d", "8", "--hidden", "4", "--heads", "2", "--length", "5"]
    out = tmp_path / "made.safetensors"
    main(["characters", "--text", str(tmp_path / "play.txt"), "--out", str(out), *FEW, *sizes])
    loaded = checkpoints.load(out)
    assert "".join(loaded.decode(loaded.encode(PLAY))) == PLAY
    assert loaded.record["measured"]["steps"] == 3 and loaded.record["config"]["text"] == "play.txt"


def test_texts_that_do_not_serve(tmp_path: Path):
    """A text that is missing, no text, or too short, is named."""
    with pytest.raises(FileError, match="none.txt' cannot be read: No such file"):
        read_text(tmp_path / "none.txt")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\xfd")
    with pytest.raises(FileError, match="it is not UTF-8 text. Give a text file"):
        read_text(tmp_path / "bytes")
    (tmp_path / "short.txt").write_text("abc")
    with pytest.raises(InputError, match="has 3 characters; a tenth of it is held out, and must be longer than 96"):
        write(Characters(tmp_path / "short.txt", fit=FIT))
