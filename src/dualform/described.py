"""What a value is made of, in words that are the same in every process: of a function, also what it closes over and its code."""

import dataclasses
import functools
import hashlib
import inspect
import re
import sys
import sysconfig
import types
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

HOW = "how it is run"
"""The mark, in its metadata, of a field that says how a module is run and not what it is: it is left out."""

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
_CHECKERS = ("jaxtyping", "beartype", "typeguard")
_INSTALLED = tuple(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib"))


def described(value: Any, take: Callable[[Any], Any] | None = None) -> Any:
    """All of a value as nested tuples of words.

    Two functions that one function made are told apart by what they close over, and a function that was edited from what it was:
    its code is followed into what it calls. Code of dualform and of installed packages is known by its name alone, since their
    versions say the rest. Bytecode differs between versions of Python.

    **Arguments:** take: what stands for an array beside its shape and dtype; a digest of its bytes if not given.

        >>> from dualform.described import described
        >>> make = lambda n: lambda x: n * x
        >>> described(make(2)) == described(make(2)), described(make(2)) == described(make(3))
        (True, False)
    """
    return _Description(array_digest if take is None else take).of(value)


def digest(value: Any) -> str:
    """A digest of `described(value)`, of 32 characters."""
    return hashlib.sha256(repr(described(value)).encode()).hexdigest()[:32]


def array_digest(array: Any) -> str:
    """SHA-256 of an array's bytes; of a random key, those of its data."""
    key = eqx.is_array(array) and jnp.issubdtype(array.dtype, jax.dtypes.prng_key)
    data = np.asarray(jax.random.key_data(array) if key else array, order="C")
    return hashlib.sha256(data.reshape(-1).view(np.uint8).data).hexdigest()


class _Description:
    """One description: what was met already is not entered again."""

    def __init__(self, take: Callable[[Any], Any]):
        self.take, self.within = take, set()

    def of(self, value: Any) -> Any:
        if not isinstance(value, np.generic) and (eqx.is_array(value) or isinstance(value, np.ndarray)):
            stands = self.take(value)
            shape = ("array", tuple(value.shape), str(value.dtype))
            return shape if stands is None else (*shape, stands)
        if isinstance(value, np.generic):  # a number of NumPy is that number
            value = value.item()
        if value is None or isinstance(value, bool | int | float | complex | str | bytes):
            return repr(value)
        if id(value) in self.within:
            return ("again", type(value).__name__)
        self.within.add(id(value))
        try:
            return self._entered(value)
        finally:
            self.within.discard(id(value))

    def _entered(self, value: Any) -> Any:
        if isinstance(value, functools.partial):
            return ("partial", *(self.of(part) for part in (value.func, value.args, value.keywords)))
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            given = (field for field in dataclasses.fields(value) if HOW not in field.metadata)
            fields = ((field.name, getattr(value, field.name, None)) for field in given)
            own = () if _installed(type(value).__module__) else (self._class(type(value)),)
            return (type(value).__name__, *((name, self.of(part)) for name, part in fields), *own)
        if isinstance(value, tuple | list):
            return (type(value).__name__, *(self.of(part) for part in value))
        if isinstance(value, set | frozenset):
            return (type(value).__name__, *sorted((self.of(part) for part in value), key=repr))
        if isinstance(value, dict):
            return ("dict", *sorted(((name, self.of(part)) for name, part in value.items()), key=repr))
        if isinstance(value, types.CodeType):
            return self._code(value)
        if isinstance(value, types.MethodType):
            return ("method", self.of(value.__func__), self.of(value.__self__))
        if isinstance(value, type):
            return self._class(value)
        if callable(value):
            return self._callable(value)
        if type(value).__repr__ is object.__repr__ and (held := _held(value)):
            return (type(value).__qualname__, self.of(held))
        return _ADDRESS.sub("", repr(value))

    def _callable(self, value: Any) -> Any:
        value = inspect.unwrap(value, stop=lambda each: not _checks(each))  # checked or not, it is the same function
        name = ("function", getattr(value, "__module__", ""), getattr(value, "__qualname__", type(value).__name__))
        # A function around another has code and a closure of its own; of what a library compiled, the code within says all.
        unwraps = hasattr(value, "__wrapped__") and not isinstance(value, types.FunctionType)
        function = inspect.unwrap(value, stop=lambda each: isinstance(each, types.FunctionType)) if unwraps else value
        if not isinstance(function, types.FunctionType):
            if isinstance(value, types.BuiltinFunctionType) or hasattr(value, "__qualname__"):
                return name
            return (
                *name,
                self.of(_held(value)),
                self._class(type(value)),
            )  # an object with __call__, and what it holds
        closed = self._closed(function)
        if _installed(function.__globals__.get("__name__")):
            return (*name, closed) if closed else name
        rest = (function.__defaults__, function.__kwdefaults__)
        return (*name, closed, *(self.of(each) for each in rest), self.of(function.__code__), self._called(function))

    def _closed(self, function: types.FunctionType) -> tuple[Any, ...]:
        return tuple(self.of(_content(cell)) for cell in function.__closure__ or ())

    def _code(self, code: types.CodeType) -> Any:
        # The text that a function begins with says what it does, and does nothing.
        said = code.co_consts[:1] if code.co_flags & inspect.CO_OPTIMIZED and _says(code) else ()
        constants = [self.of(each) for each in code.co_consts[len(said) :]]
        body = hashlib.sha256(code.co_code).hexdigest()[:16]
        return ("code", body, code.co_names, code.co_varnames, code.co_freevars, *constants)

    def _called(self, function: types.FunctionType) -> Any:
        """What the code reads of its module: numbers, texts, arrays, and functions and classes that are not installed."""
        names = sorted(_names(function.__code__))
        found = []
        for name in names:
            value = function.__globals__.get(name)
            if isinstance(value, types.ModuleType):
                if not _installed(value.__name__):
                    read = ((each, getattr(value, each)) for each in names if hasattr(value, each))
                    found.append((name, *((each, self._read(part)) for each, part in read)))
            elif value is not None:
                found.append((name, self._read(value)))
        return tuple(found)

    def _read(self, value: Any) -> Any:
        """A value that a function finds in a module."""
        if isinstance(value, types.ModuleType):
            return value.__name__
        if isinstance(value, type | types.FunctionType) and _installed(value.__module__):
            return (value.__module__, value.__qualname__)
        return self.of(value)

    def _class(self, value: type) -> Any:
        name = ("function", value.__module__, value.__qualname__)
        if _installed(value.__module__) or ("class", id(value)) in self.within:
            return name
        self.within.add(("class", id(value)))
        try:
            held = [(each, self._member(each, part)) for each, part in sorted(vars(value).items())]
            bases = (self._class(base) for base in value.__bases__ if not _installed(base.__module__))
            return (*name, *((each, part) for each, part in held if part is not None), *bases)
        finally:
            self.within.discard(("class", id(value)))

    def _member(self, name: str, part: Any) -> Any:
        """What a class says of itself: its own functions, and plain values such as settings; None for all else."""
        for wrapped in ("__func__", "fget"):  # of a static or class method, of a property
            part = getattr(part, wrapped, None) or part
        special = name.startswith("__") and name != "__call__"  # many of these are written by `dataclass`
        if isinstance(part, types.FunctionType):
            return (
                self.of(part.__code__) if special else (self.of(part.__code__), self._closed(part), self._called(part))
            )
        plain = isinstance(part, bool | int | float | complex | bytes | str | tuple | list | dict | set | frozenset)
        return self.of(part) if not special and (plain or eqx.is_array(part) or isinstance(part, np.ndarray)) else None


def _held(value: Any) -> dict[str, Any]:
    """The attributes of an object, those in slots too."""
    slots = (name for each in type(value).__mro__ for name in _names_of(vars(each).get("__slots__", ())))
    held = {name: getattr(value, name) for name in slots if name != "__weakref__" and hasattr(value, name)}
    return held | getattr(value, "__dict__", {})


def _names_of(slots: Any) -> tuple[str, ...]:
    return (slots,) if isinstance(slots, str) else tuple(slots)


def _checks(value: Any) -> bool:
    """Whether it is a function that a checker of types has put around another."""
    module = value.__globals__.get("__name__", "") if isinstance(value, types.FunctionType) else ""
    return module.partition(".")[0] in _CHECKERS and hasattr(value, "__wrapped__")


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # it is filled later
        return None


def _says(code: types.CodeType) -> bool:
    """Whether the first constant is the docstring: a text that no instruction loads."""
    import dis

    if not code.co_consts or not isinstance(code.co_consts[0], str):
        return False
    return not any(each.opname == "LOAD_CONST" and each.arg == 0 for each in dis.get_instructions(code))


def _names(code: types.CodeType) -> set[str]:
    """All names that a function, and the functions inside it, look up outside of themselves."""
    inner = (each for each in code.co_consts if isinstance(each, types.CodeType))
    return set(code.co_names).union(*map(_names, inner))


@functools.cache
def _installed(module: str | None) -> bool:
    """Whether a module is of dualform, of Python or of an installed package."""
    top = (module or "").partition(".")[0]
    if not top or top in sys.stdlib_module_names or top in sys.builtin_module_names:
        return top != "__main__"
    if top in ("dualform", "jax", "jaxlib", "numpy", "equinox", "optax"):
        return True
    file = getattr(sys.modules.get(module or ""), "__file__", None) or ""
    return file.startswith(_INSTALLED)
