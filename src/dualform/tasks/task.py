"""A task: where its sequences come from, what is read and given, and how it is judged."""

import dataclasses
from abc import abstractmethod
from collections.abc import Iterator
from functools import partial
from typing import Any, ClassVar, TypeAlias, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree

from dualform.errors import InputError, require
from dualform.tasks.scores import Judge, Scores

Batch: TypeAlias = tuple[Array, Array]
"""Inputs and targets, each with a leading axis of the batch."""

T = TypeVar("T", bound="AbstractTask")

setting = partial(eqx.field, static=True)
"""A field that is a number or a word, and no array."""


class AbstractTask(eqx.Module):
    """What is to be learnt.

    Training sees `sample` and nothing else; everything that is told of a model is measured on the fixed batches of `held_out`,
    of which no sequence is ever seen in training.

    - judge: how outputs are judged, such as `scores.of_tokens`.
    - source: the paper or the collection that it is of.  data: where its files are to be had, None where it needs none.
      licence: of these files.
    - vocabulary: how many tokens there are, where the inputs are tokens by number; None where they are vectors.
    - d_in, d_out: widths of a vector and of an output, where the inputs are vectors.  pool: how the outputs of a sequence
      become one ("last", "mean"), or "none".
    """

    judge: ClassVar[Judge]
    source: ClassVar[str] = ""
    data: ClassVar[str | None] = None
    licence: ClassVar[str] = ""
    pool: ClassVar[str] = "none"

    @property
    def vocabulary(self) -> int | None:
        """How many tokens there are, None where the inputs are vectors."""
        return None

    @property
    def d_in(self) -> int:
        """Width of an input that is a vector."""
        raise _silent(self, "d_in")

    @property
    def d_out(self) -> int:
        """Width of an output, where inputs are vectors."""
        raise _silent(self, "d_out")

    @classmethod
    def open(cls: type[T], data: Any = None, **settings: Any) -> T:
        """The task, with these settings.

        **Arguments:** data: the path of its files, for a task that reads any.

        **Raises:** `InputError` for files that nothing would read, a setting that it has not, or one out of range; `FileError`
        where a file cannot be read.
        """
        require(data is None, f"{cls.__name__} draws its sequences and reads no file; leave the data out.")
        return cls(**checked_settings(cls, settings))

    @property
    def splits(self) -> tuple[str, ...]:
        """What may be asked of `held_out`: "validation", by which settings are chosen, then the tests."""
        return ("validation", "test")

    @abstractmethod
    def sample(self, key: Array) -> Batch:
        """A batch for training, pure and compiled."""

    @abstractmethod
    def held_out(self, split: str) -> Iterator[Batch]:
        """The batches of a split, the same at every call.

        **Raises:** `InputError` where there is no such split.
        """

    def scores(self, model: Any, x: Array, y: Array) -> Scores:
        """Of a model on one batch: a call for each sequence, from the initial state."""
        return self.judged(jax.vmap(lambda x: model(x)[0])(x), y)

    def judged(self, outputs: Array, y: Array) -> Scores:
        """Of what a model gave for a batch."""
        return type(self).judge(outputs, y)

    def piece(self, number: Int[Array, ""]) -> tuple[Batch, Bool[Array, " sequence"]]:
        """The batch of this number, whose sequences go on where those of the batch before it ended, and which begin anew.

        For truncated backpropagation through time (`training.Carried`).

        **Raises:** `InputError` where sequences are independent, as they are of most tasks.
        """
        raise self._independent()

    def held_out_pieces(self, split: str) -> Iterator[Batch]:
        """All of a split as one sequence, in pieces one behind the other, (time, ...) each.

        **Raises:** `InputError` where sequences are independent.
        """
        raise self._independent()

    def _independent(self) -> InputError:
        return InputError(
            f"the sequences of {type(self).__name__} are independent of one another, and no state is carried from one to the "
            "next. Train without carried states, or on a task that goes on, such as text."
        )

    def loss(self, model: Any, x: Array, y: Array) -> Float[Array, ""]:
        """The mean of what is to be small; a loss for `fit`."""
        return self.scores(model, x, y)["loss"].mean

    def check_split(self, split: str) -> None:
        """Raise `InputError` where there is no such split."""
        require(split in self.splits, f"there is no split {split!r}; there are {', '.join(self.splits)}.")


