"""One text being read and written: what is remembered of it can be kept, copied, taken back and put on disk."""

import functools
import os
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, SupportsIndex, TypeVar, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from dualform.arrays import State
from dualform.counts import count_of, whole_numbers
from dualform.errors import FileError, require
from dualform.generation.fingerprint import Fingerprint, fingerprint
from dualform.generation.history import History, Mark, bytes_of
from dualform.generation.places import check_places
from dualform.generation.room import check_room
from dualform.generation.sampling import Settings, Temperature, choose_token, settings_of
from dualform.generation.state_file import read_state, save_state
from dualform.generation.stream import CHUNK
from dualform.models import LanguageModel
from dualform.models.language_model import check_context, checked_tokens
from dualform.reading import whole

Method = TypeVar("Method", bound=Callable[..., Any])


def _alone(method: Method) -> Method:
    """The method, refused while another thread is in one of the same session: they would read into one text."""

    @functools.wraps(method)
    def guarded(self: "Session", *given: Any, **options: Any) -> Any:
        require(
            self._lock.acquire(blocking=False),
            "another thread is at work in this session: both would read into one text. Give each thread a session of its own, "
            "by session.fork(), or take turns.",
        )
        try:
            return method(self, *given, **options)
        finally:
            self._lock.release()

    return cast(Method, guarded)


HISTORY = 64 << 20
"""Bytes that a session keeps of earlier states, unless told otherwise."""
NARROWEST = 16
"""Tokens of the shortest program that reads several."""


@dataclass(frozen=True)
class Snapshot:
    """What a session remembers at one moment; nothing that the session does later changes it.

    - tokens: (time,), all that were read so far.  calls: how many each compiled call read, in order.
    - state: of the model after them.  logits: (vocabulary,), of the token that follows; None where nothing was read.
    - model: whose it is.
    """

    tokens: np.ndarray
    calls: np.ndarray
    state: State
    logits: Float[Array, " vocabulary"] | None
    model: Fingerprint

    @property
    def nbytes(self) -> int:
        """How many bytes its arrays take."""
        return bytes_of((self.tokens, self.calls, self.state, self.logits))


