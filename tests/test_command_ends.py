"""How commands end: a reader that goes away, encodings, full disks, faults; options that nothing reads; advice that is there."""

import ast
import contextlib
import dataclasses
import io
import os
import re
import shlex
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from dualform import commands
from dualform.cli import main
from dualform.commands.mixers import Mixers
from dualform.commands.options import flag
from dualform.reading import text_of_file
from dualform.reports.terminal import Terminal

SOURCE = Path(str(sys.modules["dualform"].__file__)).parent


@contextlib.contextmanager
def standard_output(file: Any):
    """The process's standard output for a while."""
    before, sys.stdout = sys.stdout, file
    try:
        yield file
    finally:
        sys.stdout = before
        with contextlib.suppress(OSError, AttributeError):
            file.close()


def unread_pipe() -> io.TextIOWrapper:
    """A pipe whose reader has gone away."""
    reading, writing = os.pipe()
    os.close(reading)
    return open(writing, "w", encoding="utf-8")


@pytest.mark.parametrize("arguments", [["models"], ["--help"], ["construct", "--help"]])
def test_a_reader_may_go_away(arguments, capsys):
    """Nobody reads what is printed: 141, as a shell has it of `yes | head`, and not a word; what is left is forgotten."""
    with standard_output(unread_pipe()) as pipe:
        assert main(arguments) == 141
        pipe.flush()
    assert capsys.readouterr().err == ""


@pytest.mark.skipif(os.name == "nt", reason="pipes of another kind")
def test_the_interpreter_ends_quietly():
    """A process whose reader has gone away, and one whose stdout or stderr was closed before it began, say nothing more."""
    command = [sys.executable, "-m", "dualform", "models"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert (process.stderr.read(), process.wait()) == (b"", 141)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="a shell of another kind")
@pytest.mark.parametrize(
    "shell, code, said",
    [
        ("dualform models >&-", 0, ""),
        ("dualform models get nobody 2>&-", 2, ""),
        ("dualform models get nobody 2>/dev/full", 2, ""),
        ("dualform models >/dev/full", 1, "cannot be read or written: No space left on device."),
        ("PYTHONUNBUFFERED=1 dualform models >/dev/full", 1, "cannot be read or written: No space left on device."),
        ("dualform --help >/dev/full", 1, "cannot be read or written: No space left on device."),
        ("PYTHONIOENCODING=ascii dualform construct", 0, ""),
        ("PYTHONIOENCODING=cp1252 dualform construct", 0, ""),
    ],
)
def test_streams_of_a_shell(shell, code, said):
    """Closed, full and narrow: a code, a sentence or nothing."""
    if "/dev/full" in shell and not Path("/dev/full").exists():
        pytest.skip("no /dev/full")
    script = f'dualform() {{ "{sys.executable}" -m dualform "$@"; }}; {shell}'
    done = subprocess.run(["/bin/sh", "-c", script], capture_output=True, text=True)
    assert done.returncode == code and said in done.stderr and done.stderr.count("\n") == bool(said), done.stderr


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1", "utf-8"])
def test_what_an_encoding_lacks_is_replaced(encoding, monkeypatch):
    """A question mark for it, and a byte of a file's name as it is there; what the user asks of Python by name stays."""
    named = "\u2192 caf\xe9 \udce9"

    def spoken(self) -> int:
        sys.stdout.write(named)
        return 0

    monkeypatch.setattr(Mixers, "__call__", spoken)
    for errors, wanted in (
        (
            "strict",
            {"ascii": b"? caf? \xe9", "utf-8": b"\xe2\x86\x92 caf\xc3\xa9 \xe9"}.get(encoding, b"? caf\xe9 \xe9"),
        ),
        ("ignore", named.encode(encoding, "ignore")),
    ):
        with standard_output(io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors=errors)) as stream:
            assert main(["mixers"]) == 0 and stream.errors == errors
            stream.flush()
            assert stream.buffer.getvalue() == wanted


class Panic(BaseException):
    """As Rust's: no Exception."""


@pytest.mark.parametrize(
    "error, code, said",
    [
        (MemoryError(), 1, "there is not enough memory for this (MemoryError). Ask for less"),
        (
            RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes."),
            1,
            "there is not enough memory for this",
        ),
        (ModuleNotFoundError("No module named 'ray'", name="ray"), 1, "python -m pip install 'dualform[ray]'."),
        (ModuleNotFoundError("No module named 'x'", name="x"), 1, "this needs the package x, which is not installed"),
        (
            OSError(28, "No space left on device"),
            1,
            "what is printed, or a file, cannot be read or written: No space left",
        ),
        (PermissionError(13, "Permission denied", "a [b]"), 2, "'a [b]' cannot be read or written: Permission denied."),
        (KeyboardInterrupt(), 130, "interrupted; "),
        (BrokenPipeError(32, "Broken pipe"), 141, ""),
    ],
)
def test_what_libraries_raise_is_a_sentence(error, code, said, monkeypatch, capsys):
    """Of a cause that is known, its own; on one line, without a traceback."""
    monkeypatch.setattr(Mixers, "__call__", lambda self: raised(error))
    assert main(["mixers"]) == code
    told = capsys.readouterr().err
    assert said in told and told.count("\n") == bool(said) and "fault of dualform" not in told


