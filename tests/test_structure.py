"""The folders: imports run downward in the list of CONTRIBUTING, no two parts need each other, and the list is whole."""

import re
from pathlib import PurePosixPath

from benchmarks import structure

TEXT = (structure.ROOT / "CONTRIBUTING.md").read_text()
NOW = structure.files()


def test_imports_run_downward():
    """No part imports one that the list has above it, and no part needs itself by way of others."""
    found = structure.imports(NOW)
    assert (
        found["mixers"]["maps"] and not structure.upward(found, structure.order(TEXT)) and not structure.circles(found)
    )


def test_the_list_is_whole():
    """Every folder and file of the package stands in the list once, and nothing else does."""
    parts = {structure.part(path) for path in NOW} - {"__init__", "__main__"}
    assert sorted(structure.order(TEXT)) == sorted(parts)


def test_what_runs_upward_is_found():
    """An import of a part that stands higher, also inside a function, and a circle of three parts, are found where they stand."""
    bad = {
        PurePosixPath("a/one.py"): "from dualform.b import x\n",
        PurePosixPath("b/two.py"): "def f():\n    import dualform.c.three\n",
        PurePosixPath("c/three.py"): "from dualform import a\n",
    }
    found = structure.imports(bad)
    assert structure.circles(found) == ["a", "b", "c"]
    assert structure.upward(found, ["a", "b", "c"]) == ["c/three.py:1"]
    assert structure.upward(found, ["c", "b", "a"]) == ["a/one.py:1", "b/two.py:2"]


def test_what_is_printed_stands_beside_its_command():
    """Each file of reports/terminal is of the one command that imports it; what they share knows nothing of any command."""
    there = {path.stem for path in NOW if path.match("reports/terminal/*.py")} - {"__init__"}
    line = re.compile(r"^\s*from dualform\.reports\.terminal import (\w+) as prints$", flags=re.M)
    users = {str(path): set(line.findall(text)) for path, text in NOW.items() if line.search(text)}
    assert users == {f"commands/{name}.py": {name} for name in there} and len(there) >= 8
    shared = NOW[PurePosixPath("reports/terminal/__init__.py")]
    assert re.findall(r"^(?:from|import) (dualform\S*)", shared, flags=re.M) == ["dualform.errors"]
