"""The options of all commands as one table: a name is one thing, and --help says it in words."""

import dataclasses
import itertools
import re
import types
import typing
from typing import Any, Literal, NamedTuple

import pytest
from tyro.conf import Positional

from dualform.cli import COMMANDS, main
from dualform.commands.memory import Memory
from dualform.commands.options import flag
from dualform.experiments.memory import HISTORIES, MODES
from dualform.tasks.memory import memory_tasks

POSITIONAL = typing.get_args(Positional[int])[1]


class Entry(NamedTuple):
    """An option of a command: the type of one value, the word for it, and what is said of it."""

    command: str
    name: str
    kind: Any
    value: str | None
    said: str


def entries() -> list[Entry]:
    """Every option of every command."""
    found = []
    for name, kind in COMMANDS.items():
        hints = typing.get_type_hints(kind, include_extras=True)
        for field in dataclasses.fields(kind):
            hint, *metadata = typing.get_args(hints[field.name])
            told = next(each for each in metadata if each is not POSITIONAL)
            shown = field.name if POSITIONAL in metadata else flag(field.name)
            found.append(Entry(name, shown, one_value(hint), told.metavar, told.help))
    return found


def one_value(hint: Any) -> Any:
    """The type of a single value: of a tuple one of it, of words to choose from `Literal`, and never None."""
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        (hint,) = (each for each in typing.get_args(hint) if each is not type(None))
    if typing.get_origin(hint) is tuple:
        hint = typing.get_args(hint)[0]
    return Literal if typing.get_origin(hint) is Literal else hint


TABLE = sorted(entries(), key=lambda entry: entry.name)


def first_sentence(said: str) -> str:
    """Up to the first full stop that ends a sentence."""
    return re.split(r"(?<=\w\.) ", said)[0]


@pytest.mark.parametrize(
    "name, group", [(name, [*group]) for name, group in itertools.groupby(TABLE, lambda e: e.name)]
)
def test_a_name_is_one_thing_everywhere(name, group):
    """One type, one word for the value, whether one or several are given, and one first sentence in every command."""
    assert len({entry.kind for entry in group}) == 1, group
    assert len({(entry.value or "").split()[0:1][0] if entry.value else None for entry in group}) == 1, group
    assert len({first_sentence(entry.said) for entry in group}) == 1, [entry.said for entry in group]


def test_a_thing_has_one_name():
    """No sentence stands under two names."""
    names: dict[str, set[str]] = {}
    for entry in TABLE:
        names.setdefault(first_sentence(entry.said), set()).add(entry.name)
    assert all(len(each) == 1 for each in names.values()), names


def test_every_option_is_said_in_words():
    """A sentence for each; a word in capitals for its value unless it is a switch or one of several words."""
    for entry in TABLE:
        assert re.fullmatch(r"[^\s].*\.", entry.said), entry
        if entry.kind in (bool, Literal) and entry.value is None:
            continue
        assert entry.value and not re.search(r"\b(STR|INT|FLOAT|PATH \||NONE|None)\b", entry.value), entry
        assert re.sub(r"[\[\].| ]|list|get", "", entry.value).isupper() or entry.name == "action", entry


@pytest.mark.parametrize("command", sorted({entry.command for entry in TABLE}))
def test_help_speaks_to_people(command, capsys, monkeypatch):
    """No name of a type, no None and no empty default is on a command's page of help; each option of it is."""
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    shown = capsys.readouterr().out
    assert stop.value.code == 0
    assert not re.findall(r"\b(?:STR|INT|FLOAT|BOOL|None|True|False)\b|\(default: \)", shown)
    for entry in TABLE:
        assert entry.command != command or not entry.name.startswith("--") or entry.name in shown


def test_words_to_choose_from_are_those_of_the_library():
    """What `memory` offers is what there is."""
    hints = typing.get_type_hints(Memory)
    assert typing.get_args(hints["mode"]) == MODES
    assert typing.get_args(typing.get_args(hints["history"])[0]) == HISTORIES
    assert set(Memory.tasks) == set(memory_tasks())


@pytest.mark.parametrize(
    "arguments", [["--mode", "best"], ["--history", "best"], ["--states", "64,128"], ["--states", "x"]]
)
def test_what_is_no_value_is_refused(arguments, capsys):
    """A word that is none of those, and commas between numbers, are usage errors that show the option."""
    with pytest.raises(SystemExit) as stop:
        main(["memory", *arguments])
    shown = capsys.readouterr()
    assert stop.value.code == 2 and arguments[0] in shown.out + shown.err
