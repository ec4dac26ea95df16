"""Texts that begin alike are read once: states at the ends of chunks, kept in memory for as long as there is place."""

import hashlib
import os
import threading
from collections import OrderedDict
from typing import Any, NamedTuple, SupportsIndex
from weakref import WeakValueDictionary

import numpy as np

from dualform.counts import count_of
from dualform.errors import require
from dualform.generation.calls import CHUNK
from dualform.generation.fingerprints import Fingerprint, fingerprint
from dualform.generation.places import check_places
from dualform.generation.prefix_folder import PrefixFolder
from dualform.generation.session import HISTORY, Session
from dualform.generation.snapshot import Snapshot
from dualform.models import LanguageModel
from dualform.models.language_model import check_context, checked_tokens


class Counts(NamedTuple):
    """What a store did: reads that found a prefix, reads that did not, tokens that were found, tokens that had to be read."""

    hits: int = 0
    misses: int = 0
    tokens_found: int = 0
    tokens_read: int = 0


class _Turn:
    """A lock that is there for as long as somebody holds or awaits it."""

    def __init__(self):
        self.lock = threading.Lock()


class PrefixStore:
    """Reads texts, and keeps what is remembered of their beginnings, of any number of models, in `byte_budget` bytes.

    `read` gives what a new `Session` of the same chunk would after reading the same tokens, to the bit: what is kept is the state
    at the ends of whole chunks, so that the calls are the same ones. Several threads may use one store; of texts that begin with
    the same chunk one is read at a time, so that nothing is read twice. Where there is no place, what was used longest ago goes.

    **Arguments:** byte_budget: of all states, logits and tokens that are kept; chunk: how many tokens are read in one call;
    folder: where the last state that each read keeps is also saved, of `folder_budget` bytes, for other processes and later
    ones; none if not given.

    **Raises:** `InputError` for a negative budget or a chunk below 1.

        >>> import jax, numpy
        >>> from dualform import generation, models
        >>> model = models.mamba(key=jax.random.key(0), vocabulary=7, d=4, layers=1)
        >>> store = generation.PrefixStore(1 << 20, chunk=16)
        >>> first = store.read(model, numpy.arange(40) % 7)
        >>> second = store.read(model, [*(numpy.arange(36) % 7), 3, 3])
        >>> store.counts
        Counts(hits=1, misses=1, tokens_found=32, tokens_read=46)
    """

    def __init__(
        self,
        byte_budget: SupportsIndex,
        *,
        chunk: SupportsIndex = CHUNK,
        folder: str | os.PathLike[str] | None = None,
        folder_budget: SupportsIndex = 4 << 30,
    ):
        self.byte_budget = count_of("byte_budget", byte_budget, 0, "give a number of bytes, 0 to keep nothing")
        self.chunk = count_of("chunk", chunk, 1, "read at least 1 token in a call")
        self._folder = None if folder is None else PrefixFolder(folder, folder_budget)
        self._kept: OrderedDict[tuple[Fingerprint, str], Snapshot] = OrderedDict()
        self._bytes, self._counts = 0, Counts()
        self._lock = threading.Lock()  # held while the table is looked at, never while a text is read
        self._turns: WeakValueDictionary[tuple[Fingerprint, str], _Turn] = WeakValueDictionary()

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def nbytes(self) -> int:
        """How many bytes are kept."""
        return self._bytes

    @property
    def counts(self) -> Counts:
        """Hits and misses, and tokens found and read, since the store was made."""
        return self._counts

    def read(
        self,
        model: LanguageModel,
        tokens: Any,
        *,
        shared: SupportsIndex | None = None,
        history: SupportsIndex = HISTORY,
    ) -> Session:
        """A session of its own that has read `tokens`: the longest beginning that is kept is not read again.

        **Arguments:** tokens: (time,), at least 1; shared: how many of them other texts begin with, too: the state at the end
        of the last whole chunk of them is kept, and no other; of every chunk if not given; history: of the session.

        **Raises:** `InputError` for tokens that are none, no integers, out of the vocabulary, more than the model's context or
        than the policy "full" has places, and a negative `shared`; nothing is read or kept then.
        """
        require(np.size(tokens) >= 1, "there are no tokens; give at least one.")
        shared = None if shared is None else count_of("shared", shared, 0, "give a number of tokens, or None")
        ids = np.asarray(checked_tokens(tokens, model.vocabulary)).astype(np.int32)
        check_context(model, len(ids))
        check_places(model, len(ids))
        own, ends = fingerprint(model), range(self.chunk, len(ids) + 1, self.chunk)
        names = dict(zip(ends, self._names(ids), strict=True))
        kept = [end for end in ends if shared is None or end <= shared]
        kept = kept if shared is None else kept[-1:]
        session = Session(model, chunk=self.chunk, history=history)
        turn = self._turn(own, names.get(self.chunk))  # there for as long as it has a name here
        with turn.lock:
            found = self._longest(model, own, names)
            if found is not None:
                session.restore(found)
            begin = len(session)
            for end in (each for each in kept if each > begin):
                session.read(ids[len(session) : end])
                self._keep((own, names[end]), session.snapshot())
                if self._folder is not None and end == kept[-1]:
                    self._folder.put(own, self.chunk, names[end], session)
            session.read(ids[len(session) :])
        with self._lock:
            one = Counts(found is not None, found is None, begin, len(ids) - begin)
            self._counts = Counts(*(a + b for a, b in zip(self._counts, one, strict=True)))
        return session

    def clear(self) -> None:
        """Keep nothing of what was read so far."""
        with self._lock:
            self._kept.clear()
            self._bytes = 0

    def _names(self, ids: np.ndarray) -> list[str]:
        """A digest of the tokens up to the end of each whole chunk."""
        whole, names = hashlib.sha256(), []
        for begin in range(0, len(ids) - self.chunk + 1, self.chunk):
            whole.update(ids[begin : begin + self.chunk].tobytes())
            names.append(whole.hexdigest())
        return names

    def _turn(self, own: Fingerprint, first: str | None) -> _Turn:
        """The lock of all texts that begin with this chunk; one of its own for a text that has no whole chunk."""
        if first is None:
            return _Turn()
        with self._lock:
            return self._turns.setdefault((own, first), _Turn())

    def _longest(self, model: LanguageModel, own: Fingerprint, names: dict[int, str]) -> Snapshot | None:
        for end in sorted(names, reverse=True):
            with self._lock:
                if (own, names[end]) in self._kept:
                    self._kept.move_to_end((own, names[end]))
                    return self._kept[own, names[end]]
            found = None if self._folder is None else self._folder.get(own, self.chunk, names[end], model)
            if found is not None:
                self._keep((own, names[end]), found)
                return found
        return None

    def _keep(self, name: tuple[Fingerprint, str], snapshot: Snapshot) -> None:
        """Keep it as what was used last; what was used longest ago goes. What is larger than the budget is not kept."""
        if snapshot.nbytes > self.byte_budget:
            return
        with self._lock:
            before = self._kept.pop(name, None)
            self._bytes += snapshot.nbytes - (0 if before is None else before.nbytes)
            self._kept[name] = snapshot
            while self._bytes > self.byte_budget:
                _, gone = self._kept.popitem(last=False)
                self._bytes -= gone.nbytes
