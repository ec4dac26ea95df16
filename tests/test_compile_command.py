"""`dualform compile`: what it prints, writes and refuses."""

import re
from typing import Any

import jax.numpy as jnp
import pytest

from dualform import checkpoints
from dualform.cli import main
from dualform.commands.compile import Compile
from dualform.programs import targets
from dualform.programs.library import library

FAST = ["--inputs", "4", "--length", "9"]
FILE = """
from dualform.programs import Input, counter, larger

x = Input(1)
program = larger(counter(x), counter(1 - x))
"""
LOST = """
import numpy as np
from dualform.programs import Input, Program, relu

x = Input(1)
output = relu(x * 10**9 + 1) - relu(x * 10**9)  # 1, of which float32 sees nothing beside 1e9
program = Program(output, draw=lambda random, time: random.integers(0, 2, (time, 1)).astype(float), discrete=True)
"""


def said(arguments: list[str], capsys) -> str:
    """What a command prints that ends well."""
    assert main(arguments) == 0
    return capsys.readouterr().out


def test_a_program_is_compiled_certified_and_kept(tmp_path, capsys):
    """Sizes, what it gives of some tokens, its certificate in three dtypes; weights that load as a model; a page."""
    out, page = tmp_path / "network.safetensors", tmp_path / "page.html"
    given = ["compile", "majority", *FAST, "--run", "1,0,1,1", "--out", str(out), "--report", str(page)]
    printed = said(given, capsys)
    assert re.search(r"float64 .* 4 .* 9 .* 0\.00e\+00 .* 0%", printed)
    assert all(dtype in printed for dtype in ("float32", "bfloat16")) and "parameters" in printed
    assert re.search(r"3\s+│ 1\s+│ 1\s+│ 1", printed)
    model: Any = checkpoints.load_weights(out)
    assert model(jnp.asarray([[1.0], [0.0], [1.0]], jnp.float32))[0][:, 0].tolist() == [1, 0, 1]
    text = page.read_text()
    assert "majority, compiled" in text and text.count("<svg") >= 2 and "Pass 0: folded" in text


def test_a_file_of_ones_own(tmp_path, capsys):
    """Is compiled as a program of the package is, under the file's name."""
    path = tmp_path / "mine.py"
    path.write_text(FILE)
    assert "mine as linear-rnn" in said(["compile", str(path), "--to", "linear-rnn", *FAST], capsys)


def test_an_automaton(capsys):
    """Its tokens are symbols; exact in every dtype."""
    printed = said(["compile", "automaton:parity", "--to", "delta", *FAST, "--run", "1,1,1"], capsys)
    assert re.search(r"bfloat16 .* 4 .* 9 .* 0%", printed) and "the number of ones is odd" in printed
    assert re.search(r"3\s+│ 1\s+│ 1\s+│ 1", printed)


def test_a_network_that_is_wrong_is_not_saved(tmp_path, capsys):
    """The certificate is printed, what to do is said, the exit code is 1, and nothing is written."""
    out, path = tmp_path / "network.safetensors", tmp_path / "lost.py"
    path.write_text(LOST)
    assert main(["compile", str(path), *FAST, "--out", str(out)]) == 1
    printed = " ".join(capsys.readouterr().out.split())
    assert re.search(
        r"In float32 \d+\.\d+% of outputs are wrong, as the certificate says. It is right in float64", printed
    )
    assert "Nothing was saved to" in printed and not out.exists()


def test_what_there_is(capsys):
    """All programs and all architectures, each with a sentence."""
    printed = said(["compile", "--list"], capsys)
    assert all(name in printed for name in (*library(), *targets()))


def test_the_architectures_of_the_command_are_those_of_the_library():
    """What `--to` offers is what there is."""
    import typing

    hints = typing.get_type_hints(Compile)
    assert set(typing.get_args(hints["to"])) == set(targets())


REFUSED = {
    "no program": ([], "name a program, or a file that defines one"),
    "another name": (["sortt"], r"there is no program 'sortt'; there are .*majority"),
    "no file": (["nowhere.py"], "there is no file nowhere.py"),
    "an option": (["majority", "--options", "length=3"], "majority has no option 'length'"),
    "an automaton": (["automaton:party"], "there is no automaton 'party'; there are parity"),
    "an automaton's option": (["automaton:parity", "--options", "n=3"], "parity has no option n; it has none"),
    "a symbol": (["automaton:parity", "--to", "rnn", "--run", "2"], "2 is no symbol; they are 0 to 1"),
    "an automaton elsewhere": (
        ["automaton:parity", "--to", "hawk"],
        "no automaton is compiled to 'hawk'; there are rnn",
    ),
    "a page of a table": (["automaton:parity", "--report", "x.html"], "an automaton is a table"),
    "no option": (["majority", "--options", "length"], "write KEY=VALUE"),
    "tokens": (["majority", "--run", "1,x"], "write numbers, tokens apart by commas"),
    "wide tokens": (["majority", "--run", "1 2,3"], "token 1 has 2 numbers; the program takes 1"),
    "NaN": (["majority", "--run", "nan"], "give finite numbers"),
    "no inputs": (["majority", "--inputs", "0"], "--inputs 0: give a whole number, at least 1"),
    "a list of one": (["majority", "--list"], "--list lists all programs"),
    "a list with more": (["--list", "--run", "1"], "--run is of a program that is compiled"),
    "digits": (
        ["delayed_copy", "--options", "by=14", "--out", "x.safetensors"],
        r"delays\.py:\d+: .* float32 as gated-linear-rnn rounds by .* Compile it in float64",
    ),
    "no product": (["tok2tok", "--to", "linear-rnn"], r"tok2tok\.py:\d+: a linear RNN has no product of two values"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name, capsys, tmp_path, monkeypatch):
    """A sentence, exit code 2, and nothing on disk."""
    monkeypatch.chdir(tmp_path)
    arguments, sentence = REFUSED[name]
    assert main(["compile", *arguments]) == 2
    error = capsys.readouterr().err
    assert re.search(sentence, error) and error.count("\n") == 1, error
    assert not list(tmp_path.iterdir())
