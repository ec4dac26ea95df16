"""A sweep by what it is told: a recipe, and lists of what is tried for some of its keys."""

import copy
import itertools
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import equinox as eqx

from dualform.described import digest
from dualform.errors import InputError, require
from dualform.training.recipe import Recipe, put, read_toml
from dualform.training.sweeps import Job

FUNCTION = "dualform.training.recipe:job"
"""What runs each of the jobs."""


def read_grid(path: str | os.PathLike[str]) -> list[Job]:
    """The jobs of a file of TOML: a run.toml with a table [sweep] of lists, of which every combination is a job.

    **Raises:** `FileError` where it is not to be read; `InputError` as of `jobs_of`.
    """
    return jobs_of(read_toml(path), repr(os.fspath(path)))


def jobs_of(told: Mapping[str, Any], where: str = "the sweep") -> list[Job]:
    """A job for each combination of what `told["sweep"]` lists, each a `Recipe` that was made and looked at.

    Keys of the sweep are dotted keys of the recipe, such as "fit.learning_rate"; the last one varies fastest. A job is called
    after the values that vary in it: mixers=gla--learning_rate=0.001--seed=0.

    **Arguments:** told: nested mappings, as TOML and JSON have them.

    **Raises:** `InputError` for a key that is none, naming it; for what is no list, an empty one, or one that has a value twice;
    and for a combination that is no training: its task, its data or its model cannot be made.

        >>> from dualform.training.grid import jobs_of
        >>> [job.name for job in jobs_of({"task": "copy", "sweep": {"model.mixers": [["gla"], ["lstm"]], "seed": [3, 4]}})]
        ['mixers=gla--seed=3', 'mixers=gla--seed=4', 'mixers=lstm--seed=3', 'mixers=lstm--seed=4']
    """
    rest = {name: value for name, value in told.items() if name != "sweep"}
    lists = _lists(told.get("sweep"), where)
    varying = [key for key, values in lists.items() if len(values) > 1]
    names = dict(zip(varying, short_names(varying), strict=True))
    jobs, opened = [], {}
    for values in itertools.product(*lists.values()):
        point = copy.deepcopy(rest)
        for key, value in zip(lists, values, strict=True):
            put(point, key, value, f"{where} says sweep {key}")
        said = [f"{names[key]}={_word(value)}" for key, value in zip(lists, values, strict=True) if key in names]
        recipe, name = Recipe.of(point, where), _short("--".join(said) or "run", 200, str(said))
        _check(recipe, name, opened)
        jobs.append(Job(name, FUNCTION, recipe.told()))
    return jobs


def short_names(keys: Sequence[str]) -> list[str]:
    """The last parts of dotted keys, and as many before them as tell them apart."""
    parts, lengths = [key.split(".") for key in keys], [1] * len(keys)
    while True:
        names = [".".join(each[-length:]) for each, length in zip(parts, lengths, strict=True)]
        short = [names.count(name) > 1 and name != key for name, key in zip(names, keys, strict=True)]
        if not any(short):
            return names
        lengths = [length + more for length, more in zip(lengths, short, strict=True)]


def _lists(sweep: Any, where: str) -> dict[str, list[Any]]:
    """By dotted key, what is tried."""
    require(
        isinstance(sweep, Mapping) and bool(sweep),
        f"{where} has no table [sweep]; give one with a list of what is tried for each key, such as seed = [0, 1, 2].",
    )
    lists: dict[str, list[Any]] = {}
    for key, values in _leaves(sweep):
        what = f"{where} says sweep {key} = {values!r}"
        require(key not in lists, f"{where} has sweep {key} twice; leave one out.")
        require(isinstance(values, list | tuple), f"{what}; it must be a list of what is tried.")
        require(len(values) > 0, f"{what}; there must be at least one value in it.")
        for i, value in enumerate(values):
            require(not any(_same(value, other) for other in values[:i]), f"{what}; {value!r} is in it twice.")
        lists[key] = list(values)
    return lists


def _leaves(tree: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """What is no table, by dotted key: "fit.learning_rate" in quotes, or without them."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{before}{name}.")
        else:
            yield before + name, value


def _same(a: Any, b: Any) -> bool:
    return type(a) is type(b) and a == b


def _word(value: Any) -> str:
    """A value as a part of a folder's name; where characters had to go, or are many, with a digest that tells it apart."""
    plain = "-".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    plain = plain.replace("e+", "e") if isinstance(value, float) else plain
    word = re.sub(r"[^A-Za-z0-9._-]+", "-", plain)
    return _short(word, 60, plain) if word == plain else f"{word[:60]}-{digest(plain)[:6]}"


def _short(name: str, most: int, of: str) -> str:
    return name if len(name) <= most else f"{name[:most]}-{digest(of)[:6]}"


def _check(recipe: Recipe, name: str, opened: dict[str, Any]) -> None:
    """Open the recipe's task, if it is not yet among those that are open, and lay its model out without making it."""
    of_task = json.dumps([recipe.task, recipe.data, recipe.settings], sort_keys=True, default=str)
    try:
        if of_task not in opened:
            opened[of_task] = recipe.open_task()
        eqx.filter_eval_shape(partial(recipe.make_model, opened[of_task]))
    except InputError as error:
        raise InputError(f"of {name}: {error}") from error
