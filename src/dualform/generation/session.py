"""Texts being read and written: what is remembered of them can be kept, copied, taken back and put on disk."""

import functools
import os
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, SupportsIndex, TypeVar, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from dualform.arrays import State
from dualform.counts import count_of, whole_numbers
from dualform.errors import FileError, require
from dualform.generation.calls import CHUNK, called, chosen, first_logits, text_keys, token_ids
from dualform.generation.fingerprints import fingerprint
from dualform.generation.growth import bounds_of, first_state, grown, has_room
from dualform.generation.history import History, Mark, bytes_of
from dualform.generation.places import check_places
from dualform.generation.room import check_room
from dualform.generation.sampling import Settings, settings_of
from dualform.generation.snapshot import Snapshot, Written
from dualform.generation.state_file import read_state, save_state
from dualform.models import LanguageModel
from dualform.models.language_model import check_context
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


class Session:
    """A text that a language model reads and writes, token after token, and what the model remembers of it; or several texts.

    All models are alike: the memory is the state, bounded or not. Whatever is done in between (a snapshot, a fork, a file, a way
    back), the same `read`s and `write`s give the same logits, to the bit on the same machine, as without it.

    Of several texts, which go through the model together, each is what it is alone, but for rounding; states and logits have an
    axis of texts, and what is of one text is a list of such.

    A cache without a bound of its own grows with the texts: it has a place for each token that was read, rounded up to a power of
    2 and at least 256, and at most those of its context or window.

    **Arguments:** model: any language model; texts: how many; None for one, without that axis; chunk: how many tokens are read in
    one call, best a power of 2; history: how many bytes of earlier states are kept, from which `rollback` reads again.

    **Raises:** `InputError` for a chunk or a number of texts that is no whole number of at least 1, a history that is none of at
    least 0, and where the states do not fit into memory; so does what reads, before anything is read, where they have to grow.

        >>> import jax
        >>> from dualform import generation, models
        >>> session = generation.Session(models.mamba(key=jax.random.key(0), vocabulary=7, d=4, layers=1))
        >>> session.read([3, 1, 4, 1, 5])
        >>> other = session.fork()
        >>> session.write(3, temperature=0) == other.write(3, temperature=0)
        True
    """

    def __init__(
        self,
        model: LanguageModel,
        *,
        texts: SupportsIndex | None = None,
        chunk: SupportsIndex = CHUNK,
        history: SupportsIndex = HISTORY,
    ):
        history = count_of("history", history, 0, "give a number of bytes, 0 for none")
        self.texts = None if texts is None else count_of("texts", texts, 1, "give at least 1, or None for one alone")
        self._bounds = bounds_of(model)
        check_room(model, self.texts or 1, 1)
        self.model, self.chunk = model, count_of("chunk", chunk, 1, "read at least 1 token in a call")
        self._history, self._lock = History(history), threading.RLock()
        self._tokens: list[list[int]] = [[] for _ in range(self.texts or 1)]
        self._calls: list[np.ndarray] = []
        self._first = Mark(0, 0, None, None)  # where a way back without a history begins
        self._state: State | None = None  # made, as where a call was broken off, when it is asked for
        self._logits: Array | None = None
        self._shared = True

    @classmethod
    def after(
        cls,
        model: LanguageModel,
        read: int,
        state: State,
        logits: Array | None = None,
        *,
        texts: SupportsIndex | None = None,
    ) -> "Session":
        """A session that goes on from a state behind so many tokens of each text, which it does not know."""
        session = cls(model, texts=texts, history=0)
        session._first = Mark(read, 0, state, logits)
        return session

    def __len__(self) -> int:
        return max(map(len, self._tokens))

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
    def tokens(self) -> Any:
        """All tokens read so far, (time,); of several texts a list of such."""
        return self._of_texts([np.asarray(each, np.int32) for each in self._tokens])

    @property
    @_alone
    def logits(self) -> Float[Array, "*text vocabulary"]:
        """Of the token that follows, (vocabulary,) or (text, vocabulary).

        **Raises:** `InputError` where nothing was read yet of one of the texts.
        """
        self._found()
        require(
            self._logits is not None and (self._first.logits is not None or min(map(len, self._tokens)) > 0),
            "nothing was read yet, so nothing follows. Read at least one token first, of each text.",
        )
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

        **Arguments:** tokens: (time,), from 0 to vocabulary - 1; none is no call; of several texts a sequence of such.

        **Raises:** `InputError` for tokens that are no integers or out of the vocabulary, more than the model's context or than
        the policy "full" has places, or of another number of texts, and under `jax.jit` or `jax.vmap`; nothing is read then.
        """
        ids = [token_ids(each, self.model.vocabulary) for each in ([tokens] if self.texts is None else tokens)]
        texts = len(self._tokens)
        require(
            len(ids) == texts, f"there are {texts} texts, and tokens of {len(ids)}. Give some for each, or [] for none."
        )
        for before, more in zip(self._tokens, ids, strict=True):
            self._check(len(before), len(more), "the text")
        longest = max(map(len, ids))
        self._check_growth(max(len(before) + len(more) for before, more in zip(self._tokens, ids, strict=True)))
        for begin in range(0, longest, self.chunk):
            self._call([each[begin : begin + self.chunk] for each in ids])
        if longest > 1 and len(self) > self._history.last:
            self._mark()  # the end of what was given is where one comes back to

    def stream(self, **sampling: Any) -> Iterator[Any]:
        """Tokens that follow, without an end; each was read when it is given: an integer, or a list of one for each text.

        A draw depends on the key and on the token's place alone: going on with the same key is as if one had never stopped. Text
        i of several has the key `text_keys` gives it, and the first one the key itself.

        **Arguments:** sampling: key, temperature, top_k, top_p, min_p, as of `choose_token`.

        **Raises:** `InputError` as `choose_token` does, and where nothing was read yet, at once.
        """
        drawing = self._drawing(sampling)
        return self._stream(*drawing)

    def _stream(self, keys: Array | None, settings: Settings) -> Iterator[Any]:
        alive = np.ones(len(self._tokens), bool)
        while True:
            yield self._of_texts(self._next(keys, settings, alive)[0].tolist())

    @_alone
    def write(self, length: SupportsIndex, *, ends: Collection[int] = (), **sampling: Any) -> Any:
        """Up to `length` tokens that follow, which are read as they are written, as a list; of several texts a list of such.

        **Arguments:** length: how many at most; ends: tokens that end a text: the first of them is the last one written;
        sampling: key, temperature, top_k, top_p, min_p, as of `stream`.

        **Raises:** `InputError` as `stream` does, and for a length that is no number of tokens.
        """
        length = count_of("length", length, 0, "give a whole number of tokens, 0 or more")
        return self._of_texts([each.tokens.tolist() for each in self.written(length, ends=ends, **sampling)])

    @_alone
    def written(
        self, length: int, *, ends: Collection[int] = (), read_last: bool = True, **sampling: Any
    ) -> list[Written]:
        """What `write` writes of each text, with its worth; without `read_last`, the token at `length` is not read."""
        ends = [end for end in whole_numbers("ends", ends) if 0 <= end < self.model.vocabulary]
        (keys, settings), alive, found = self._drawing(sampling), np.ones(len(self._tokens), bool), []
        while len(found) < length and alive.any():
            found.append((*self._next(keys, settings, alive, read_last or len(found) < length - 1), alive))
            alive = alive & ~np.isin(found[-1][0], ends)
        tokens, worth, there = (np.array([step[i] for step in found]) for i in range(3))
        if not found:
            return [Written(np.zeros(0, np.int32), np.zeros(0, np.float32), False) for _ in alive]
        return [Written(tokens[there[:, i], i], worth[there[:, i], i], not alive[i]) for i in range(len(alive))]

    def _drawing(self, sampling: Mapping[str, Any]) -> tuple[Array | None, Settings]:
        """The texts' keys, and the settings, where there is something that tokens can follow."""
        settings = settings_of(self.model.vocabulary, **sampling)
        _ = self.logits
        return text_keys(sampling.get("key"), self.texts), settings

    @_alone
    def _next(
        self, keys: Array | None, settings: Settings, alive: Bool[np.ndarray, " text"], read: bool = True
    ) -> tuple[Int[np.ndarray, " text"], Float[np.ndarray, " text"]]:
        """One more token of each text, read where the text is alive, and the logarithms of their probabilities."""
        places = np.array([self._first.place + len(each) for each in self._tokens], np.int32)
        if read:
            self._check(int(places[alive].max()) - self._first.place, 1, "what is written")
        tokens, worth = chosen(self.logits, keys, places if self.texts else places[0], settings)
        if read:
            self._call_on(tokens, alive.astype(np.int32))
        return np.asarray(tokens).reshape(-1), np.asarray(worth).reshape(-1)

    def _check(self, read: int, more: int, what: str) -> None:
        """Raise `InputError` where a text has no place for so many tokens behind those that were read."""
        if more:
            check_context(self.model, self._first.place + read + more)
            check_places(self.model, more, before=self._first.place + read, what=what)

    def _of_texts(self, found: Any) -> Any:
        """Of one text what is found of it, of several all."""
        return found[0] if self.texts is None else found

    @_alone
    def snapshot(self) -> Snapshot:
        """What is remembered now."""
        return Snapshot(self.tokens, self._counts(), self.state, self._logits, fingerprint(self.model))

    def _counts(self) -> Int[np.ndarray, "call *text"]:
        """How many tokens each call read."""
        counts = np.array(self._calls, np.int32).reshape(-1, len(self._tokens))
        return counts[:, 0] if self.texts is None else counts

    def _be(self, tokens: Any, calls: Int[np.ndarray, "call *text"], state: State, logits: Any) -> None:
        """Be where a snapshot or a file says, which may hold the state's memory as well."""
        self._tokens = [each.tolist() for each in ([tokens] if self.texts is None else tokens)]
        self._calls = list(calls.reshape(len(calls), len(self._tokens)))
        self._state, self._logits, self._shared = state, logits, True

    @_alone
    def restore(self, snapshot: Snapshot) -> None:
        """Be where the snapshot was taken, of this session or of another one of the same model and number of texts.

        **Raises:** `InputError` where it is of another model or number of texts; nothing changes then.
        """
        require(isinstance(snapshot, Snapshot), f"this is a {type(snapshot).__name__}. Give what snapshot() gave.")
        fingerprint(self.model).check(snapshot.model, "the snapshot")
        before, counts = self._tokens, self._counts()
        of = lambda calls: f"{calls.shape[1]} texts" if calls.ndim == 2 else "one text alone"
        require(
            counts.shape[1:] == snapshot.calls.shape[1:],
            f"the snapshot is of {of(snapshot.calls)}, this session of {of(counts)}. Restore it in a session of as many.",
        )
        old = np.array_equal
        self._be(snapshot.tokens, snapshot.calls, snapshot.state, snapshot.logits)
        same = lambda mark: (
            old(counts[: mark.calls], snapshot.calls[: mark.calls])
            and all(one[:end] == other[:end] for one, other, end in zip(before, self._tokens, mark.place, strict=True))
        )
        self._history.keep(same)
        if len(self) > self._history.last:
            self._mark()

    @_alone
    def fork(self) -> "Session":
        """Another session, that goes on from here by itself."""
        other = Session(self.model, texts=self.texts, chunk=self.chunk, history=self._history.budget)
        other._first, other._history = self._first, self._history.copy()
        other._be(self.tokens, self._counts(), self.state, self._logits)
        return other

    @_alone
    def rollback(self, count: SupportsIndex) -> None:
        """Go `count` tokens back in each text, as if they had never been read.

        Where a call ended there, all is as it was then, to the bit: the calls since the nearest earlier state in the history are
        made again. Within a call, all is as if that call had ended there.

        **Raises:** `InputError` where so many tokens were not read.
        """
        count = count_of("count", count, 0, "give a number of tokens to go back, 0 or more")
        read = min(map(len, self._tokens))
        require(count <= read, f"{count} tokens back: {read} were read. Give a number from 0 to {read}.")
        if count:
            self._go_to(self._lengths() - count)

    @_alone
    def save(self, path: str | os.PathLike[str], notes: Mapping[str, str] | None = None) -> None:
        """Write all that a snapshot holds into one file, from which `Session.load` goes on, in any process.

        **Arguments:** notes: further metadata of the file.

        **Raises:** `InputError` where the state holds NaN; `FileError` where the file cannot be written; what was there stays.
        """
        tokens = np.concatenate([np.asarray(each, np.int32) for each in self._tokens])
        arrays: dict[str, Any] = {"tokens": tokens, "calls": self._counts()}
        state = self.state
        if self._logits is not None:
            arrays["logits"] = self._logits
        notes = {**(notes or {}), "chunk": str(self.chunk)}
        save_state(path, self.model, state, texts=self.texts, arrays=arrays, notes=notes)

    @classmethod
    def load(cls, path: str | os.PathLike[str], model: LanguageModel, *, history: SupportsIndex = HISTORY) -> "Session":
        """The session that `save` wrote, to the bit.

        **Raises:** as `load_state` does, and `FileError` for a state without its text.
        """
        state, arrays, metadata, texts = read_state(path, model)
        where = repr(os.fspath(path))
        tokens, calls, chunk = arrays.get("tokens"), arrays.get("calls"), whole(metadata.get("chunk"))
        if tokens is None or calls is None or chunk is None:
            raise FileError(f"{where} holds a state, but not the text that was read. load_state gives the state.")
        logits, of = arrays.get("logits"), () if texts is None else (texts,)
        fits = (
            chunk >= 1
            and tokens.ndim == 1
            and calls.shape == (*calls.shape[:1], *of)
            and tokens.dtype == calls.dtype == np.int32
            and int(calls.sum()) == len(tokens)
            and (calls >= 0).all()
            and (calls.reshape(len(calls), -1 if len(calls) else 1) >= 1).any(1).all()
            and ((tokens >= 0) & (tokens < model.vocabulary)).all()
            and (logits is None) == (len(tokens) == 0)
            and (logits is None or logits.shape == (*of, model.vocabulary))
        )
        if not fits:
            raise FileError(f"tokens, calls and logits in {where} do not fit together. Copy it again.")
        session = cls(model, texts=texts, chunk=chunk, history=history)
        parts = np.split(tokens, np.cumsum(np.atleast_1d(calls.sum(0)))[:-1])
        session._be(session._of_texts(parts), calls, state, None if logits is None else jnp.asarray(logits))
        if len(session):
            session._mark()
        return session

    def _lengths(self) -> Int[np.ndarray, " text"]:
        """How many tokens were read of each text."""
        return np.array([len(each) for each in self._tokens])

    def _call(self, pieces: Sequence[np.ndarray]) -> None:
        """One compiled call on pieces of each text that are a chunk at most."""
        counts = np.array([len(each) for each in pieces], np.int32)
        rows = np.zeros((len(pieces), counts.max()), np.int32)
        for row, piece in zip(rows, pieces, strict=True):
            row[: len(piece)] = piece
        self._call_on(self._of_texts(rows), counts)

    def _call_on(self, ids: Int[Array | np.ndarray, "*text time"], counts: Int[np.ndarray, " text"]) -> None:
        """One compiled call on so many tokens of each text, and a mark where there was none for long."""
        state = self._to_be_given(counts)
        # The call takes the state's memory; were it broken off, the state would be read again from the history.
        self._state = None
        before = None
        if self.texts is not None:
            before = counts, first_logits(self.model, self.texts) if self._logits is None else self._logits
        logits, state = called(self.model, state, ids, before)
        # The state comes last: broken off before it, all is read again, as far as the tokens go.
        self._calls.append(counts)
        for text, row, count in zip(self._tokens, np.asarray(ids).reshape(len(counts), -1), counts, strict=True):
            text.extend(row[:count].tolist())
        self._logits, self._shared = logits, False
        self._state = state
        if len(self) - self._history.last >= self.chunk:
            self._mark()

    def _to_be_given(self, counts: Int[np.ndarray, " text"]) -> State:
        """The state, with places for so many more tokens of each text, whose memory nothing else holds."""
        state, tokens = self._found(), int((self._lengths() + counts).max())
        self._check_growth(tokens)
        roomy = grown(state, self._bounds, self._first.place + tokens, self._first.place + len(self))
        if self._shared:
            roomy = jax.tree_util.tree_map(lambda a, held: jnp.copy(a) if a is held else a, roomy, state)
        return roomy

    def _check_growth(self, tokens: int) -> None:
        """Raise `InputError` where the state has to grow for so many tokens of each text, and there is no memory for it."""
        tokens += self._first.place
        if self._state is not None and not has_room(self._state, self._bounds, tokens):
            check_room(self.model, len(self._tokens), tokens)

    def _mark(self) -> None:
        mark = Mark(self._lengths(), len(self._calls), self._found(), self._logits)
        if mark.nbytes <= self._history.budget:
            self._history.add(mark)
            self._shared = True

    def _found(self) -> State:
        """The state, read again where a call was broken off, or nothing was read yet."""
        if self._state is None:
            self._go_to(self._lengths())
        return self._state

    def _go_to(self, place: Int[np.ndarray, " text"]) -> None:
        """Be where so many tokens of each text are read: from the last mark before it, by the same calls, cut there."""
        tokens, calls = self._tokens, self._calls
        begin, done, state, logits = self._history.back_to(place) or self._first._replace(place=0 * place)
        self._tokens, self._calls = [each[:at] for each, at in zip(tokens, begin, strict=True)], calls[:done]
        self._state = first_state(self.model, self.texts, 1) if state is None else state
        self._logits, self._shared = logits, True
        for counts in calls[done:]:
            end = np.minimum(begin + counts, place)
            if (begin == place).all():
                break
            self._call([np.asarray(each[i:j], np.int32) for each, i, j in zip(tokens, begin, end, strict=True)])
            begin = end
