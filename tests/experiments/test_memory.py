"""Memory of a shared context: the state that is used again gives what reading anew gives; the table; the command."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dualform import checkpoints, models
from dualform.checkpoints.tokens import ByteTokens, notes
from dualform.cli import main
from dualform.errors import InputError
from dualform.experiments.memory import (
    CHAT,
    PLAIN,
    Score,
    Script,
    Turn,
    answers,
    contender,
    remember,
    rows_of,
    script,
    template_of,
)
from dualform.generation import generate
from dualform.reports.memory import as_markdown, as_table, percent
from dualform.tasks.memory import Example, Question
from tests.tiers import tiers

SIZES: Any = {"d": 8, "layers": 1, "heads": 2, "kv_heads": 1, "hidden": 8, "context": 64}
EXAMPLES = [
    Example(
        "a is 7; b is 9",
        (Question("a?", "a is ", ("7",), "7", "contains"), Question("b?", "b is ", ("9",), "9", "exact")),
    ),
    Example("c is 1", (Question("c?", "c is ", ("1",), "1", "contains"), Question("d?", "", ("2",), "22", "exact"))),
]


def loud(model):
    """Larger weights, so that what is read matters."""
    return jax.tree.map(lambda a: 6 * a if a.ndim > 1 else a, model)


@pytest.fixture(scope="module")
def llama():
    return loud(models.llama(key=jax.random.key(1), vocabulary=256, **SIZES))


SCRIPTS = [script(example, ByteTokens(), PLAIN) for example in EXAMPLES]


def anew(model, before: list[int], length: int) -> list[int]:
    """What follows a document that is read from its beginning."""
    return np.asarray(generate(model, jnp.asarray(before), length, temperature=0)[0]).tolist()


@pytest.mark.slow
@pytest.mark.parametrize("by", tiers(["full", "tova", "window+1"], "tova"))
def test_reuse_equals_reading_anew(llama, by):
    """By turns and by requests, with the right answers or its own in the history, two documents of different lengths."""
    model, kept = contender(llama, by, 6, 64)
    assert kept == (None if by == "full" else 6)
    turns, requests = answers(model, SCRIPTS), answers(model, SCRIPTS, mode="requests")
    own = answers(model, SCRIPTS, history="own")
    for i, one in enumerate(SCRIPTS):
        first, second = one.context + one.asks[0], one.before + one.asks[1]
        known = first + one.answers[0] + one.behind + second
        assert turns[i] == [anew(model, first, 8), anew(model, known, 8)]
        assert requests[i] == [turns[i][0], anew(model, one.context + one.asks[1], 8)]
        assert own[i] == [turns[i][0], anew(model, first + own[i][0] + one.behind + second, 8)]
    assert by != "full" or turns != own


def test_a_recurrent_model_and_an_end():
    """It has no policy; an answer ends before an end, and by its own history nothing of that end is read."""
    model, kept = contender(loud(models.mamba(key=jax.random.key(0), vocabulary=256, d=4, layers=1)), "full", 6, 64)
    assert kept is None
    free = answers(model, SCRIPTS, history="own")
    end = next(token for token in free[0][0] if token != free[0][0][0])
    cut = answers(model, SCRIPTS, history="own", ends=[end])
    assert cut[0][0] == free[0][0][: free[0][0].index(end)] != free[0][0]
    one = SCRIPTS[0]
    again = one.context + one.asks[0] + cut[0][0] + one.behind + one.before + one.asks[1]
    said = anew(model, again, 8)
    assert cut[0][1] == (said[: said.index(end)] if end in said else said)


def test_batches_give_the_same(llama):
    """One by one or together; how many are done is told."""
    model, _ = contender(llama, "tova", 6, 64)
    three, done = [*EXAMPLES, EXAMPLES[0]], []
    found = remember(model, ByteTokens(), three, batch=2, told=done.append)
    assert found == remember(model, ByteTokens(), three, batch=3) and done == [2, 3]
    assert [(each.example, each.turn) for each in found] == [(i, t) for i in range(3) for t in range(2)]
    assert [each.said for each in found[:2]] == [each.said for each in found[4:]]


class Marked:
    """A tokenizer that begins every text with token 1, and has the marks of chats as tokens."""

    size = 300

    def encode(self, text):
        """Bytes and marks."""
        parts = re.split(r"(<\|im_start\|>|<\|im_end\|>)", text)
        marks = {"<|im_start|>": [298], "<|im_end|>": [299]}
        return np.array([1] + [i for part in parts for i in marks.get(part, list(part.encode()))], np.int32)

    def decode(self, ids):
        """Characters."""
        return [chr(i) for i in ids]


def test_the_pieces_of_a_chat():
    """What begins every text stands at the document's beginning alone; the pieces are the chat in order."""
    assert template_of(Marked()) is CHAT and template_of(ByteTokens()) is PLAIN
    one = script(EXAMPLES[0], Marked(), CHAT)
    assert [*one.context[:2], one.before[0], one.behind[0]] == [1, 298, 298, 299]
    assert 1 not in {*one.context[1:], *one.asks[0], *one.before}, "a piece begins as a text does"
    assert bytes(t for t in one.asks[1] if t < 298).decode() == "b?\nassistant\nb is "
    assert one.length == len(one.context) + sum(
        len(a) + len(b) for a, b in zip(one.asks, one.answers, strict=True)
    ) + 2 * (len(one.behind) + len(one.before))
    assert isinstance(one, Script)


