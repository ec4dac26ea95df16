"""Batches that come from outside of the compiled loop: of any iterable, in their order, from any place on."""

import base64
import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import jax.tree_util as jtu
import numpy as np

from dualform.errors import InputError, require


class Stream:
    """The batches of an iterable, one after the other; at its end it begins again.

    An iterator that can say where it is (`get_state`, `set_state`, as grain's can) is asked, and put there again. Any other is
    begun anew, and passed over up to the place: it must give the same batches in the same order each time.

    **Arguments:** data: gives batches (x, y) of arrays, all of the same shapes and dtypes.

    **Raises:** `InputError` where it gives none, a batch that is no pair, or one of other shapes than the first; and where it
    is an iterator that has ended.
    """

    def __init__(self, data: Iterable[Any]):
        self.data, self.place = data, 0
        self._iterator: Iterator[Any] = iter(data)
        # The first batch is looked at before training, by an iterator that cannot be begun anew, too.
        begun = self.position()
        self.first = self._checked(self._next())
        if begun is not None:
            self._iterator.set_state(_unpacked(begun))  # pyright: ignore[reportAttributeAccessIssue] - asked above
        elif iter(data) is data:
            self._iterator = itertools.chain([self.first], self._iterator)
        else:
            self._iterator = iter(data)

    def position(self) -> Any:
        """Where its iterator is, as JSON; None where it cannot say."""
        get = getattr(self._iterator, "get_state", None)
        return None if get is None else _packed(get())

    def go_to(self, place: int, position: Any) -> None:
        """Go on behind the batch of that number.

        **Arguments:** position: what `position` gave there.
        """
        if position is not None and hasattr(self._iterator, "set_state"):
            self._iterator.set_state(_unpacked(position))  # pyright: ignore[reportAttributeAccessIssue] - asked above
            self.place = place
            return
        while self.place < place:
            self._next()
            self.place += 1

    def take(self, count: int, each: int) -> Any:
        """The next `count` times `each` batches, with these as leading axes; `each` is left out where it is 1."""
        batches = []
        for _ in range(count * each):
            batches.append(self._checked(self._next()))
            self.place += 1
        shape = (count,) if each == 1 else (count, each)
        return jtu.tree_map(lambda *leaves: np.stack(leaves).reshape(*shape, *leaves[0].shape), *batches)

    def _next(self) -> Any:
        try:
            return next(self._iterator)
        except StopIteration:
            pass
        ended = f"the data ended after {self.place:,} batches, and cannot be begun again: it is an iterator."
        require(
            iter(self.data) is not self.data, f"{ended} Give something that can be gone through again, such as a list."
        )
        self._iterator = iter(self.data)
        try:
            return next(self._iterator)
        except StopIteration:
            raise InputError("the data give no batch; there must be at least one.") from None

    def _checked(self, batch: Any) -> Any:
        where = f"batch {self.place + 1:,} of the data"
        require(isinstance(batch, tuple | list) and len(batch) == 2, f"{where} is no pair (x, y) of arrays.")
        try:
            batch = jtu.tree_map(np.asarray, tuple(batch))
        except (TypeError, ValueError) as error:
            raise InputError(f"{where} holds what is no array: {error}.") from None
        shapes = [(leaf.shape, leaf.dtype) for leaf in jtu.tree_leaves(batch)]
        first = [(leaf.shape, leaf.dtype) for leaf in jtu.tree_leaves(getattr(self, "first", batch))]
        said = lambda shapes: ", ".join(f"{dtype} {shape}" for shape, dtype in shapes)
        require(
            shapes == first,
            f"{where} is {said(shapes)}, and the first one is {said(first)}; all must be alike. Drop the last batch of an epoch "
            "where it is shorter.",
        )
        return batch


def _packed(state: Any) -> Any:
    return {"bytes": base64.b64encode(state).decode()} if isinstance(state, bytes) else {"json": state}


def _unpacked(position: Any) -> Any:
    return base64.b64decode(position["bytes"]) if "bytes" in position else position["json"]
