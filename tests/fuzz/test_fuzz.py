"""Whatever is done to a file of any format: it is read, or refused in a sentence that can be printed, and nothing else."""

import functools
import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dualform import checkpoints, generation
from dualform.checkpoints.files import read_hdf5, read_npz, read_onnx
from dualform.checkpoints.files.npz import read_npy
from dualform.checkpoints.pretrained.audio import samples_of
from dualform.checkpoints.pretrained.textgenrnn import _characters
from dualform.checkpoints.tokens import PublishedTokens
from dualform.errors import DualformError
from tests.fuzz.make_corpus import CORPUS, make, session
from tests.fuzz.mutations import mutation

QUICK, THOROUGH, SESSION = 50, 2_000, "session.state"
OPTIONAL = {".h5": "h5py", ".onnx": "onnx", ".gguf": "gguf", ".json": "tokenizers"}


def text_of(path: Path) -> None:
    """A tokenizer, and what it makes of a text and of its own tokens."""
    tokens = PublishedTokens.read(path)
    for text in ("ab a\n", "caf\u00e9 \U0001f600", ""):
        ids = tokens.encode(text)
        assert all(isinstance(each, str) for each in tokens.decode(ids[ids < tokens.size]))
    list(generation.written(tokens, iter([0, 1, 2]), 3))


def beside(name: str) -> Callable[[Path], None]:
    """What loads a folder of the small Llama in which this file is the damaged one."""

    def load(path: Path) -> None:
        folder = path.with_suffix(".folder")
        folder.mkdir(exist_ok=True)
        shutil.copy(CORPUS / "llama.config.json", folder / "config.json")
        weights = "model-00001-of-00001.safetensors" if name.endswith("index.json") else "model.safetensors"
        shutil.copy(CORPUS / "llama.safetensors", folder / weights)
        shutil.copy(path, folder / name)
        checkpoints.load(folder)

    return load


def session_of(path: Path) -> None:
    """A saved session of the package's own model."""
    model = generation.bounded(checkpoints.load(CORPUS / "own.safetensors").model, "tova", 4)
    generation.Session.load(path, model)


FORMATS: dict[str, Callable[[Path], Any]] = {
    "array.npy": read_npy,
    "stored.npz": read_npz,
    "deflated.npz": read_npz,
    "bzip2.npz": read_npz,
    "lzma.npz": read_npz,
    "arrays.h5": read_hdf5,
    "graph.onnx": read_onnx,
    "llama.gguf": checkpoints.load,
    "rwkv4.bin": checkpoints.load,
    "own.safetensors": checkpoints.load,
    "llama.safetensors": beside("model.safetensors"),
    "llama.config.json": beside("config.json"),
    "generation_config.json": beside("generation_config.json"),
    "index.json": beside("model.safetensors.index.json"),
    SESSION: session_of,
    "bytes.tokenizer.json": text_of,
    "sentencepiece.tokenizer.json": text_of,
    "characters.json": _characters,
    "sound.wav": samples_of,
}
"""What reads each file of the corpus."""


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """A cache folder of its own: GGUF files that can be read are kept there."""
    monkeypatch.setenv("DUALFORM_CACHE", str(tmp_path / "cache"))


@functools.cache
def whole_of(name: str) -> bytes:
    """The file as it should be."""
    return session() if name == SESSION else (CORPUS / name).read_bytes()


def needed(name: str) -> None:
    pytest.importorskip(OPTIONAL.get(Path(name).suffix, "numpy"), reason="the package that reads it is not installed")


def refused(name: str, folder: Path, seeds: range) -> int:
    """How many of the damaged files are refused; any other error is said with its seed, which makes the file again."""
    whole, count = whole_of(name), 0
    path = folder / name
    for seed in seeds:
        path.write_bytes(mutation(whole, seed))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a parser may warn of what it then reads
                FORMATS[name](path)
        except DualformError as error:
            said = str(error)
            assert said.isprintable() and 20 < len(said) <= 4_000, f"{name}, seed {seed}: {said!r}"
            count += 1
        except BaseException as error:
            raise AssertionError(f"{name}, seed {seed}: {type(error).__name__}: {error}") from error
    return count


@pytest.mark.parametrize("name", FORMATS)
def test_every_file_of_the_corpus_is_whole(name, tmp_path):
    """Undamaged, each is read, so that it is the damage which is refused."""
    needed(name)
    (tmp_path / name).write_bytes(whole_of(name))
    FORMATS[name](tmp_path / name)
    assert set(FORMATS) == {*(path.name for path in CORPUS.iterdir()), SESSION}


@pytest.mark.parametrize("name", FORMATS)
def test_a_little_damage(name, tmp_path):
    """Of 50 damaged files of each format some are refused, and none does anything else."""
    needed(name)
    assert refused(name, tmp_path, range(QUICK)) >= QUICK // 10


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS)
def test_much_damage(name, tmp_path):
    """The same of 2,000."""
    needed(name)
    assert refused(name, tmp_path, range(QUICK, QUICK + THOROUGH)) >= THOROUGH // 10


@pytest.mark.slow
def test_the_corpus_is_made_by_its_script(tmp_path):
    """What the script writes has the same names, and the same content where no library's version matters."""
    needed("llama.gguf")
    make(tmp_path / "made")
    assert {path.name for path in (tmp_path / "made").iterdir()} == {path.name for path in CORPUS.iterdir()}
    for name in ("stored.npz", "array.npy", "rwkv4.bin", "llama.safetensors", "sound.wav"):
        assert (tmp_path / "made" / name).read_bytes() == (CORPUS / name).read_bytes(), name
    made, kept = (json.loads((folder / "index.json").read_text()) for folder in (tmp_path / "made", CORPUS))
    assert made == kept and np.isfinite(read_npy(CORPUS / "array.npy")).all()