class Session:
    """A text that a language model reads and writes, token after token, and what the model remembers of it.

    All models are alike: the memory is the state, bounded or not. Whatever is done in between (a snapshot, a fork, a file, a way
    back), the same `read`s and `write`s give the same logits, to the bit on the same machine, as without it.

    **Arguments:** model: any language model; a transformer with no bound on its cache is best given as `bounded(model, "full",
    states)`; chunk: how many tokens are read in one call, best a power of 2; history: how many bytes of earlier states are kept,
    from which `rollback` reads again.

    **Raises:** `InputError` for a chunk that is no whole number of at least 1, a history that is none of at least 0, and where
    the state does not fit into memory.

        >>> import jax
        >>> from dualform import generation, models
        >>> session = generation.Session(models.mamba(key=jax.random.key(0), vocabulary=7, d=4, layers=1))
        >>> session.read([3, 1, 4, 1, 5])
        >>> other = session.fork()
        >>> session.write(3, temperature=0) == other.write(3, temperature=0)
        True
    """

    def __init__(self, model: LanguageModel, *, chunk: SupportsIndex = CHUNK, history: SupportsIndex = HISTORY):
        history = count_of("history", history, 0, "give a number of bytes, 0 for none")
        check_room(model, 1)
        self.model, self.chunk = model, count_of("chunk", chunk, 1, "read at least 1 token in a call")
        self._tokens: list[int] = []
        self._calls: list[int] = []
        self._history = History(history)
        self._logits: Array | None = None
        self._state: State | None = model.init_state()
        self._lock = threading.RLock()
        self._shared = True  # so that the first call copies what init_state gave, which may be the model's own

    def __len__(self) -> int:
        return len(self._tokens)

    def __copy__(self) -> "Session":
        return self.fork()

    def __deepcopy__(self, memory: dict[int, Any]) -> "Session":
        return self.fork()

    @_alone
    def __getstate__(self) -> dict[str, Any]:
        self._found()
        return {name: value for name, value in self.__dict__.items() if name != "_lock"}

    def __setstate__(self, held: dict[str, Any]) -> None:
        self.__dict__.update(held, _lock=threading.RLock())

    @property
    def tokens(self) -> np.ndarray:
        """All tokens read so far, (time,)."""
        return np.asarray(self._tokens, np.int32)

    @property
    @_alone
    def logits(self) -> Float[Array, " vocabulary"]:
        """Of the token that follows, (vocabulary,).

        **Raises:** `InputError` where nothing was read yet.
        """
        self._found()
        require(self._logits is not None, "nothing was read yet, so nothing follows. Read at least one token first.")
        assert self._logits is not None
        return self._logits

    @property
    @_alone
    def state(self) -> State:
        """What the model remembers, as its calls and steps take it."""
        state = self._found()
        self._shared = True
        return state

    @property
    @_alone
    def nbytes(self) -> int:
        """How many bytes the state and the logits take; the history is not counted."""
        return bytes_of((self._found(), self._logits))

    @_alone
    def read(self, tokens: Any) -> None:
        """Read tokens behind those read so far, in chunks, the last one as long as what is left.

        **Arguments:** tokens: (time,), from 0 to vocabulary - 1; none is no call.

        **Raises:** `InputError` for tokens that are no integers or out of the vocabulary, or more than the model's context or
        than the policy "full" has places;
        nothing is read then.
        """
        if np.size(tokens) == 0:
            return
        ids = np.asarray(checked_tokens(tokens, self.model.vocabulary)).astype(np.int32)
        check_context(self.model, len(self) + len(ids))
        check_places(self.model, len(ids), before=len(self))
        for begin in range(0, len(ids), self.chunk):
            self._call(ids[begin : begin + self.chunk])
        if len(ids) > 1 and len(self) > self._history.last:
            self._mark()  # the end of what was given is where one comes back to

    def stream(
        self,
        *,
        key: Array | None = None,
        temperature: Temperature = 1.0,
        top_k: SupportsIndex | None = None,
        top_p: float | int | None = None,
        min_p: float | int | None = None,
    ) -> Iterator[int]:
        """Tokens that follow, without an end; each was read when it is given.

        A draw depends on the key and on the token's place alone: going on with the same key is as if one had never stopped.

        **Arguments:** as of `choose_token`.

        **Raises:** `InputError` as `choose_token` does, and where nothing was read yet, at once.
        """
        settings = settings_of(key, temperature, top_k, top_p, min_p, self.model.vocabulary)
        _ = self.logits
        return self._stream(key, settings)

    def _stream(self, key: Array | None, settings: Settings) -> Iterator[int]:
        while True:
            yield self._next(key, settings)

    @_alone
    def _next(self, key: Array | None, settings: Settings) -> int:
        """One more token, read."""
        drawn = None if key is None else jr.fold_in(key, len(self))
        check_context(self.model, len(self) + 1)
        check_places(self.model, 1, before=len(self), what="what is written")
        token = int(_choose(self.logits, drawn, settings))
        self._call(np.array([token], np.int32))
        return token

    @_alone
    def write(self, length: SupportsIndex, *, ends: Collection[int] = (), **sampling: Any) -> list[int]:
        """Up to `length` tokens that follow, which are read as they are written.

        **Arguments:** length: how many at most; ends: tokens that end a text: the first of them is the last one written;
        sampling: key, temperature, top_k, top_p, min_p, as of `stream`.

        **Raises:** `InputError` as `stream` does, and for a length that is no number of tokens.
        """
        length = count_of("length", length, 0, "give a whole number of tokens, 0 or more")
        found, ends = list[int](), whole_numbers("ends", ends)
        tokens = self.stream(**sampling)
        while len(found) < length and not (found and found[-1] in ends):
            found.append(next(tokens))
        return found

    @_alone
    def snapshot(self) -> Snapshot:
        """What is remembered now."""
        return Snapshot(
            self.tokens, np.asarray(self._calls, np.int32), self.state, self._logits, fingerprint(self.model)
        )

    @_alone
    def restore(self, snapshot: Snapshot) -> None:
        """Be where the snapshot was taken, of this session or of another one of the same model.

        **Raises:** `InputError` where it is of another model; nothing changes then.
        """
        require(isinstance(snapshot, Snapshot), f"this is a {type(snapshot).__name__}. Give what snapshot() gave.")
        fingerprint(self.model).check(snapshot.model, "the snapshot")
        before, calls = self.tokens, np.asarray(self._calls, np.int32)
        same = lambda one, other, count: np.array_equal(one[:count], other[:count])
        self._history.keep(
            lambda mark: same(before, snapshot.tokens, mark.place) and same(calls, snapshot.calls, mark.calls)
        )
        self._tokens, self._calls = snapshot.tokens.tolist(), snapshot.calls.tolist()
        self._state, self._logits, self._shared = snapshot.state, snapshot.logits, True
        if len(self) > self._history.last:
            self._mark()

    @_alone
    def fork(self) -> "Session":
        """Another session, that goes on from here by itself."""
        other = Session(self.model, chunk=self.chunk, history=self._history.budget)
        other._tokens, other._calls = list(self._tokens), list(self._calls)
        other._state, other._logits, other._history = self.state, self._logits, self._history.copy()
        return other

    @_alone
    def rollback(self, count: SupportsIndex) -> None:
        """Go `count` tokens back, as if they had never been read.

        Where a call ended there, all is as it was then, to the bit: the calls since the nearest earlier state in the history are
        made again. Within a call, all is as if that call had ended there.

        **Raises:** `InputError` where so many tokens were not read.
        """
        count = count_of("count", count, 0, "give a number of tokens to go back, 0 or more")
        require(
            count <= len(self),
            f"{count} tokens back: {len(self)} were read. Give a number from 0 to {len(self)}.",
        )
        if count:
            self._go_to(len(self) - count)

    @_alone
    def save(self, path: str | os.PathLike[str], notes: Mapping[str, str] | None = None) -> None:
        """Write all that a snapshot holds into one file, from which `Session.load` goes on, in any process.

        **Arguments:** notes: further metadata of the file.

        **Raises:** `InputError` where the state holds NaN; `FileError` where the file cannot be written; what was there stays.
        """
        arrays: dict[str, Any] = {"tokens": self.tokens, "calls": np.asarray(self._calls, np.int32)}
        state = self.state
        if self._logits is not None:
            arrays["logits"] = self._logits
        save_state(path, self.model, state, arrays=arrays, notes={**(notes or {}), "chunk": str(self.chunk)})

    @classmethod
    def load(cls, path: str | os.PathLike[str], model: LanguageModel, *, history: SupportsIndex = HISTORY) -> "Session":
        """The session that `save` wrote, to the bit.

        **Raises:** as `load_state` does, and `FileError` for a state without its text.
        """
        state, arrays, metadata, _ = read_state(path, model)
        where = repr(os.fspath(path))
        tokens, calls, chunk = arrays.get("tokens"), arrays.get("calls"), whole(metadata.get("chunk"))
        if tokens is None or calls is None or chunk is None:
            raise FileError(f"{where} holds a state, but not the text that was read. load_state gives the state.")
        logits = arrays.get("logits")
        fits = (
            chunk >= 1
            and tokens.ndim == calls.ndim == 1
            and tokens.dtype == calls.dtype == np.int32
            and int(calls.sum()) == len(tokens)
            and (calls >= 1).all()
            and ((tokens >= 0) & (tokens < model.vocabulary)).all()
            and (logits is None) == (len(tokens) == 0)
            and (logits is None or logits.shape == (model.vocabulary,))
        )
        if not fits:
            raise FileError(f"tokens, calls and logits in {where} do not fit together. Copy it again.")
        session = cls(model, chunk=chunk, history=history)
        session._tokens, session._calls = tokens.tolist(), calls.tolist()
        session._state, session._logits = state, None if logits is None else jnp.asarray(logits)
        if len(session):
            session._mark()
        return session

    def _call(self, ids: np.ndarray) -> None:
        """One compiled call on tokens that are a chunk at most, and a mark where there was none for long."""
        state = self._found()
        if self._shared:
            state = jax.tree_util.tree_map(jnp.copy, state)
        # The call takes the state's memory; were it broken off, the state would be read again from the history.
        self._state = None
        logits, state = _called(self.model, state, ids)
        # The state comes last: broken off before it, all is read again, as far as the tokens go.
        self._calls.append(len(ids))
        self._tokens.extend(ids.tolist())
        self._logits, self._shared = logits, False
        self._state = state
        if len(self) - self._history.last >= self.chunk:
            self._mark()

    def _mark(self) -> None:
        mark = Mark(len(self), len(self._calls), self._found(), self._logits)
        if mark.nbytes <= self._history.budget:
            self._history.add(mark)
            self._shared = True

    def _found(self) -> State:
        """The state, read again where a call was broken off."""
        if self._state is None:
            self._go_to(len(self))
        return self._state

    def _go_to(self, place: int) -> None:
        """Be where `place` tokens are read: from the last mark before it, by the same calls, the last one cut there."""
        tokens, calls = self.tokens, list(self._calls)
        mark = self._history.back_to(place)
        if mark is None:
            mark = Mark(0, 0, self.model.init_state(), None)
        self._tokens, self._calls = tokens[: mark.place].tolist(), calls[: mark.calls]
        self._state, self._logits, self._shared = mark.state, mark.logits, True
        begin = mark.place
        for length in calls[mark.calls :]:
            if begin == place:
                break
            end = min(begin + length, place)
            self._call(tokens[begin:end])
            begin = end


