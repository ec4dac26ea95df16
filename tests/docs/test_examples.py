"""What the pages and docstrings show is what happens: their Python runs, and their commands and options exist."""

import ast
import contextlib
import doctest
import functools
import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import pytest

from dualform.cli import main

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("", "papers", "programs")
PAGES = [ROOT / "README.md", *(page for each in FOLDERS for page in sorted((ROOT / "docs" / each).glob("*.md")))]
SOURCES = sorted((ROOT / "src" / "dualform").rglob("*.py"))
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", flags=re.M | re.S)


class Block(NamedTuple):
    """One fenced block of a page: its text, and the line on which the text begins."""

    code: str
    line: int


def blocks(page: Path, language: str) -> list[Block]:
    """The fenced blocks of a page in one language, in order."""
    text = page.read_text()
    found = (match for match in FENCE.finditer(text) if match[1] == language)
    return [Block(match[2], text[: match.start(2)].count("\n") + 1) for match in found]


@contextlib.contextmanager
def user_defaults() -> Iterator[None]:
    """JAX as a user has it: float32, NumPy's promotion, no rule on ranks. Examples are read by users, not by the laws."""
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


@functools.cache
def docstring_examples() -> list[doctest.DocTest]:
    """Every docstring with a prompt in it, in a module of its own: an example imports all that it uses."""
    found, parser = [], doctest.DocTestParser()
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                text = ast.get_docstring(node) or ""
                if ">>>" in text:
                    name = f"{path.relative_to(ROOT / 'src')}:{getattr(node, 'name', 'module')}"
                    found.append(parser.get_doctest(text, {}, name, str(path), getattr(node, "lineno", 1)))
    return found


def commands(page: Path) -> list[list[str]]:
    """Every use of the command line in a page's shell blocks, as words: the subcommand first."""
    lines = (line.split("#")[0] for block in blocks(page, "sh") for line in block.code.splitlines())
    return [match[1].split() for line in lines for match in re.finditer(r"(?:^|[\s/])dualform +([^&|;]+)", line)]


@functools.cache
def help_text(*words: str) -> str:
    """What `dualform WORDS --help` prints, in lines wide enough for every sentence."""
    shown = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(shown):
        patch.setenv("COLUMNS", "300")
        patch.setenv("NO_COLOR", "1")
        with contextlib.suppress(SystemExit):
            main([*words, "--help"])
    return shown.getvalue()


QUICK = ["README.md", "index.md", "errors.md"]
"""Pages whose examples run every time; the thorough tier runs all."""


def tiered(items: list, quick: Callable[[Any], bool]) -> list:
    """The items as parameters, those that are not quick for the thorough tier only."""
    return [pytest.param(item, marks=() if quick(item) else pytest.mark.slow) for item in items]


def runnable() -> list:
    """The pages that hold Python."""
    return tiered([p for p in PAGES if blocks(p, "python")], lambda page: page.name in QUICK)


def quick_docstrings() -> list:
    """Every docstring's example; those of few modules run every time."""
    few = ("dual/form.py", "discover/recover.py", "construct/scale.py")
    return tiered(docstring_examples(), lambda example: any(name in example.name for name in few))


@pytest.mark.parametrize("page", runnable(), ids=lambda p: p.name)
def test_python_blocks_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A page's Python blocks run in order, as one program, at JAX's defaults, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": page.stem}
    with user_defaults(), contextlib.redirect_stdout(io.StringIO()):
        for block in blocks(page, "python"):
            padded = "\n" * (block.line - 1) + block.code  # so that a traceback names the page's own line
            exec(compile(padded, str(page), "exec"), namespace)


@pytest.mark.parametrize("example", quick_docstrings(), ids=lambda example: example.name)
def test_docstring_examples_run(example: doctest.DocTest):
    """A docstring's example runs alone, at JAX's defaults, and gives what it shows."""
    report = io.StringIO()
    with user_defaults():
        result = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(example, out=report.write)
    assert result.attempted > 0 and result.failed == 0, report.getvalue()


def test_examples_are_found():
    """The tests above have something to run: examples of both kinds, and commands."""
    assert sum(len(blocks(page, "python")) for page in PAGES) >= 10
    assert len(docstring_examples()) >= 3
    assert sum(len(commands(page)) for page in PAGES) >= 8


@pytest.mark.parametrize("page", [p for p in PAGES if commands(p)], ids=lambda p: p.name)
def test_commands_exist(page: Path):
    """Every subcommand that a page shows is there, with every option that is shown, and its --help works."""
    for subcommand, *words in commands(page):
        assert re.search(rf"\b{subcommand}\b", help_text()), f"dualform has no command {subcommand!r}"
        text = help_text(subcommand)
        for option in (word.split("=")[0] for word in words if word.startswith("--")):
            assert re.search(rf"{re.escape(option)}\b", text), f"dualform {subcommand} has no option {option}"
