"""A model from a file, a folder or a name: our own weights, published checkpoints, and those that come with the package."""

import functools
import json
import os
from collections.abc import Callable, Mapping
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Int

from dualform.arrays import accumulator
from dualform.checkpoints.cache import files_of
from dualform.checkpoints.catalogue import known
from dualform.checkpoints.files.gguf import MAGIC as GGUF
from dualform.checkpoints.files.npz import read_npy
from dualform.checkpoints.gguf_conversion import converted_gguf
from dualform.checkpoints.layouts import layout_of
from dualform.checkpoints.layouts.config import TOKENS, read_json, shown_json
from dualform.checkpoints.layouts.tensors import Tensors
from dualform.checkpoints.pretrained.load import READERS, load_known
from dualform.checkpoints.rwkv4_file import MAGIC, read_rwkv4
from dualform.checkpoints.tokens import ByteTokens, PublishedTokens, Tokens, checked_ids, from_notes, shown
from dualform.checkpoints.weights import restored
from dualform.errors import FileError, InputError, require
from dualform.published_tokens import TOKENIZER
from dualform.reading import reading
from dualform.reading import shown as printed
from dualform.tensor_file import StoredArray, is_safetensors, open_tensors

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
GENERATION, END = "generation_config.json", "eos_token_id"
DTYPES = ("float16", "bfloat16", "float32", "float64")
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")


class Loaded(NamedTuple):
    """A model, and what is known of it.

    - model.  tokens: what turns text into its tokens, None where nothing is known of that, or it reads no text.
    - name: short, for people.  source: the file or folder, or the package's own.
    - architecture: in words, such as "Mamba-2".
    - record: what the file says of how it was trained, or its config.
    """

    model: Any
    tokens: Tokens | None
    name: str
    source: str
    architecture: str
    record: dict[str, Any]

    def encode(self, text: str) -> Int[np.ndarray, " time"]:
        """The tokens of a text, (time,).

        **Raises:** `InputError` where the model has no tokenizer, or the text is empty or has a token that the model has not.
        """
        require(
            self.tokens is not None,
            f"{self.name} came without a tokenizer, so that text cannot be read for it. Give activations, "
            "(time, d), in an .npy file, or put a tokenizer.json beside its weights.",
        )
        require(len(text) >= 1, "the text is empty; give at least one character.")
        assert self.tokens is not None
        ids, vocabulary = self.tokens.encode(text), self._vocabulary
        require(
            vocabulary is None or int(ids.max(initial=0)) < vocabulary,
            f"the tokenizer gives this text token {ids.max(initial=0)}, and {self.name} has tokens from 0 to "
            f"{(vocabulary or 0) - 1}. Is the tokenizer another model's?",
        )
        return ids

    def read(self, source: str | os.PathLike[str]) -> tuple[Any, tuple[str, ...]]:
        """What a call of the model takes of a text or, where it listens, of a WAV file; and what each token is called.

        A model that reads neither takes activations, (time, d_in), from an .npy file.

        **Raises:** `InputError` as `encode` does, and for activations of another shape; `FileError` where a file cannot be
        read.
        """
        if isinstance(source, os.PathLike) and os.fspath(source).endswith(".npy"):
            x, d_in = read_npy(source), getattr(self.model, "d_in", None)
            require(
                d_in is not None,
                f"{self.name} reads text; {os.fspath(source)!r} holds activations. Give a text.",
            )
            require(
                x.ndim == 2 and x.shape[1] == d_in and len(x) >= 1 and np.issubdtype(x.dtype, np.floating),
                f"{os.fspath(source)!r} holds {x.dtype} of shape {x.shape}; {self.name} takes activations, (time, {d_in}).",
            )
            return jnp.asarray(x), tuple(str(t) for t in range(len(x)))
        if hasattr(self.model, "encode"):
            return self.model.encode(source)
        ids = self.encode(os.fspath(source))
        return ids, tuple(self.decode(ids))

    def decode(self, ids: Any) -> list[str]:
        """What each token says, one string for each; its number where the model has no tokenizer.

        **Raises:** `InputError` for what is no token of the model's.
        """
        return shown(self.tokens, ids if self._vocabulary is None else checked_ids(ids, self._vocabulary))

    @property
    def _vocabulary(self) -> int | None:
        """How many tokens the model reads, None where it reads none."""
        return getattr(self.model, "vocabulary", None)


