"""Modules that say the shapes of their arrays once, in the annotations of their fields, and are held to them."""

import dataclasses
import functools
import inspect
import re
import types
import typing
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import AbstractArray, Array

from dualform.errors import InputError, require
from dualform.mixers.constant import Constant

AXIS = re.compile(r"[A-Za-z0-9]\w*([*+-]\w+)*")
"""An axis as it is understood here: a name, a number, or some put together."""


class Declared(eqx.Module):
    """A module whose fields say their shapes: `w_k: Float[Array, "head d_k d"]`, `b: Float[Array, " d_k"] | None`.

    What is given for such a field is made an array, or a `Constant` for `Float[Constant, " n"]`, by its own converter
    if it has one (which tells checkers of types what may be given). A name stands for one number in the shapes of all fields; an
    axis may also be a number, or numbers and names put together: "head*d_v", "d+1". A field may have one of several shapes:
    `Float[Array, " d"] | Float[Array, "head d"]`. One with any other axis ("...", "*shape", "_", "#n") is not looked at.

    **Raises:** `InputError` where the shapes do not fit together, or a dimension is 0 that `may_be_zero` does not name.
    """

    may_be_zero: ClassVar[tuple[str, ...]] = ()
    """Dimensions of which there may be none."""

    # A constructor takes what can be made an array: what the annotations say is true of the fields, and is checked of them.
    __no_type_check__: ClassVar[bool] = True

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        own = {name: each for name, each in inspect.get_annotations(cls).items() if forms(each)}
        for name, annotation in own.items():
            field = cls.__dict__.get(name, dataclasses.MISSING)
            if not isinstance(field, dataclasses.Field):
                field = eqx.field(default=field)
            convert = field.metadata.get("converter", converter(annotation))
            field.metadata = types.MappingProxyType({**field.metadata, "converter": showing(annotation, convert)})
            setattr(cls, name, field)
        if "__init__" in cls.__dict__:  # its parameters that are named as fields are what the fields are
            named = inspect.signature(cls.__init__).parameters.keys() & own.keys()
            cls.__init__.__annotations__.update({name: own[name] for name in named})

    def __check_init__(self):
        sizes_of(self)

    def dim(self, axis: str) -> int:
        """The number that an axis stands for, "d_k" or "head*d_v"; errors as of the class."""
        return self.dims(axis)[0]

    def dims(self, shape: str) -> tuple[int, ...]:
        """Those that a shape stands for, "head d_k d_v"."""
        sizes = sizes_of(self)
        found = [(axis, size(axis, sizes)) for axis in shape.split()]
        for axis, n in found:
            require(
                n is not None, f"no field of this {type(self).__name__} has a dimension {axis}; there are {[*sizes]}."
            )
        return tuple(n for _, n in found if n is not None)

    @classmethod
    def shape_of(cls, name: str, **sizes: int) -> tuple[int, ...]:
        """The shape of a field for these sizes of its dimensions."""
        return tuple(eval(_compiled(axis), {}, sizes) for axis in axes_of(declared(cls)[name])[0])


def forms(annotation: Any) -> list[type[AbstractArray]]:
    """The shapes of arrays that an annotation allows; none where it is no array's."""
    union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    options = typing.get_args(annotation) if union else (annotation,)
    return [each for each in options if isinstance(each, type) and issubclass(each, AbstractArray)]


def axes_of(annotation: Any) -> list[list[str]]:
    """The axes of each of these shapes."""
    return [form.dim_str.split() for form in forms(annotation)]


@typing.no_type_check  # lists and numbers are welcome, too
def array(given: ArrayLike) -> Array:
    """The converter of an array field: that type checkers see what a constructor takes."""
    return jnp.asarray(given)


@typing.no_type_check
def optional_array(given: ArrayLike | None) -> Array | None:
    """That of a field that may be None."""
    return None if given is None else jnp.asarray(given)


def converter(annotation: Any) -> Callable[[Any], Any]:
    """What makes an array, or a constant, of what is given for a field that does not say it itself."""
    make = Constant.of if any(form.array_type is Constant for form in forms(annotation)) else jnp.asarray
    optional = type(None) in typing.get_args(annotation)
    return lambda given: None if optional and given is None else make(given)


