"""Maps as bytes: packed to the lower triangle, made coarser for an overview, rounded with a known error, compressed."""

import base64
import math
import zlib
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Float

Precision: TypeAlias = Literal["float32", "float16", "int8"]
BYTES: dict[Precision, int] = {"float32": 4, "float16": 2, "int8": 1}


class Encoded(NamedTuple):
    """A packed map as base64 text, what its numbers are multiplied by, and the largest error that the rounding made."""

    text: str
    scale: float
    error: float


def pack(a: Float[np.ndarray, "time source"], causal: bool) -> Float[np.ndarray, " entries"]:
    """The rows one after the other as float32; of a causal map only up to the diagonal: row t begins at t (t + 1) / 2."""
    if not causal:
        return np.ascontiguousarray(a, np.float32).ravel()
    packed = np.empty(len(a) * (len(a) + 1) // 2, np.float32)
    for t, row in enumerate(a):
        packed[t * (t + 1) // 2 : (t + 1) * (t + 2) // 2] = row[: t + 1]
    return packed


def edges(length: int, cells: int) -> np.ndarray:
    """Where each of `cells` cells over `length` tokens begins; the page's script cuts at the same places."""
    return np.arange(cells) * length // cells


def pool(a: Float[np.ndarray, "rows columns"], cells: int) -> Float[np.ndarray, "up down"]:
    """A coarser map: of each cell the entry of largest magnitude, with its sign. Unchanged where it is small enough."""
    high = low = a
    for axis, length in enumerate(a.shape):
        cut = edges(length, min(cells, length))
        high, low = np.maximum.reduceat(high, cut, axis=axis), np.minimum.reduceat(low, cut, axis=axis)
    return np.where(high >= -low, high, low).astype(np.float32)


def encode(packed: Float[np.ndarray, " entries"], precision: Precision, compress: bool = True) -> Encoded:
    """Round to `precision`, bring bytes of equal weight together, compress (zlib) and write as base64.

    float32 is exact. float16 is of a / scale with scale a power of 2, so that no map overflows or vanishes: relative error
    <= 2^-11 down to 2^-29 of the largest entry. int8 is q = sign(a) round(127 sqrt(|a| / scale)), a = sign(q) (q / 127)^2 scale:
    error <= (sqrt(|a| / scale) + 1 / 508) / 127 of scale, so that small entries keep their digits.
    """
    largest = float(np.max(np.abs(packed), initial=0))
    if precision == "int8":
        scale = largest or 1.0
        root = np.sqrt(np.abs(packed) / np.float32(scale), dtype=np.float32)
        rounded = np.copysign(np.rint(np.float32(127) * root), packed).astype(np.int8)
    else:
        scale = 2.0 ** (math.frexp(largest)[1] - 15) if precision == "float16" and largest else 1.0
        rounded = (packed.astype(np.float64) / scale).astype("<f2" if precision == "float16" else "<f4")
    data = rounded.view(np.uint8).reshape(-1, rounded.itemsize).T.tobytes()
    error = float(np.max(np.abs(decoded(rounded, scale) - packed), initial=0))
    return Encoded(base64.b64encode(zlib.compress(data, 6) if compress else data).decode(), scale, error)


def decoded(rounded: np.ndarray, scale: float) -> Float[np.ndarray, " entries"]:
    """The numbers that the page's script makes of an encoded map."""
    wide = rounded.astype(np.float64)
    return np.sign(wide) * (wide / 127) ** 2 * scale if rounded.dtype == np.int8 else wide * scale


def decode(encoded: Encoded, precision: Precision, compressed: bool = True) -> Float[np.ndarray, " entries"]:
    """What was encoded, up to its error."""
    data = base64.b64decode(encoded.text)
    planes = np.frombuffer(zlib.decompress(data) if compressed else data, np.uint8).reshape(BYTES[precision], -1)
    kind = {"float32": "<f4", "float16": "<f2", "int8": "i1"}[precision]
    return decoded(np.ascontiguousarray(planes.T).view(kind).ravel(), encoded.scale)