SHIPPED = {"characters": "characters.safetensors", "recall": "recall.safetensors"}
"""The models that come with the package, by name; `experiments.embedded_models` trained them."""


def _real(name: str) -> Loaded:
    """A real model from the user's cache."""
    told = known(name)
    record = {"licence": told.licence, "package": f"{told.package}=={told.version}", "what": told.what}
    source = f"the package {record['package']}"
    if name in READERS:
        return Loaded(load_known(name), None, name, source, told.architecture, record)
    found = _gguf(files_of(name)[0], None, told.members[0].sha256)
    return found._replace(name=name, source=source, record=record | found.record)


KNOWN: dict[str, Callable[[], Loaded]] = {name: functools.partial(_real, name) for name in (*READERS, "smollm2")}
"""Real models that other packages carry, by name: what loads each from the user's cache (`dualform models get NAME`)."""


def load(source: str | os.PathLike[str], *, dtype: Any = None) -> Loaded:
    """The model that a path or a name stands for.

    A name is one of `SHIPPED` or `KNOWN`. A path is a safetensors file (`save_weights` wrote it, or it has the tensors of a
    published architecture, with its config.json beside it if there is one), a Hugging Face folder, whole or in shards, a
    run's folder, a GGUF file of a Llama or Qwen2, or a file of rwkv.cpp's. A path goes before a name. Nothing is ever
    unpickled, and nothing is downloaded.

    **Arguments:** dtype: of the real weights, one of `DTYPES`; as stored if not given, and float32 where that is narrower.

    **Raises:** `FileError` where there is nothing of that name, or it is a pickle, truncated, of an unknown architecture, or
    has a tensor too few, too many, of a wrong shape, not finite or beyond `dtype`.
    """
    path, name = Path(source), os.fspath(source)
    _check_dtype(dtype)
    if not _is_there(path):
        if name in KNOWN:
            found = KNOWN[name]()
        elif name in SHIPPED:
            with as_file(files("dualform.checkpoints") / "data" / SHIPPED[name]) as shipped:
                found = _file(shipped)._replace(name=name, source="dualform")
        else:
            raise FileError(
                f"there is no file or folder {name!r}, and no model of that name. Check the path; the names are "
                f"{', '.join([*SHIPPED, *KNOWN])}."
            )
    else:
        found = _at(path, dtype)
    return found._replace(model=_finite(converted(found.model, dtype), repr(name)))


def _check_dtype(dtype: Any) -> None:
    """Raise `InputError` unless a model can be in this dtype."""
    try:
        known = dtype is None or jnp.dtype(dtype) in map(jnp.dtype, DTYPES)
    except TypeError:
        known = False
    require(known, f"the dtype is {printed(dtype)}; a model's weights can be in {', '.join(DTYPES)}.")


def _is_there(path: Path) -> bool:
    """Whether there is a file or a folder; a name that no disk takes is none."""
    try:
        return path.exists()
    except OSError:
        return False


def _finite(model: Any, where: str) -> Any:
    """The model.

    **Raises:** `FileError` where a number that was finite in the file is beyond the dtype that it was brought into.
    """
    for path, leaf in jtu.tree_leaves_with_path(model):
        if _is_real(leaf) and not (fine := np.isfinite(np.asarray(leaf))).all():
            largest = float(jnp.finfo(leaf.dtype).max)
            raise FileError(
                f"{jtu.keystr(path)[1:]} of the model in {where} has {int((~fine).sum())} entries beyond {leaf.dtype}, whose "
                f"largest number is {largest:g}. Load it in a wider dtype, such as bfloat16 or float32."
            )
    return model


