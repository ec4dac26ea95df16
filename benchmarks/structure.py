"""The house in numbers: lines for each folder, its longest file, and who imports whom.

python -m benchmarks.structure [--against COMMIT] [--write docs/benchmarks/structure.md]

Lines are those of Python files without blank ones. An import runs upward where CONTRIBUTING's list has the importing folder below
the imported one; imports inside functions count. With `--against` an earlier commit of this repository stands beside.
"""

import argparse
import ast
import re
import subprocess
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from benchmarks.alternate import write

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "src/dualform"
Files = dict[PurePosixPath, str]
"""The text of each file of the package, by its path in it."""


def files(commit: str | None = None) -> Files:
    """The package's Python files, as they are here or at a commit."""
    if commit is None:
        folder = ROOT / PACKAGE
        return {PurePosixPath(path.relative_to(folder)): path.read_text() for path in sorted(folder.rglob("*.py"))}
    run = lambda *words: subprocess.run(["git", *words], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    names = [name for name in run("ls-tree", "-r", "--name-only", commit, PACKAGE).splitlines() if name.endswith(".py")]
    return {PurePosixPath(name).relative_to(PACKAGE): run("show", f"{commit}:{name}") for name in names}


def part(path: PurePosixPath) -> str:
    """The folder that a file is in, or the file itself where it stands beside the folders."""
    return path.parts[0].removesuffix(".py")


def lines(text: str) -> int:
    """Lines that are not blank."""
    return sum(bool(line.strip()) for line in text.splitlines())


def imports(given: Files) -> dict[str, dict[str, list[str]]]:
    """For each part of the package, the parts that it imports, and where."""
    found: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for path, text in given.items():
        for node in ast.walk(ast.parse(text)):
            for name in imported(node):
                other = name.split(".")[1]
                if other != part(path) and path.name != "__init__.py":
                    found[part(path)][other].append(f"{path}:{getattr(node, 'lineno', 0)}")
    return found


def imported(node: ast.AST) -> list[str]:
    """The modules of dualform that a statement imports, in full."""
    if isinstance(node, ast.ImportFrom) and node.module is not None and not node.level:
        names = [f"dualform.{each.name}" for each in node.names] if node.module == "dualform" else [node.module]
    else:
        names = [each.name for each in node.names] if isinstance(node, ast.Import) else []
    return [name for name in names if name.startswith("dualform.")]


def order(text: str) -> list[str]:
    """The parts as CONTRIBUTING lists them, from the top down."""
    listed = text[text.index("    src/dualform/\n") : text.index("    tests/ ")]
    names = [line.split("  ")[0] for line in re.findall(r"^      (\S.*)$", listed, flags=re.M)]
    return [each.strip().rstrip("/").removesuffix(".py") for name in names for each in name.split(",")]


def upward(found: Mapping[str, Mapping[str, Iterable[str]]], listed: list[str]) -> list[str]:
    """Every import of a part that stands above the one that imports it."""
    place = {name: number for number, name in enumerate(listed)}
    rising = lambda name, other: name in place and other in place and place[other] < place[name]
    return [
        where for name, others in found.items() for other, at in others.items() if rising(name, other) for where in at
    ]


def circles(found: Mapping[str, Mapping[str, Iterable[str]]]) -> list[str]:
    """The parts that import themselves by way of others."""

    def reached(name: str) -> set[str]:
        seen: set[str] = set()
        todo = [name]
        while todo:
            new = set(found.get(todo.pop(), ())) - seen
            seen |= new
            todo += new
        return seen

    return sorted(name for name in found if name in reached(name))


def table(now: Files, before: Files | None) -> list[str]:
    """A row for each folder: lines before and now, files, and the longest one."""
    folders = sorted({part(path) for path in (*now, *(before or {})) if len(path.parts) > 1})
    size = lambda given, name: sum(lines(text) for path, text in given.items() if name in (None, part(path)))
    rows = []
    for name in (*folders, None):
        own = {path: text for path, text in now.items() if name in (None, part(path))}
        longest = max(own, key=lambda path: lines(own[path]), default=None)
        was = [] if before is None else [f"{size(before, name):,}"]
        cells = [
            f"`{name}/`" if name else "all, with what stands beside the folders",
            *was,
            f"{size(now, name):,}",
            str(len(own)),
        ]
        rows.append([*cells, f"`{longest}`, {lines(own[longest])}" if longest else "-"])
    head = ["folder", *([] if before is None else ["lines before"]), "lines", "files", "longest file"]
    return ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows)]


def costs(now: Files, text: str) -> list[str]:
    """A row for each kind of part that is added: how many files and lines it is, and what else is touched.

    **Arguments:** text: CONTRIBUTING's, whose examples are a mixer and a block, whole, each run by a test.
    """
    examples = [lines(each) for each in re.findall(r"^```python\n(.*?)^```", text, flags=re.M | re.S)]
    layouts = [each for path, each in now.items() if path.parent.name == "layouts" and "\ndef recognised(" in each]
    folders = {path.parent for path in now if path.name == "paper.py"}
    papers = {folder: [each for path, each in now.items() if path.parent == folder] for folder in folders}
    sized = {folder.name: sum(map(lines, each)) / len(each) for folder, each in papers.items()}
    middle = lambda values: sorted(values)[len(values) // 2]
    rows = [
        ["a new", "files", "lines", "touched beside"],
        ["---"] * 4,
        [
            "mixer",
            "1",
            f"{examples[0]} (CONTRIBUTING's example)",
            "a line in `mixers/__init__.py`; of another package: none",
        ],
        ["kind of block", "1", f"{examples[1]} (CONTRIBUTING's example)", "none"],
        [
            "layout of checkpoints",
            "1",
            f"{min(map(lines, layouts))} to {max(map(lines, layouts))}, {middle(list(map(lines, layouts)))} in the middle",
            "a line in `checkpoints/layouts/__init__.py`",
        ],
        [
            "paper",
            "2: `paper.py` and one for each result",
            f"{min(sized.values()):.0f} to {max(sized.values()):.0f} a file, as the {len(sized)} papers have it",
            "two lines in `experiments/papers.py`, a page, a line in `mkdocs.yml`",
        ],
    ]
    return ["| " + " | ".join(row) + " |" for row in rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", metavar="COMMIT", help="an earlier commit, to stand beside")
    parser.add_argument("--write", metavar="FILE")
    options = parser.parse_args()
    now, before = files(), None if options.against is None else files(options.against)
    found = imports(now)
    contributing = (ROOT / "CONTRIBUTING.md").read_text()
    rising, around = upward(found, order(contributing)), circles(found)
    said = [
        f"{what}: {', '.join(each) if each else 'none'}."
        for what, each in (("Imports upward", rising), ("Circles", around))
    ]
    command = "python -m benchmarks.structure" + (f" --against {options.against}" if options.against else "")
    print(
        write(
            options.write,
            "Structure",
            command,
            ["\n".join(table(now, before)), " ".join(said), "\n".join(costs(now, contributing))],
        )
    )


if __name__ == "__main__":
    main()