@pytest.mark.parametrize("error", [ZeroDivisionError("at\x1b[2J\nnight"), RecursionError("too deep"), Panic("in Rust")])
def test_a_fault_of_ours_is_said_and_written_down(error, monkeypatch, capsys, tmp_path):
    """Exit code 1, one sentence that says so, and the traceback in a file that it names."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(Mixers, "__call__", lambda self: raised(error))
    assert main(["mixers"]) == 1
    told = capsys.readouterr().err
    assert told.startswith(f"dualform: this is a fault of dualform, not of yours ({type(error).__name__}: ")
    assert told.count("\n") == 1 and told.removesuffix("\n").isprintable() and "Traceback" not in told
    (written,) = tmp_path.iterdir()
    assert f"Where it happened is in {str(written)!r}" in told and "in raised" in written.read_text()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))
    assert main(["mixers"]) == 1 and "cannot be written down (No such file" in capsys.readouterr().err


def raised(error: BaseException) -> int:
    raise error


def test_names_print_as_they_are(capsys, monkeypatch):
    """Brackets, colons and dollars are no signs, a long path is one line, and nothing in a name moves the cursor."""
    monkeypatch.setenv("COLUMNS", "40")
    name = "runs/[bold]a[/] [0] :star: $x$ " + "b" * 60
    Terminal().paths([Path(name), Path("a\x1b[2Jb")])
    assert capsys.readouterr().out == f"  {name}\n  a\\x1b[2Jb\n"


UNREAD = {
    ("attend", "--text", "a", "--states", "0"): "--states is of a policy; give --policy, such as tova",
    ("attend", "--text", "a", "--policy", "full", "--rerotate"): "--rerotate is of a policy that drops some",
    ("attend", "--text", "a", "--place", "0"): "--place 0 is the token at which another --method explains",
    ("attend", "--text", "a", "--target", "state", "--place", "0"): "--place choose a logit; the target state has none",
    ("compile", "--list", "--run", "1"): "--run is of a program that is compiled; --list compiles none",
    ("construct", "--d", "5"): "--d is of --teacher gaussian; every other has its own",
    ("construct", "--rank", "1", "--d", "4"): "--d and --rank are of --teacher gaussian",
    ("construct", "--layers", "1"): "--layers is of the stacks; a gated RNN is one layer",
    ("construct", "--form", "lstm", "--tolerance", "0"): "--tolerance is of the gated RNNs; a stack has no rank",
    ("construct", "--tolerance", "nan"): "--tolerance nan: give a share of the largest singular value",
    ("discover", "--d", "5"): "--d is of --teacher gaussian; every other has its own",
    ("discover", "--seed", str(2**32)): "the last seed must be below 2^32",
    ("generate", "--prompt", "a", "--states", "0"): "--states is of a policy; give --policy, such as tova",
    ("generate", "--prompt", "a", "--policy", "full", "--prompt-at-once"): "--prompt-at-once is of a policy that drops",
    (
        "generate",
        "--prompt",
        "a",
        "--temperature",
        "0",
        "--seed",
        "1",
        "--top-k",
        "2",
    ): "--seed and --top-k are of draws",
    ("generate", "--prompt", "a", "--stop", ""): "--stop has an empty text; leave it out",
    ("generate", "--prompt", "a", "--seed", "-1"): "the seed is -1; give a whole number from 0 to 2^63 - 1",
    (
        "lens",
        "characters",
        "--text",
        "a",
        "--steps",
        "3",
        "--seed",
        "1",
    ): "--steps and --seed are of a training; give --train",
    (
        "lens",
        "characters",
        "--train",
        "--file",
        "x",
        "--text",
        "a",
    ): "--text is of a reading; a lens is trained on the text",
    ("memory", "--states", "4"): "--states is of a policy that drops some; full keeps all",
    ("memory", "--mode", "requests", "--history", "own"): "--history is of --mode turns; by requests there is none",
    ("memory", "--tasks", "kv", "--file", "x"): "--file is of tasks with sentences in them: variable-tracking, needle",
    ("models", "--archive", "x"): "--archive is of dualform models get NAME",
    ("tasks", "--archive", "x"): "--archive is of dualform tasks get NAME",
    ("train", "adding", "--host", "1"): "--host is of several hosts; give --hosts",
    ("train", "adding", "--together"): "--together is of several seeds; give --seeds",
    ("perplexity", "--file", "x", "--rerotate"): "--rerotate is of a policy that drops some; full keeps all",
    ("reproduce", "--out", "x"): "--out is of a result that is made; name a paper, or all",
    ("reproduce", "table1", "--backend", "here", "--workers", "2"): "--workers is of a --backend with several",
    ("reproduce", "table1", "--workers", "0"): "--workers 0: at least one is needed",
    (
        "steer",
        "m",
        "--vector",
        "v",
        "--layer",
        "block 1",
        "--out",
        "x",
    ): "--layer and --out are of a vector that is made",
    ("steer", "m", "--prompt", "a", "--once"): "--once is of what is remembered; give --state",
    ("steer", "m", "--prompt", "a", "--temperature", "0", "--seed", "1"): "--seed is of draws; at --temperature 0",
    ("steer", "m", "--out", "x", "--length", "5"): "--length is of a text; give --prompt",
    ("steer", "m", "--prompt", "a"): "give --toward FILE and --away FILE, with a text in each line, or --vector FILE",
    ("steer", "m", "--toward", "a", "--away", "b"): "give --prompt TEXT to write from, or --out FILE",
    ("steer", "m", "--prompt", "a", "--times", "1", "inf"): "--times inf: give finite numbers, such as 1.5",
    ("steer", "m", "--prompt", "a", "--length", "0"): "--length 0: give at least 1 token",
    ("sweep", "s.toml", "--backend", "here", "--workers", "2"): "--workers is of a --backend with several",
    ("sweep", "s.toml", "--workers", "0"): "--workers 0: at least one is needed",
}


@pytest.mark.parametrize("arguments", UNREAD, ids=" ".join)
def test_no_option_is_passed_over(arguments, capsys, tmp_path, monkeypatch):
    """What would do nothing beside the other options is refused, before anything is read, and nothing is written."""
    monkeypatch.chdir(tmp_path)
    assert main(list(arguments)) == 2
    assert UNREAD[arguments] in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_every_rule_of_options_has_a_case():
    """Each rule is about fields that there are, and a case above breaks it."""
    for name in commands.__all__:
        kind = getattr(commands, name)
        fields = {field.name for field in dataclasses.fields(kind)}
        for rule in kind.RULES:
            assert set(rule.options) <= fields
            ending = rule.what.split(":")[0].rstrip(".")
            said = [said for line, said in UNREAD.items() if line[0] == name.lower()]
            assert any(re.sub(r"^.*? (is|are) ", "", each)[:15] in ending for each in said), (name, rule.what)


def flags_of(*names: str) -> set[str]:
    """All options of some commands, as they are typed."""
    fields = {field.name for name in names for field in dataclasses.fields(getattr(commands, name))}
    negated = {flag(name).replace("--", "--no-", 1) for name in fields}
    return {flag(name) for name in fields} | negated | {"--help", "--version"}


OTHERS = {"download.py": "pip", "espeak.py": "espeak-ng", "gguf_model.py": "gguf-split"}
"""Files that name options of other programs beside their own."""


def test_advice_names_options_that_are_there():
    """Every --word in a text of the source is an option: of the command whose file it is, else of some command."""
    every = flags_of(*commands.__all__)
    of_file = {f"{name.lower()}.py": flags_of(name) for name in commands.__all__} | {
        "sessions.py": flags_of("Generate")
    }
    strange = set()
    for path in SOURCE.rglob("*.py"):
        there = of_file.get(path.name, every) if path.parent.name == "commands" else every
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*[a-z]", node.value)) - there
                assert not found or path.name in OTHERS, (path, found)
                strange |= {path.name} if found else set()
    assert strange == set(OTHERS)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_a_text_may_come_through_a_pipe(tmp_path):
    """It is opened once: what it holds is not lost in trying."""
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=lambda: (tmp_path / "pipe").write_text("abc"), daemon=True)
    writer.start()
    assert text_of_file(tmp_path / "pipe") == "abc"
    writer.join()


def lines_of_the_pages() -> list[str]:
    """Every line of the README and the pages that is a command of ours."""
    root = Path(__file__).parents[1]
    pages = [root / "README.md", *sorted((root / "docs").rglob("*.md"))]
    return [line for page in pages for line in re.findall(r"^dualform (.*)$", page.read_text("utf-8"), flags=re.M)]


def test_commands_of_the_pages_are_taken(monkeypatch, capsys):
    """What the pages tell to type is understood, and no option of it is passed over."""
    for name in commands.__all__:
        monkeypatch.setattr(getattr(commands, name), "__call__", lambda self: self.check_options() or 0)
    lines = lines_of_the_pages()
    assert len(lines) >= 20
    for line in lines:
        assert main(shlex.split(line, comments=True)) == 0, (line, capsys.readouterr().err)