def _at(path: Path, dtype: Any) -> Loaded:
    """What a path holds."""
    where = repr(os.fspath(path))
    with reading(where, "checkpoint"):
        try:
            found = _folder(path) if path.is_dir() else _file(path, dtype)
            return _with_tokenizer(found, path if path.is_dir() else path.parent)
        except FileError:
            raise
        except OSError as error:
            raise FileError(f"{where} cannot be read: {error.strerror}. Check its permissions.") from None


def _with_tokenizer(found: Loaded, folder: Path) -> Loaded:
    """A language model with the tokenizer in its folder, where it brings none."""
    if found._vocabulary is None or found.tokens is not None or not (folder / TOKENIZER).is_file():
        return found
    return found._replace(tokens=PublishedTokens.read(folder / TOKENIZER))


def _with_ends(found: Loaded, folder: Path) -> Loaded:
    """A checkpoint with the ends of a text that its generation_config.json says, which go before those of its config."""
    said, where = read_json(folder / GENERATION) if (folder / GENERATION).is_file() else ({}, "")
    ends = said.get(END)
    if not TOKENS.fits(ends):
        raise FileError(f"{where} says {END} {shown_json(ends)}; what ends a text is {TOKENS.wanted}. Copy it again.")
    return found if ends is None else found._replace(record=found.record | {END: ends})


def converted(model: Any, dtype: Any = None) -> Any:
    """The model with its real arrays in `dtype`; in float32 or wider, as they are, if none is given."""
    to = lambda a: a.astype(accumulator(a.dtype) if dtype is None else dtype) if _is_real(a) else a
    return jtu.tree_map(to, model)


def _is_real(a: Any) -> bool:
    return eqx.is_inexact_array(a) and np.dtype(a.dtype).kind != "c"


def _folder(path: Path) -> Loaded:
    """A Hugging Face folder, or a run's."""
    if (path / WEIGHTS).is_file():  # it goes before shards, as in transformers
        arrays, metadata = open_tensors(path / WEIGHTS)
    elif (path / INDEX).is_file():
        arrays, metadata = _sharded(path), {}
    elif (path / "weights.safetensors").is_file():
        return _file(path / "weights.safetensors")._replace(name=path.name, source=os.fspath(path))
    else:
        pickles = sorted(p.name for p in path.iterdir() if p.suffix in PICKLES)
        if pickles:
            raise _pickle(path / pickles[0])
        raise FileError(
            f"{os.fspath(path)!r} has no {WEIGHTS} and no {INDEX}. Give a folder with a checkpoint in safetensors, or the path "
            "of one file."
        )
    return _published(arrays, metadata, path, path)


def _gguf(path: Path, dtype: Any, sha256: str | None = None) -> Loaded:
    """A GGUF file, whose weights are dequantised once."""
    made = converted_gguf(path, dtype=dtype, sha256=sha256)
    found = _from_tensors(made.arrays, made.fields, repr(os.fspath(path)), path)
    return found._replace(tokens=None if made.tokenizer is None else PublishedTokens.parsed(made.tokenizer, str(path)))


