"""`dualform steer`: the same draws unsteered and steered, doses with their costs, vectors that are kept, and what is refused."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import pytest

from dualform import checkpoints, models
from dualform.checkpoints.tokens import CharacterTokens, notes
from dualform.cli import main

LETTERS = "abcdefghi \n"


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    """Two small models of letters, one recurrent and one of softmax attention, and texts for them."""
    folder = tmp_path_factory.mktemp("steer")
    with jax.enable_x64(False):
        recurrent = models.gla(key=jax.random.key(0), vocabulary=len(LETTERS) + 1, d=8, layers=3, heads=2)
        sizes: Any = {"vocabulary": len(LETTERS) + 1, "d": 4, "layers": 1, "heads": 1, "kv_heads": 1, "hidden": 4}
        attends = models.llama(key=jax.random.key(0), **sizes, context=64)
        for name, model in (("gla", recurrent), ("llama", attends)):
            checkpoints.save_weights(folder / f"{name}.safetensors", model, notes(CharacterTokens(LETTERS)))
    for name, text in (
        ("a", "aab\n\nabba\n"),
        ("h", "hhi\nhi\nih\n"),
        ("held", "abc def ghi\n" * 9),
        ("empty", "\n \n"),
    ):
        (folder / name).write_text(text)
    return folder


@pytest.fixture(autouse=True)
def among_them(files, monkeypatch) -> Iterator[None]:
    """In their folder, in float32."""
    monkeypatch.chdir(files)
    with jax.enable_x64(False):
        yield


def said(capsys, *arguments: str) -> dict[str, tuple[str, str]]:
    """By dose: what its line says, and the text under it."""
    assert main(["steer", *arguments]) == 0
    parts = re.split(r"^\[(.*?)\](.*)\n", capsys.readouterr().out, flags=re.M)
    return {dose: (line, text) for dose, line, text in zip(parts[1::3], parts[2::3], parts[3::3], strict=True)}


MADE = ("gla.safetensors", "--toward", "h", "--away", "a")
PROMPT = ("--prompt", "abc", "--length", "12")


def test_texts_and_costs(capsys):
    """Every dose and none, with perplexities; a dose of 0 is not written twice; the same seed writes the same."""
    found = said(capsys, *MADE, *PROMPT, "--times", "0", "400", "--file", "held")
    assert list(found) == ["unsteered", "400 times"]
    assert re.search(r"perplexity \d+\.\d\d \(.* to .*\)$", found["unsteered"][0])
    assert re.search(r"perplexity .*, \+\d+\.\d{3} \(.*\) nats a token$", found["400 times"][0])
    assert found["400 times"][1] != found["unsteered"][1]
    again = said(capsys, *MADE, *PROMPT, "--times", "400")
    assert [text for _, text in again.values()] == [text for _, text in found.values()]
    assert not any(line for line, _ in again.values())
    other = said(capsys, *MADE, *PROMPT, "--times", "400", "--seed", "1")
    assert other["unsteered"][1] != found["unsteered"][1]


@pytest.mark.parametrize("more", [(), ("--state",), ("--layer", "all")], ids=["middle", "state", "all"])
def test_a_vector_is_kept(more, capsys):
    """What --out wrote and --vector reads steers as when it was made; without a prompt it is written alone."""
    assert main(["steer", *MADE, *more, "--out", "v.safetensors"]) == 0
    told = capsys.readouterr().out
    places = {
        (): ["block 2.out"],
        ("--state",): ["block 2.state"],
        ("--layer", "all"): [f"block {i}.out" for i in (1, 2, 3)],
    }
    assert re.findall(r"block \d\.\w+", told) == places[more] and "3 texts less 2" in told and "v.safetensors" in told
    once = ("--once",) if more == ("--state",) else ()
    own = said(capsys, *MADE, *more, *once, *PROMPT)
    kept = said(capsys, "gla.safetensors", "--vector", "v.safetensors", *once, *PROMPT)
    assert own == kept and list(own) == ["unsteered", "1.5 times"]


REFUSED = {
    "no texts": (("gla.safetensors", "--toward", "empty", "--away", "a", *PROMPT), "'empty' has no line with a text"),
    "no file": (("gla.safetensors", "--toward", "nowhere", "--away", "a", *PROMPT), "there is no file 'nowhere'"),
    "no layer": (
        (*MADE, *PROMPT, "--layer", "block 4"),
        "there is no layer 'block 4' to steer; there are block 1, block 2",
    ),
    "a cache": (
        ("llama.safetensors", "--toward", "h", "--away", "a", "--state", *PROMPT),
        "the state of block 1 cannot be steered: it keeps keys and values of single tokens",
    ),
    "caches": (
        ("llama.safetensors", "--toward", "h", "--away", "a", "--state", "--layer", "all", *PROMPT),
        "no layer of this model has a state of a fixed size; leave --state out",
    ),
    "no prompt": ((*MADE, "--prompt", ""), "the text is empty; give at least one character"),
    "short text": ((*MADE, *PROMPT, "--file", "one"), "'one' has a single token; nothing of it is foretold"),
    "no vector": (("gla.safetensors", "--vector", "gla.safetensors", *PROMPT), "is no steering vector of this version"),
    "another model": (
        ("llama.safetensors", "--vector", "w.safetensors", *PROMPT),
        "is of another model: of a Language",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(case, capsys):
    """A sentence, and exit code 2."""
    arguments, message = REFUSED[case]
    Path("one").write_text("a")
    if case == "another model":
        assert main(["steer", *MADE, "--out", "w.safetensors"]) == 0
    assert main(["steer", *arguments]) == 2
    assert message in capsys.readouterr().err
