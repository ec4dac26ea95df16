"""What a result was made by: digests of the code that says how it is run, measured and judged.

The protocol of a function is every definition of a module's top level that it reaches, by name, within `PARTS`: the
experiment itself and all that it takes from other experiments, from `construct` and from `discover`. What those rest on
(mixers, recurrences, the training engine) is not in it: their laws and oracles hold them. Names are followed as they are
written, so that a definition that is only mentioned counts too; what is looked up at run time by a computed name does not.
"""

import ast
import functools
import hashlib
import importlib.util
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from dualform.errors import require

PARTS = ("dualform.experiments", "dualform.discover", "dualform.construct")
"""Where names are followed to."""

_JOB = re.compile(r"\w+(\.\w+)+:\w+")
_PLACE = re.compile(r"\w+(\.\w+)+(:\w+)?")
_ALL = "*"


def protocol(*functions: str) -> dict[str, str]:
    """By module, a digest of what the functions reach there.

    A digest is over the syntax: comments, docstrings and layout do not change it. Nor does the folder of a module that is
    named in it, which is in the module's own name: code that is moved keeps its digests.

    **Arguments:** functions: "module:name", of any module.

    **Raises:** `InputError` where there is no such module.

        >>> from dualform.experiments.protocol import protocol
        >>> sorted(protocol("dualform.experiments.numerals:count"))
        ['dualform.experiments.numerals']
    """
    waiting = [tuple(function.split(":", 1)) for function in functions]
    roots, seen = {module for module, _ in waiting}, set()
    reached: dict[str, dict[int, ast.stmt]] = {}
    while waiting:
        where, name = at = waiting.pop()
        if at in seen or not (where in roots or _within(where)):
            continue
        seen.add(at)
        module = _module(source(where))
        for statement in module.defining(name):
            reached.setdefault(where, {})[statement.lineno] = statement
            waiting += _taken_by(statement, where, module)
        if name in module.imported:
            waiting.append(_place(*module.imported[name]))
    ordered = {where: [lines[i] for i in sorted(lines)] for where, lines in sorted(reached.items())}
    return {where: _digest(statements) for where, statements in ordered.items()}


def combined(protocols: Mapping[str, str]) -> str:
    """One digest of several modules'."""
    return hashlib.sha256(repr(sorted(protocols.items())).encode()).hexdigest()[:16]


def changed_since(record: Mapping[str, Any]) -> list[str]:
    """The modules that are no longer those that made a record; none where it is current.

    **Returns:** names of modules; for a record without a protocol, words that say so.

    **Raises:** `InputError` where a module that made it is no more.
    """
    made = record.get("protocol")
    if not isinstance(made, Mapping) or not {"functions", "modules"} <= set(made):
        return ["it does not say which did"]
    now, then = protocol(*made["functions"]), made["modules"]
    return sorted(name for name in {*now, *then} if now.get(name) != then.get(name))


def source(module: str) -> str:
    """The text of a module; of a folder of modules that has none of its own, an empty one.

    **Raises:** `InputError` where there is none.
    """
    found = _spec(module)
    if found is not None and found.origin is None and found.submodule_search_locations is not None:
        return ""
    require(found is not None and found.origin is not None, f"there is no module {module!r} to take a protocol of.")
    assert found is not None and found.origin is not None
    return Path(found.origin).read_text(encoding="utf-8")


class _Module(NamedTuple):
    """A module's top level: the statements that define each name, and where each imported name is from."""

    defined: dict[str, list[ast.stmt]]
    imported: dict[str, tuple[str, str]]

    def defining(self, name: str) -> list[ast.stmt]:
        """The statements of one name, or all of them."""
        return [s for found in self.defined.values() for s in found] if name == _ALL else self.defined.get(name, [])


@functools.lru_cache(maxsize=256)
def _module(text: str) -> _Module:
    defined: dict[str, list[ast.stmt]] = {}
    imported: dict[str, tuple[str, str]] = {}
    for statement in ast.parse(text).body:
        if isinstance(statement, ast.Import | ast.ImportFrom):
            imported |= _bound(statement)
        for word in _names_set(statement):
            defined.setdefault(word, []).append(statement)
    return _Module(defined, imported)


def _names_set(statement: ast.stmt) -> Iterator[str]:
    """The names that a statement of the top level gives a meaning."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield statement.name
    elif not isinstance(statement, ast.Import | ast.ImportFrom):
        for node in ast.walk(statement):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                yield node.id


def _bound(statement: ast.Import | ast.ImportFrom) -> dict[str, tuple[str, str]]:
    """The names that an import binds: (module, name in it)."""
    if isinstance(statement, ast.Import):
        return {a.asname or a.name.partition(".")[0]: (a.name, _ALL) for a in statement.names}
    return {a.asname or a.name: (statement.module or "", a.name) for a in statement.names}


def _taken_by(statement: ast.stmt, where: str, module: _Module) -> Iterator[tuple[str, str]]:
    """What a statement mentions: names of its module, what it imports itself, and functions named "module:name"."""
    for node in ast.walk(statement):
        if isinstance(node, ast.Name) and (node.id in module.defined or node.id in module.imported):
            yield where, node.id
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from (_place(*target) for target in _bound(node).values())
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and _JOB.fullmatch(node.value):
            target, _, name = node.value.partition(":")
            yield target, name


def _place(module: str, name: str) -> tuple[str, str]:
    """Where an imported name is defined: in the module, or a module of its own, all of which is then meant."""
    if name == _ALL or not _within(module):
        return module, name
    found = _module(source(module))
    if name not in found.defined and name not in found.imported and _spec(f"{module}.{name}") is not None:
        return f"{module}.{name}", _ALL
    return module, name


def _within(module: str) -> bool:
    return any(module == part or module.startswith(f"{part}.") for part in PARTS)


def _spec(module: str):
    try:
        return importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return None


def _digest(statements: list[ast.stmt]) -> str:
    return hashlib.sha256(repr([_plain(statement) for statement in statements]).encode()).hexdigest()[:16]


def _plain(node: Any) -> Any:
    """Syntax as nested tuples, without positions, docstrings, and fields that are empty or differ between Pythons."""
    if isinstance(node, list):
        return tuple(_plain(each) for each in node if not _says_only(each))
    if not isinstance(node, ast.AST):
        return _without_folder(node) if isinstance(node, str) else node
    fields = [
        (name, _plain(value)) for name, value in ast.iter_fields(node) if name not in ("ctx", "kind", "type_comment")
    ]
    return type(node).__name__, *((name, value) for name, value in fields if value is not None and value != ())


def _without_folder(text: str) -> str:
    """A text as it is; of one that names a module of `PARTS`, or a function there, the module's last name and the function."""
    module = text.partition(":")[0]
    return text[module.rfind(".") + 1 :] if _PLACE.fullmatch(text) and _within(module) else text


def _says_only(node: Any) -> bool:
    """Whether a statement is a text alone: a docstring, of whatever stands before it."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
