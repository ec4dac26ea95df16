"""The programs that come with the package, by name: the command line, the tests and the docs read them from here."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

from dualform.errors import InputError, require
from dualform.programs.program import Program


class Entry(NamedTuple):
    """A program of the library.

    - name: what it is called.  what: what it does, in a sentence.  make: (options) -> the program.
    """

    name: str
    what: str
    make: Callable[..., Program]

    @property
    def options(self) -> Mapping[str, Any]:
        """Its options, each with what it is if not given."""
        found = inspect.signature(self.make).parameters.values()
        return MappingProxyType({each.name: each.default for each in found})


_LIBRARY: dict[str, Entry] = {}
M = TypeVar("M", bound=Callable[..., Program])


def register(name: str) -> Callable[[M], M]:
    """Make a function the library's program of that name; what it does is the first sentence of its docstring."""

    def made(make: M) -> M:
        sentence = " ".join((make.__doc__ or "").split("\n\n")[0].split())
        _LIBRARY[name] = Entry(name, sentence, make)
        return make

    return made


def library() -> Mapping[str, Entry]:
    """Every program of the library by name."""
    return MappingProxyType(_LIBRARY)


def program(name: str, **options: Any) -> Program:
    """The program of that name.

        >>> from dualform.programs.library import program
        >>> program("majority").what
        '1 where more ones than zeros were read, 0 elsewhere.'

    **Arguments:** options: the program's own, see `library()[name].options`.

    **Raises:** `InputError` where there is no such program, or it has no such option, or a value of one is of no use to it.
    """
    require(name in _LIBRARY, f"the library has no program {name!r}; it has {', '.join(_LIBRARY)}.")
    entry = _LIBRARY[name]
    for option in options:
        if option not in entry.options:
            listed = ", ".join(f"{each} ({value!r})" for each, value in entry.options.items())
            raise InputError(f"{name} has no option {option!r}; it has {listed or 'none'}.")
    return replace(entry.make(**options), name=name, what=entry.what)