def _file(path: Path, dtype: Any = None) -> Loaded:
    """One file."""
    with path.open("rb") as file:
        first = file.read(8)
    if is_safetensors(path):
        arrays, metadata = open_tensors(path)
        return _published(arrays, metadata, path, path.parent)
    if first[:4] == MAGIC.to_bytes(4, "little"):
        model = read_rwkv4(path)
        tokens = ByteTokens() if model.vocabulary == ByteTokens.size else None
        return Loaded(model, tokens, path.stem, os.fspath(path), "RWKV-4", {})
    if first[:4] == GGUF:
        return _gguf(path, dtype)
    if path.suffix.lower() in PICKLES or first[:2] in (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
        raise _pickle(path)
    arrays, metadata = open_tensors(path)  # which says what is wrong with it
    return _published(arrays, metadata, path, path.parent)


def _pickle(path: Path) -> FileError:
    return FileError(
        f"{os.fspath(path)!r} is a pickle, or named as one: opening it could run any program, so it is not opened. Convert it to "
        "safetensors where it was made (safetensors.torch.save_file of its state dict), or take the safetensors file of the "
        "same model."
    )


class _Finite:
    """An array that is held to be finite when it is read."""

    def __init__(self, array: Any, name: str, where: str):
        self._array, self._name, self._where = array, name, where

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        found = np.asarray(self._array, dtype)
        if found.dtype.kind not in "iub" and not np.isfinite(found).all():
            raise FileError(f"{self._name} in {self._where} holds NaN or infinity. The file is damaged; copy it again.")
        return found


def _own(arrays: Mapping[str, Any], metadata: dict[str, str], path: Path) -> Loaded:
    """What `save_weights` wrote."""
    where = repr(os.fspath(path))
    checked = {name: _Finite(array, name, where) for name, array in arrays.items()}
    model, tokens = restored(checked, metadata, where), from_notes(metadata, where)
    return Loaded(model, tokens, path.stem, os.fspath(path), type(model).__name__, _record(metadata))


def _record(metadata: dict[str, str]) -> dict[str, Any]:
    try:
        record = json.loads(metadata.get("record", "{}"))
    except (ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}


def _published(arrays: Mapping[str, Any], metadata: dict[str, str], path: Path, folder: Path) -> Loaded:
    """A checkpoint of a published architecture, whose config and tokenizer are in `folder`."""
    where = repr(os.fspath(path))
    if metadata.get("format") == "dualform":
        return _own(arrays, metadata, path)
    beside = folder / "config.json"
    fields, said = read_json(beside) if beside.is_file() else (None, where)
    return _with_ends(_from_tensors(arrays, fields, said, path), folder)


def _from_tensors(arrays: Mapping[str, Any], fields: dict[str, Any] | None, said: str, path: Path) -> Loaded:
    """A model of tensors in a layout that is known here; said: what messages call its config."""
    where = repr(os.fspath(path))
    layout, config = layout_of(fields, arrays, said)
    tensors = Tensors(arrays, where, layout.KIND)
    try:
        model = layout.build(tensors, config)
    except InputError as error:
        raise FileError(f"the weights in {where} do not fit together: {error}") from None
    tensors.finish()
    name = path.stem if path.is_file() else path.name
    return Loaded(model, None, name, os.fspath(path), layout.KIND, config.fields)


def _sharded(path: Path) -> dict[str, StoredArray]:
    """Every tensor of a checkpoint in shards, each from the file that the index names."""
    index, where = read_json(path / INDEX)
    places = index.get("weight_map")
    if not isinstance(places, dict) or not places or not all(isinstance(p, str) for p in places.values()):
        raise FileError(f"{where} has no weight_map that says which file has which tensor. Copy it again.")
    arrays: dict[str, StoredArray] = {}
    for shard in sorted(set(places.values())):
        if Path(shard).name != shard or not shard.endswith(".safetensors"):
            raise FileError(f"{where} names a shard {shard!r}; shards are safetensors files in the same folder.")
        found, _ = open_tensors(path / shard)
        wanted = {name for name, place in places.items() if place == shard}
        # A head that is the embedding may be in a shard that the index does not say: the layout holds it to the embedding.
        for name in sorted(wanted ^ {each for each in found if each in places}):
            lacks = (
                f"lacks {name}, which {INDEX} says is in it"
                if name in wanted
                else f"has {name}, which {INDEX} does not name"
            )
            raise FileError(f"{os.fspath(path / shard)!r} {lacks}. The folder is of several downloads; copy it again.")
        arrays |= found
    return arrays