def showing(annotation: Any, convert: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A field's converter whose own annotation is the field's, which `help` then shows."""
    found = lambda given: convert(given)
    found.__annotations__["given"] = annotation
    return found


@functools.cache
def declared(kind: type) -> Mapping[str, Any]:
    """The annotations of a class's array fields whose shapes are understood, in order."""
    understood = lambda annotation: all(AXIS.fullmatch(axis) for axes in axes_of(annotation) for axis in axes)
    fields = ((field.name, field.type) for field in dataclasses.fields(kind) if forms(field.type))
    return {name: annotation for name, annotation in fields if understood(annotation)}


def sizes_of(module: Declared) -> Mapping[str, int]:
    """What each name in the shapes of a module's fields stands for; a field that holds no array is passed over."""
    values = ((name, getattr(module, name)) for name in declared(type(module)))
    return bound(type(module), tuple((name, value.shape) for name, value in values if hasattr(value, "shape")))


Shapes = tuple[tuple[str, tuple[int, ...]], ...]
"""The fields that hold an array, and their shapes."""


@functools.lru_cache(maxsize=1024)
def bound(kind: type[Declared], shapes: Shapes) -> Mapping[str, int]:
    """What each name in the shapes of a class's fields stands for: what most of these say.

    **Raises:** `InputError` that says which field does not fit, what it must be, and by which others.
    """
    said: dict[str, Counter[int]] = defaultdict(Counter)
    for name, shape in shapes:
        for axis, n in dict(read(kind, name, shape) or ()).items():
            if axis.isidentifier():
                said[axis][n] += 1
    sizes = {axis: max(numbers, key=lambda n: (numbers[n], n > 0)) for axis, numbers in said.items()}
    for name, shape in shapes:
        for axis, n in read(kind, name, shape) or ():
            sizes |= solved(axis, n, sizes)
    for name, shape in shapes:
        axes = read(kind, name, shape)
        if axes is None or any(size(axis, sizes) not in (None, n) for axis, n in axes):
            raise unfit(kind, name, shapes, sizes)
        for axis in names(axis for axis, _ in axes):
            if sizes[axis] < 1 and axis not in kind.may_be_zero:
                raise unfit(kind, name, shapes, {}, f", {axis} at least 1")
    return sizes


def read(kind: type[Declared], name: str, shape: tuple[int, ...]) -> list[tuple[str, int]] | None:
    """The axes of a field as they are declared, with what they are; None where it has not so many."""
    fitting = [axes for axes in axes_of(declared(kind)[name]) if len(axes) == len(shape)]
    return [*zip(fitting[0], shape, strict=True)] if fitting else None


def size(axis: str, sizes: Mapping[str, int]) -> int | None:
    """The number that an axis stands for; None where one of its names is not known."""
    return eval(_compiled(axis), {}, dict(sizes)) if sizes.keys() >= set(names([axis])) else None


def solved(axis: str, n: int, sizes: Mapping[str, int]) -> dict[str, int]:
    """The one name in "d+1" or "2*d" that is not known yet, and what it stands for where the axis is n."""
    unknown = set(names([axis])) - sizes.keys()
    if len(unknown) != 1:
        return {}
    [name] = unknown
    at = [eval(_compiled(axis), {}, {**sizes, name: value}) for value in (0, 1)]
    return {name: (n - at[0]) // (at[1] - at[0])}


def names(axes: Iterator[str] | list[str]) -> list[str]:
    """The names in axes, each once."""
    return list(dict.fromkeys(name for axis in axes for name in _compiled(axis).co_names))


@functools.cache
def _compiled(axis: str) -> types.CodeType:
    return compile(axis, "an axis", "eval")


def unfit(kind: type[Declared], name: str, shapes: Shapes, sizes: Mapping[str, int], also: str = "") -> InputError:
    """What is said of a field that does not fit: what it must be, and which others say so."""
    written = axes_of(declared(kind)[name])
    by: dict[str, str] = {}
    for other, shape in shapes:
        agrees = [axis for axis, n in read(kind, other, shape) or () if other != name and size(axis, sizes) == n]
        by = dict.fromkeys(names(agrees), other) | by
    by = {axis: by[axis] for axis in names([axis for axes in written for axis in axes]) if axis in by}
    known = {axis: sizes[axis] for axis in by}
    text = lambda axes: f"({', '.join(axes)}{',' * (len(axes) == 1)})"
    needed = [text([str(size(axis, known) or axis) for axis in axes]) for axes in written]
    must = ", or ".join(needed + ["None"] * (type(None) in typing.get_args(declared(kind)[name])))
    where = ", ".join(f"{axis} is {known[axis]} in {other}" for axis, other in by.items())
    reason = f": {', or '.join(map(text, written))}, where {where}" if by else ""
    return InputError(f"{kind.__name__}.{name} has shape {dict(shapes)[name]}; it must be {must}{also}{reason}.")
