"""Processes that train one model together: what the first one reads or measures is told to all, and all end together."""

import json
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from dualform import errors
from dualform.errors import DualformError

Value = TypeVar("Value")
PIECE = 1 << 24
"""Bytes that are sent at once."""
_ARRAY = "an array of numpy"


class Processes:
    """The processes that the devices of a mesh belong to.

    - several: whether there is more than this one.  first: whether this is the one that reads and writes the run's folder.

    What each of them calls, all must call, in the same order.
    """

    def __init__(self, mesh: Mesh | None):
        self.several = mesh is not None and len({device.process_index for device in mesh.devices.flat}) > 1
        self.first = not self.several or jax.process_index() == 0

    def of_first(self, make: Callable[[], Value]) -> Value:
        """What `make` gives in the first process, in all of them.

        **Arguments:** make: called in the first process alone. With several, it gives what JSON can hold, and NumPy's arrays in
        it; tuples become lists.

        **Raises:** what is raised there of dualform's errors, in all of them.
        """
        if not self.several:
            return make()
        told: dict[str, Any] = {}
        if self.first:
            try:
                told = {"value": make()}
            except DualformError as error:
                told = {"error": type(error).__name__, "said": str(error)}
        told = unpacked(_sent(packed(told)))
        if "error" in told:
            raise getattr(errors, told["error"])(told["said"])
        return told["value"]

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """For each flag, whether it is up in any of the processes."""
        if not self.several:
            return flags
        gathered = multihost_utils.process_allgather(np.array(flags, np.uint8))
        return tuple(bool(up) for up in np.max(np.asarray(gathered), axis=0))


def packed(value: Any) -> bytes:
    """What JSON can hold, with NumPy's arrays in it, as bytes; `unpacked` gives it back, to the bit."""
    arrays: list[bytes] = []

    def put(array: Any) -> dict[str, Any]:
        array = np.asarray(array)
        arrays.append(array.tobytes())
        return {_ARRAY: [str(array.dtype), array.shape, len(arrays[-1])]}

    text = json.dumps(value, default=put).encode()
    return b"".join([len(text).to_bytes(8, "little"), text, *arrays])


def unpacked(data: bytes) -> Any:
    """What `packed` made bytes of."""
    begin = 8 + int.from_bytes(data[:8], "little")
    place = [begin]

    def taken(told: dict[str, Any]) -> Any:
        if _ARRAY not in told:
            return told
        dtype, shape, size = told[_ARRAY]
        part = data[place[0] : place[0] + size]
        place[0] += size
        return np.frombuffer(bytearray(part), jnp.dtype(dtype)).reshape(shape)

    return json.loads(data[8:begin], object_hook=taken)


def _sent(data: bytes) -> bytes:
    """The bytes that the first process has, in all of them; in pieces, so that few programs are compiled, and little is held."""
    first = jax.process_index() == 0
    send = lambda part: np.asarray(multihost_utils.broadcast_one_to_all(np.frombuffer(part, np.uint8))).tobytes()
    size = int.from_bytes(send((len(data) if first else 0).to_bytes(8, "little")), "little")
    pieces = []
    for begin in range(0, size, PIECE):
        length = min(size - begin, PIECE)
        padded = max(1 << (length - 1).bit_length(), 1024)
        part = data[begin : begin + length] if first else b""
        pieces.append(send(part.ljust(padded, b"\0"))[:length])
    return b"".join(pieces)
