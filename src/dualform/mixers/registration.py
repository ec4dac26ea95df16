"""The mixers by name. Laws, dual forms, benchmarks, files of weights, the command line and the docs read them from here.

A mixer is registered where it is defined:

    @register("gla")
    class GLA(AbstractMixer): ...

and so is one of another package's. For the command line and for files of weights to know it, that package names the module in
its metadata, `[project.entry-points."dualform.mixers"] NAME = "package.module"`: it is imported when mixers are asked for.
"""

import functools
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any, TypeVar

from dualform.errors import InputError, require
from dualform.mixers.mixer import AbstractMixer

ENTRY_POINTS = "dualform.mixers"
"""The group of a package's entry points whose modules bring mixers."""

_MAKERS: dict[str, Callable[..., AbstractMixer]] = {}
M = TypeVar("M", bound=type[AbstractMixer])


def register(name: str, **options: Any) -> Callable[[M], M]:
    """A decorator that makes a mixer known by a name; used again on the same class, another variant by another name.

    **Arguments:** name: letters, digits and underscores; options: of the class's `make`, which this name stands for.

    **Raises:** `InputError` for a name that is another class's or is none, for a class that is no mixer or has no `make`, and for
    one that is called as another mixer is, since files of weights name classes.
    """

    def registered(kind: M) -> M:
        require(
            isinstance(kind, type) and issubclass(kind, AbstractMixer) and callable(getattr(kind, "make", None)),
            f"{kind!r} cannot be registered as {name!r}: a mixer is a class made of AbstractMixer, with a classmethod make(d, *, "
            "key).",
        )
        require(name.isidentifier(), f"{name!r} is no name for a mixer; give letters, digits and underscores.")
        for other, maker in _MAKERS.items():
            same = _place(class_of(maker)) == _place(kind)  # a module that is run again makes its class anew
            require(
                other != name or same,
                f"there is a mixer {name!r} already, a {class_of(maker).__qualname__} of {class_of(maker).__module__}. Give "
                "another name.",
            )
            require(
                same or class_of(maker).__name__ != kind.__name__,
                f"there is a mixer class {kind.__name__} already, of {class_of(maker).__module__}, and files of weights name "
                "classes. Call it otherwise.",
            )
        make: Callable[..., AbstractMixer] = kind.make  # pyright: ignore[reportAttributeAccessIssue] - seen above
        _MAKERS[name] = functools.partial(make, **options) if options else make
        return kind

    return registered


def registry() -> dict[str, Callable[..., AbstractMixer]]:
    """Every mixer's maker by name: `make(d, key=...)` gives one of width d in and out, small enough to test.

    **Raises:** `InputError` where an installed package says that it brings mixers, and cannot be imported.
    """
    _import_installed()
    return dict(_MAKERS)


def classes() -> dict[str, type[AbstractMixer]]:
    """The class of every registered mixer, by the class's name: variants of one class count once."""
    return {kind.__name__: kind for kind in map(class_of, registry().values())}


@functools.cache
def _import_installed() -> None:
    """Import what other packages bring, once."""
    for entry in entry_points(group=ENTRY_POINTS):
        try:
            entry.load()
        except Exception as error:
            package = entry.dist.name if entry.dist else entry.name
            raise InputError(
                f"the installed package {package} brings mixers in {entry.value!r}, which cannot be imported "
                f"({type(error).__name__}: {error!s:.200}). Mend it, or uninstall it."
            ) from error


def class_of(maker: Callable[..., AbstractMixer]) -> type[AbstractMixer]:
    """The class whose `make` it is."""
    return getattr(maker, "func", maker).__self__  # pyright: ignore[reportFunctionMemberAccess] - bound


def _place(kind: type) -> tuple[str, str]:
    return kind.__module__, kind.__qualname__
