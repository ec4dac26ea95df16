"""Trained weights of RWKV-4 in the binary format of rwkv.cpp.

Little-endian throughout. A header of six int32: the magic number, the format's version, the vocabulary, d, layers, and the
dtype. Then every array: three int32, its dimensions, the length of its name and its dtype; the dimensions, the fastest
first; the name; the numbers. Of the dtypes, 0 is float32 and 1 float16; others are quantised. `time_decay` is stored as w
itself, -exp(log_rate).
"""

import os
import struct

import numpy as np

from dualform.errors import FileError, InputError
from dualform.mixers import RWKV4ChannelMixing, RWKV4TimeMixing
from dualform.models.block import Block
from dualform.models.language_model import LanguageModel
from dualform.models.norm import LayerNorm
from dualform.reading import existing_file, reading, shown

MAGIC, VERSIONS = 0x67676D66, (100, 101)
"""What a file begins with: "fmgg", and the versions of the format, which agree in all but the quantised dtypes."""

_DTYPES = {0: np.dtype("<f4"), 1: np.dtype("<f2")}

_TIME = {
    "mu_k": "time_mix_k",
    "mu_v": "time_mix_v",
    "mu_r": "time_mix_r",
    "w_k": "key.weight",
    "w_v": "value.weight",
    "w_r": "receptance.weight",
    "log_rate": "time_decay",
    "u": "time_first",
    "w_o": "output.weight",
}
_CHANNEL = {
    "mu_k": "time_mix_k",
    "mu_r": "time_mix_r",
    "w_k": "key.weight",
    "w_r": "receptance.weight",
    "w_v": "value.weight",
}
_NORM = {"weight": "weight", "bias": "bias"}


def read_rwkv4(path: str | os.PathLike[str]) -> LanguageModel:
    """The model whose trained weights a file of rwkv.cpp's format holds, in float32.

    **Raises:** `FileError` where the file is missing, truncated, of another format or version, quantised, holds a number that
    is not finite, or does not hold exactly the arrays of an RWKV-4; `InputError` where these do not fit together.

    **Source:** the format is that of github.com/RWKV/rwkv.cpp. Oracle: its test files.
    """
    path, where = existing_file(path, "a file of RWKV weights")
    with reading(where, "file of RWKV weights"):
        data = path.read_bytes()
        vocabulary, d, layers = _header(data, where)
        arrays = _arrays(data, where)
        _check_names(arrays, layers, where)
        if arrays["emb.weight"].shape != (vocabulary, d):
            raise FileError(
                f"{where} says that it has {vocabulary} tokens of width {d}, and its emb.weight is "
                f"{arrays['emb.weight'].shape}. It is damaged; copy or convert it again."
            )
        try:
            return _model(arrays, layers, where)
        except InputError as error:
            raise InputError(f"the weights in {where} do not fit together: {error}") from None


def _header(data: bytes, where: str) -> tuple[int, int, int]:
    """The vocabulary, d, and the number of layers."""
    if len(data) < 24 or struct.unpack_from("<i", data)[0] != MAGIC:
        raise FileError(
            f"{where} is not a file of RWKV weights in rwkv.cpp's format: it does not begin as one. Check the path, or "
            "convert it."
        )
    _, version, vocabulary, d, layers, dtype = struct.unpack_from("<6i", data)
    if version not in VERSIONS:
        raise FileError(f"{where} has format version {version}; 100 and 101 can be read here. Convert it again.")
    if dtype not in _DTYPES:
        raise FileError(f"{where} is quantised (dtype {dtype}); convert it to FP32 or FP16 instead.")
    if min(vocabulary, d, layers) < 1:
        raise FileError(f"{where} says that it has {vocabulary} tokens, width {d} and {layers} layers. It is damaged.")
    return vocabulary, d, layers