def _silent(task: AbstractTask, width: str) -> InputError:
    """The error of a task that does not say what its inputs are."""
    return InputError(
        f"{type(task).__name__} says neither its vocabulary nor its {width}. Where its inputs are tokens by number, give the "
        "class `vocabulary = N`; where they are vectors, `d_in = N` and `d_out = N`."
    )


TRAIN, VALIDATION, TEST, ANY = 0, 1, 2, 3
_HELD_OUT = 2**31 - 2
"""The seed of what is held out. It may be that of training, too: splits share no sequence, whatever the seeds."""


class DrawnTask(AbstractTask):
    """A task whose sequences are drawn, never from a file.

    Which split a sequence is of is told by a hash of its input: one in 16 is for validation, one in 16 for the test, the
    others for training. So no input is of two splits, also where there are few of them.

    - time: how long sequences are, in the task's own terms.  batch: sequences of a batch.  held: of a split that is held out.
    - lengths: further tests, each of sequences of that `time`, "length 256": longer ones than training's.

    **Raises:** `InputError` where a number is below 1, or a length is no greater than `time`.
    """

    time: int = setting(default=32)
    batch: int = setting(default=64)
    held: int = setting(default=1024)
    lengths: tuple[int, ...] = setting(default=())

    def __check_init__(self):
        for name in ("time", "batch", "held"):
            require(getattr(self, name) >= 1, f"{name} is {getattr(self, name)}; it must be at least 1.")
        for length in self.lengths:
            require(length > self.time, f"a test at length {length} is no longer than training's, {self.time}.")

    @abstractmethod
    def sequence(self, key: Array) -> tuple[Array, Array]:
        """The input and the target of one sequence."""

    def at(self, time: int) -> "DrawnTask":
        """The same task at another length."""
        return dataclasses.replace(self, time=time, lengths=())

    @property
    def splits(self) -> tuple[str, ...]:
        """Validation, the test, and a test for each further length."""
        return ("validation", "test", *(f"length {length}" for length in self.lengths))

    def sample(self, key: Array) -> Batch:
        """A batch of training's sequences."""
        x, y, _ = self._drawn(key, TRAIN)
        return x, y

    def held_out(self, split: str) -> Iterator[Batch]:
        """`held` sequences, rounded up to whole batches."""
        self.check_split(split)
        place = self.splits.index(split)
        task, wanted = (self, place + 1) if place < 2 else (self.at(self.lengths[place - 2]), ANY)
        for i in range(-(-self.held // self.batch)):
            key = jr.fold_in(jr.fold_in(jr.key(_HELD_OUT), place), i)
            x, y, found = _batch_of(task, key, wanted)
            require(
                bool(found),
                f"of this {type(self).__name__} no sequence was found for {split} in {_TRIES} draws: there are too few of them. "
                "Make them longer.",
            )
            yield x, y

    def _drawn(self, key: Array, wanted: int) -> tuple[Array, Array, Array]:
        """A batch of the wanted split, and whether every sequence is of it."""
        x, y, found = jax.vmap(partial(self._of_split, wanted=wanted))(jr.split(key, self.batch))
        return x, y, jnp.all(found)

    def _of_split(self, key: Array, wanted: int) -> tuple[Array, Array, Array]:
        if wanted == ANY:
            return *self.sequence(key), jnp.array(True)

        def of_it(x):
            return split_of(x) == wanted

        def again(drawn):
            i, x, _ = drawn
            return (i < _TRIES) & ~of_it(x)

        def draw(drawn):
            i, _, _ = drawn
            return i + 1, *self.sequence(jr.fold_in(key, i))

        first = (jnp.asarray(1, jnp.int32), *self.sequence(jr.fold_in(key, 0)))
        _, x, y = jax.lax.while_loop(again, draw, first)
        return x, y, of_it(x)


_TRIES = 1000


@eqx.filter_jit
def _batch_of(task: DrawnTask, key: Array, wanted: int) -> tuple[Array, Array, Array]:
    return task._drawn(key, wanted)


def split_of(x: PyTree) -> Int[Array, ""]:
    """The split that an input is of, by a hash of its bits: `VALIDATION` or `TEST` for one in 16 each, else `TRAIN`.

    The hash is multilinear in the 32-bit words, with odd random factors, then mixed as of MurmurHash3's last step.
    """
    words = jnp.concatenate([_words(leaf) for leaf in jax.tree.leaves(x)])
    factors = np.random.default_rng(0).integers(0, 2**31, len(words), np.uint32) * 2 + 1
    found = jnp.sum(words * jnp.asarray(factors), dtype=jnp.uint32)
    for factor in (0x85EBCA6B, 0xC2B2AE35):
        found = (found ^ (found >> 16)) * np.uint32(factor)
    sixteenth = ((found ^ (found >> 16)) >> 28).astype(jnp.int32)
    return jnp.where(sixteenth == 0, VALIDATION, jnp.where(sixteenth == 1, TEST, TRAIN)).astype(jnp.int32)


def _words(leaf: Array) -> Array:
    """The bits of an array as words of 32."""
    if leaf.dtype == jnp.bool_ or leaf.dtype.itemsize < 4:
        leaf = leaf.astype(jnp.float32 if jnp.issubdtype(leaf.dtype, jnp.inexact) else jnp.int32)
    return jax.lax.bitcast_convert_type(leaf, jnp.uint32).reshape(-1)


class StoredTask(AbstractTask):
    """A task whose sequences are given, in three parts that share none: each (inputs, targets), a sequence in a row.

    A batch of training is drawn from its part, with replacement; what is held out is read whole, in its order, its last batch
    shorter where it does not come out even.

    Rows may be kept smaller than they are read, in whole numbers of 8 bits or as the place of a window: `as_read` is what a model
    gets of them.

    **Raises:** `InputError` where a part is empty, or its inputs and targets are not as many.
    """

    train: tuple[Array, Array]
    validation: tuple[Array, Array]
    test: tuple[Array, Array]
    batch: int = setting(default=64)

    def __check_init__(self):
        require(self.batch >= 1, f"batch is {self.batch}; it must be at least 1.")
        for name in ("train", "validation", "test"):
            x, y = getattr(self, name)
            require(
                len(x) == len(y) >= 1,
                f"the part {name} has {len(x)} inputs and {len(y)} targets; there must be as many, and at least one.",
            )

    def sample(self, key: Array) -> Batch:
        """Rows of the training part, each as likely as any other."""
        rows = jr.randint(key, (self.batch,), 0, len(self.train[0]))
        return self.as_read(self.train[0][rows], self.train[1][rows])

    def held_out(self, split: str) -> Iterator[Batch]:
        """All rows of the part."""
        self.check_split(split)
        x, y = getattr(self, split)
        for begin in range(0, len(x), self.batch):
            yield self.as_read(x[begin : begin + self.batch], y[begin : begin + self.batch])

    def as_read(self, x: Array, y: Array) -> Batch:
        """Inputs and targets of rows, by default the rows themselves."""
        return x, y


def checked_settings(task: type[AbstractTask], settings: dict[str, Any]) -> dict[str, Any]:
    """The settings of a task, each of the type of its default; lists are tuples.

    **Raises:** `InputError` for a setting that it has not, naming those that it has, or a value of another type.
    """
    defaults = settings_of(task)
    for name in settings:
        have = f"it has {', '.join(defaults)}" if defaults else "it has none"
        require(name in defaults, f"{task.__name__} has no setting {name!r}; {have}.")
    return {name: _as_default(task, name, value, defaults[name]) for name, value in settings.items()}


def settings_of(task: type[AbstractTask]) -> dict[str, Any]:
    """The settings of a task and their defaults: its fields that are no arrays."""
    return {
        field.name: field.default
        for field in dataclasses.fields(task)
        if field.metadata.get("static") and field.init and field.default is not dataclasses.MISSING
    }


def _as_default(task: type[AbstractTask], name: str, value: Any, default: Any) -> Any:
    value = tuple(value) if isinstance(value, list) else value
    if isinstance(default, float) and type(value) is int:
        return float(value)
    fits = default is None or type(value) is type(default)
    whole = isinstance(default, tuple) and isinstance(value, tuple) and all(type(each) is int for each in value)
    if not fits or (isinstance(default, tuple) and not whole):
        raise InputError(f"{name} of {task.__name__} is {value!r}; it must be of the kind of its default, {default!r}.")
    return value