def _called(model: LanguageModel, state: State, ids: np.ndarray) -> tuple[Float[Array, " vocabulary"], State]:
    """The logits and the state after these tokens; the state that is given is used up.

    A token alone is a step. Several are filled up to the next power of 2, so that few programs are compiled, and which one runs
    depends on the number of tokens alone.
    """
    if len(ids) == 1:
        return _step((model, jnp.asarray(ids[0])), state)
    width = max(NARROWEST, 1 << (len(ids) - 1).bit_length())
    padded = np.zeros(width, np.int32)
    padded[: len(ids)] = ids
    return _chunk((model, jnp.asarray(padded), jnp.asarray(np.arange(width) < len(ids))), state)


@eqx.filter_jit
def _choose(logits: Float[Array, " vocabulary"], key: Array | None, settings: Settings) -> Int[Array, ""]:
    temperature, top_k, top_p, min_p = settings
    return choose_token(logits, key, temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)


@eqx.filter_jit(donate="all-except-first")
def _step(given: tuple[LanguageModel, Int[Array, ""]], state: State) -> tuple[Float[Array, " vocabulary"], State]:
    model, token = given
    return model.step(token, state)


@eqx.filter_jit(donate="all-except-first")
def _chunk(
    given: tuple[LanguageModel, Int[Array, " time"], Bool[Array, " time"]], state: State
) -> tuple[Float[Array, " vocabulary"], State]:
    model, tokens, mask = given
    x, state = model.read(tokens, state, mask=mask)
    last = jax.lax.dynamic_slice_in_dim(x, jnp.sum(mask, dtype=jnp.int32) - 1, 1)
    return model.logits(last)[0], state
