"""The tasks by name: the command line, sweeps, papers' results and the docs read them from here.

A task is registered where it is defined:

    @register("copy")
    class Copy(DrawnTask): ...

A package of its own names the module that does so in its metadata, `[project.entry-points."dualform.tasks"] NAME =
"package.module"`; a file of one's own is named by its path: `dualform train my_task.py`.
"""

import functools
import importlib.util
import sys
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import TypeVar

from dualform.errors import FileError, InputError, require
from dualform.reading import existing_file
from dualform.tasks.task import AbstractTask

ENTRY_POINTS = "dualform.tasks"
"""The group of a package's entry points whose modules bring tasks."""

_TASKS: dict[str, type[AbstractTask]] = {}
T = TypeVar("T", bound=type[AbstractTask])


def register(name: str) -> Callable[[T], T]:
    """A decorator that makes a task known by a name: letters, digits and hyphens.

    **Raises:** `InputError` for a name that is another task's or is none, and for a class that is no task.
    """

    def registered(kind: T) -> T:
        require(
            isinstance(kind, type) and issubclass(kind, AbstractTask),
            f"{kind!r} cannot be registered as {name!r}: a task is a class made of DrawnTask, StoredTask or AbstractTask.",
        )
        require(
            name.replace("-", "_").isidentifier(), f"{name!r} is no name for a task; give letters, digits and hyphens."
        )
        other = _TASKS.get(name)
        # A module that is run again makes its class anew.
        same = other is None or (other.__module__, other.__qualname__) == (kind.__module__, kind.__qualname__)
        require(same, f"there is a task {name!r} already, a {getattr(other, '__name__', '')}. Give another name.")
        _TASKS[name] = kind
        return kind

    return registered


@functools.cache
def _import_others() -> None:
    for entry in sorted(entry_points(group=ENTRY_POINTS), key=lambda entry: entry.name):
        try:
            entry.load()
        except Exception as error:
            raise InputError(
                f"the tasks of {entry.value} cannot be imported: {type(error).__name__}: {error}. Mend that package, or "
                "uninstall it."
            ) from error


def known() -> dict[str, type[AbstractTask]]:
    """Every task by its name, those of other packages too.

    **Raises:** `InputError` where the tasks of another package cannot be imported.
    """
    _import_others()
    return dict(sorted(_TASKS.items()))


def named(name: str) -> type[AbstractTask]:
    """The task of that name, or that of a file of Python, `my_task.py`, or `my_task.py:name` where it has several.

    **Raises:** `InputError` where there is none; `FileError` where the file cannot be run.
    """
    path, _, of_it = name.partition(":")
    if path.endswith(".py"):
        return _of_file(path, of_it)
    tasks = known()
    require(
        name in tasks,
        f"there is no task {name!r}; there are {', '.join(tasks)}. A task of your own is a file: my_task.py.",
    )
    return tasks[name]


def _of_file(path: str, name: str) -> type[AbstractTask]:
    """The task that a file of Python registers."""
    place, where = existing_file(Path(path), "a file of Python")
    module = f"dualform_task_{place.stem}"
    spec = importlib.util.spec_from_file_location(module, place)
    assert spec is not None and spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    sys.modules[module] = made
    try:
        spec.loader.exec_module(made)
    except InputError:
        raise
    except Exception as error:
        raise FileError(f"{where} cannot be run: {type(error).__name__}: {error}. Mend it.") from error
    found = {given: task for given, task in _TASKS.items() if task.__module__ == module}
    require(bool(found), f"{where} registers no task; write @register('name') above its class.")
    require(not name or name in found, f"{where} has no task {name!r}; it has {', '.join(found)}.")
    require(bool(name) or len(found) == 1, f"{where} has several tasks; give one of {', '.join(found)}: {path}:NAME.")
    return found[name] if name else next(iter(found.values()))
