"""The architectures that a program can be compiled to, by name."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from dualform.errors import require
from dualform.programs.graph import Graph
from dualform.programs.path import Path, as_path


class Target(NamedTuple):
    """An architecture.

    - emit: (path, dtype) -> a layer, (time, d_in) -> (time, d_out); `InputError`, which says why, where it cannot hold the path.
    - what: its layers, in a sentence.  path: graph -> the path that it emits.
    - roundings: how many times more than in a recurrence that is written out its states are rounded at a token.
    """

    name: str
    emit: Callable[[Path, Any], Any]
    what: str
    path: Callable[[Graph], Path] = as_path
    roundings: int = 1


_TARGETS: dict[str, Target] = {}


def register(
    name: str, what: str, path: Callable[[Graph], Path] = as_path, roundings: int = 1
) -> Callable[[Callable[[Path, Any], Any]], Callable[[Path, Any], Any]]:
    """Make a function the emitter of that name."""

    def made(emit: Callable[[Path, Any], Any]) -> Callable[[Path, Any], Any]:
        _TARGETS[name] = Target(name, emit, what, path, roundings)
        return emit

    return made


def targets() -> Mapping[str, Target]:
    """Every architecture by name."""
    return MappingProxyType(_TARGETS)


def target(name: str) -> Target:
    """The architecture of that name.

    **Raises:** `InputError` where there is none.
    """
    require(name in _TARGETS, f"there is no architecture {name!r}; there are {', '.join(_TARGETS)}.")
    return _TARGETS[name]