def test_wilson():
    """Known intervals (Newcombe 1998, Table I): 81 of 263, 15 of 148, 0 of 20, 1 of 29."""
    known = {(81, 263): (0.2553, 0.3662), (15, 148): (0.0624, 0.1605), (0, 20): (0, 0.1611), (1, 29): (0.0061, 0.1718)}
    for (right, count), (low, high) in known.items():
        found = Score.of([1.0] * right + [0.0] * (count - right))
        assert found.value == right / count and found.examples == count
        assert (found.low, found.high) == pytest.approx((low, high), abs=1e-4)
    assert Score.of([0.5, 0.5]).value == 0.5 and Score.of([1.0]).high == 1


def test_rows_and_tables():
    """A row for each score of a task, with nothing where it is not asked for."""
    found = [
        Turn(i, turn, "ROUGE-L" if turn == 0 else "contains", "", float(i == turn))
        for i in range(2)
        for turn in range(2)
    ]
    first, second = rows_of("mix", "tova", 64, found)
    assert (first.turns[1], second.turns[0]) == (None, None) and first.mean == second.mean == 0.5
    text = as_table([first, second], {"mix": 0.25})
    assert (
        "| mix, ROUGE-L | tova | 64 | 50 (9 to 91) |  | 50 | 2 | 25 |" in text
        and percent(first.turns[0], False) == "50"
    )
    report = as_markdown([first], command=["dualform", "memory"], about="It.", versions={"jax": "1"}, chances={})
    assert "Made by `dualform memory` with jax 1." in report


def test_bad_input_gets_a_sentence(llama, unchecked):
    """An unknown mode, history or policy, a batch of none, a policy for a recurrent model."""
    for call, message in (
        (lambda: answers(llama, SCRIPTS, mode="all"), "mode 'all': give one of turns, requests"),
        (lambda: answers(llama, SCRIPTS, history="all"), "history 'all': give one of true, own"),
        (lambda: remember(llama, ByteTokens(), EXAMPLES, batch=0), "batch is 0; at least 1 example"),
        (lambda: contender(llama, "best", 4, 64), "there is no policy 'best'"),
        (
            lambda: contender(models.mamba(key=jax.random.key(0), vocabulary=5, d=4, layers=1), "tova", 4, 64),
            "policy tova: this model has no layer of softmax attention",
        ),
    ):
        with pytest.raises(InputError, match=message):
            call()


@pytest.fixture(scope="module")
def folder(tmp_path_factory, llama):
    """A small transformer that reads bytes, and a text."""
    folder = tmp_path_factory.mktemp("memory")
    checkpoints.save_weights(
        folder / "llama.safetensors", jax.tree.map(lambda a: a.astype(jnp.float32), llama), notes(ByteTokens())
    )
    (folder / "text").write_text("The wind turned to the north. Nobody had seen the ship again. ")
    return folder


@pytest.mark.slow
def test_the_command_prints_and_writes_a_table(folder, capsys, monkeypatch):
    """A row for each task, score, policy and number of states, with its command in the report."""
    monkeypatch.setattr("sys.argv", ["dualform", "memory", "--seed", "3"])
    with jax.enable_x64(False):
        code = main(
            [
                "memory",
                "--model",
                str(folder / "llama.safetensors"),
                "--tasks",
                "kv",
                "needle",
                "--policy",
                "full",
                "window",
            ]
            + ["--states", "8", "--turns", "2", "--length", "120", "--examples", "2", "--seed", "3", "--items", "2"]
            + ["--file", str(folder / "text"), "--out", str(folder / "new" / "report.md")]
        )
    out, err = capsys.readouterr()
    report = (folder / "new" / "report.md").read_text()
    assert (code, err) == (0, "") and "Made by `dualform memory --seed 3` with python" in report
    rows = [[cell.strip() for cell in line.split("|")[1:4]] for line in report.splitlines() if "contains" in line]
    expected = [["full", "all"], ["window", "8"]]
    assert rows == [[f"{task}, contains", *who] for task in ("kv", "needle") for who in expected]
    assert len([line for line in out.splitlines() if ", contains" in line]) == 4 and "text: text." in out


BAD = {
    "task": (("--tasks", "best"), "there is no memory task 'best'"),
    "policy": (("--policy", "best"), "there is no policy 'best'"),
    "states": (("--policy", "tova", "--states", "0"), "--states 0: give whole numbers of at least 1"),
    "batch": (("--batch", "0"), "--batch 0: at least 1 example"),
    "length": (("--length", "20"), "and there is room for 20. Give it more length"),
    "text": (("--file", "nothing"), "there is no file 'nothing'"),
    "out": (("--out", "text/report"), "'text/report' cannot be written: 'text' is no folder"),
    "folder": (("--out", "."), "'.' is a folder. Give a file"),
}


@pytest.mark.parametrize("case", BAD)
def test_mistakes_get_a_sentence(folder, capsys, monkeypatch, unchecked, case):
    """Exit code 2 and one sentence."""
    monkeypatch.chdir(folder)
    arguments, message = BAD[case]
    with jax.enable_x64(False):
        code = main(["memory", "--model", "llama.safetensors", *arguments])
    _, err = capsys.readouterr()
    assert code == 2 and message in err and err.count("\n") == 1
