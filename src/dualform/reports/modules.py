"""ES modules joined into one script, for a page that has nothing to load.

What our modules say is understood, and all else is refused: `import { a, b } from "./c.js";` and `export` before a declaration,
each on one line. The modules then share one scope, in which they run in the order in which a browser would run them.
"""

import re
from importlib.resources.abc import Traversable
from typing import NamedTuple

from dualform.errors import InputError, require

IMPORT = re.compile(r'import \{ ((?:[$\w]+, )*[$\w]+) \} from "\./([\w-]+\.js)";')
DECLARATION = re.compile(r"(export )?(?:const|let|class|(?:async )?function) ([$\w]+)(?= =|;|\(| \{)")
STRANGE = re.compile(
    r"(?:import|export|const|let|var|class|async|function|await)\b"  # at the start of a line: no import or declaration as above
    r"| = await\b"  # a declaration that waits
    r"|.*\bimport\s*[(.]"  # loads while it runs
    r"|.*(?:</script|<!--)"  # ends the script's element, or hides its end
    r"|[^`]*(?:`[^`]*`[^`]*)*`[^`]*$"  # a text of several lines, which may hold what looks like code
    r"|.*/\*(?!.*\*/)"  # a comment of several lines, likewise
)


class Module(NamedTuple):
    """One module.

    - lines: its text without imports and without the word export.
    - imports: each name, with the file that it is from.  exports: names.  declares: all names at its top.
    """

    lines: list[str]
    imports: list[tuple[str, str]]
    exports: set[str]
    declares: list[str]


def joined(folder: Traversable, first: str) -> str:
    """The module `first` of a folder with all that it imports, as the text of one strict script.

    **Raises:** `InputError` where a line is not understood, a name is imported that is not exported, two modules have one name at
    their tops, or modules import one another in a circle.
    """
    modules: dict[str, Module] = {}
    _add(modules, folder, first, ())
    owner: dict[str, str] = {}
    for name, module in modules.items():
        for file, wanted in module.imports:
            require(wanted in modules[file].exports, f"{name} imports {wanted}, which {file} does not export.")
        for declared in module.declares:
            require(declared not in owner, f"{declared} is a name of {owner.get(declared)} and of {name}; rename one.")
            owner[declared] = name
    return "\n".join(['"use strict";', *(line for module in modules.values() for line in module.lines), ""])


def _add(modules: dict[str, Module], folder: Traversable, name: str, above: tuple[str, ...]) -> None:
    """Add a module behind all that it imports, as they run."""
    chain = (*above, name)
    require(name not in above, f"modules import one another in a circle: {' imports '.join(chain)}.")
    if name not in modules:
        module = parsed(name, (folder / name).read_text("utf-8"))
        for file, _ in module.imports:
            _add(modules, folder, file, chain)
        modules[name] = module


def parsed(name: str, text: str) -> Module:
    """A module from its text.

    **Raises:** `InputError` where a line is not understood.
    """
    module = Module([], [], set(), [])
    for number, line in enumerate(text.splitlines(), start=1):
        if found := IMPORT.fullmatch(line):
            module.imports.extend((found[2], each) for each in found[1].split(", "))
            continue
        declaration = DECLARATION.match(line)
        if STRANGE.match(line[declaration.end() :] if declaration else line):
            raise InputError(
                f"{name}, line {number}, is not understood: {line.strip()!r}. A module imports names in braces and exports "
                "declarations, each on one line, waits for nothing at its top, and has no text or comment of several lines."
            )
        if declaration:
            module.declares.append(declaration[2])
            module.exports.update([declaration[2]] if declaration[1] else [])
        module.lines.append(line.removeprefix("export "))
    return module