def _arrays(data: bytes, where: str) -> dict[str, np.ndarray]:
    """Every array by name, in float32."""
    arrays: dict[str, np.ndarray] = {}
    place, last = 24, "the header"

    def take(size: int) -> bytes:
        nonlocal place
        if size < 0 or place + size > len(data):
            raise FileError(f"{where} ends, or is damaged, after {last}. Copy or convert it again.")
        place += size
        return data[place - size : place]

    while place < len(data):
        dimensions, length, dtype = struct.unpack("<3i", take(12))
        if not 1 <= dimensions <= 2 or dtype not in _DTYPES:
            raise FileError(
                f"{where} has, after {last}, an array of {dimensions} dimensions and dtype {dtype}; vectors and matrices of "
                "FP32 or FP16 are needed. Is it of another version of RWKV, quantised, or damaged?"
            )
        shape = struct.unpack(f"<{dimensions}i", take(4 * dimensions))[::-1]
        name = shown(take(length).decode("utf-8", "replace"))
        if min(shape) < 1 or name in arrays:
            raise FileError(f"{where} has, after {last}, an array {name!r} of shape {shape} or twice. It is damaged.")
        size = _DTYPES[dtype].itemsize
        for side in shape:
            size *= side
        arrays[name] = np.frombuffer(take(size), _DTYPES[dtype]).reshape(shape).astype(np.float32)
        if not np.isfinite(arrays[name]).all():
            raise FileError(
                f"{where} has a number in {name} that is not finite. It is damaged; copy or convert it again."
            )
        last = name
    return arrays


def _named(prefix: str, names: dict[str, str]) -> dict[str, str]:
    """By our name, what the file calls it."""
    return {ours: f"{prefix}.{theirs}" for ours, theirs in names.items()}


def _check_names(arrays: dict[str, np.ndarray], layers: int, where: str) -> None:
    """Raise unless these are exactly the arrays of a model of so many layers."""
    expected = {"emb.weight", "head.weight", *_named("blocks.0.ln0", _NORM).values(), *_named("ln_out", _NORM).values()}
    # A layer without arrays ends the search: the header of a damaged file may say that there are billions.
    for i in range(min(layers, len(arrays) + 1)):
        for part, names in (("ln1", _NORM), ("att", _TIME), ("ln2", _NORM), ("ffn", _CHANNEL)):
            expected |= set(_named(f"blocks.{i}.{part}", names).values())
    missing, unknown = sorted(expected - set(arrays)), sorted(set(arrays) - expected)
    if unknown:
        raise FileError(
            f"{where} has {unknown[0]}, which no RWKV-4 of {layers} layers has. Is it of another version of RWKV?"
        )
    if missing:
        others = " and other arrays" if len(missing) > 1 else ""
        raise FileError(f"{where} lacks {missing[0]}{others}. It is truncated; copy it again.")


def _model(arrays: dict[str, np.ndarray], layers: int, where: str) -> LanguageModel:
    """The model of these arrays."""
    part = lambda prefix, names: {ours: arrays[theirs] for ours, theirs in _named(prefix, names).items()}
    norm = lambda prefix: LayerNorm(arrays[f"{prefix}.weight"], arrays[f"{prefix}.bias"])
    blocks = []
    for i in range(layers):
        time = part(f"blocks.{i}.att", _TIME)
        time["log_rate"] = _log_rate(time["log_rate"], f"blocks.{i}.att.time_decay", where)
        channel = RWKV4ChannelMixing(**part(f"blocks.{i}.ffn", _CHANNEL))
        blocks.append(Block(norm(f"blocks.{i}.ln1"), RWKV4TimeMixing(**time)))
        blocks.append(Block(norm(f"blocks.{i}.ln2"), channel))
    embedding, head = arrays["emb.weight"], arrays["head.weight"]
    return LanguageModel(embedding, tuple(blocks), norm("ln_out"), head, embedding_norm=norm("blocks.0.ln0"))


def _log_rate(w: np.ndarray, name: str, where: str) -> np.ndarray:
    """log(-w), where every w is below 0."""
    if not np.all(w < 0):
        raise FileError(
            f"{name} in {where} has an entry of {w.max():g}; decays are stored as w = -exp(log_rate), below 0. Was the file "
            "converted by another program?"
        )
    return np.log(-w.astype(np.float64)).astype(np.float32)
