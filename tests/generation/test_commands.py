"""`dualform generate` and `dualform perplexity`: what a person types, what they see, and what a mistake gets."""

import ast
import re
import signal
import sys
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from dualform import checkpoints, models
from dualform.checkpoints.tokens import CharacterTokens, notes
from dualform.cli import main
from dualform.generation import calls
from dualform.tensor_file import read_tensors
from tests.test_command_ends import standard_output, unread_pipe

LETTERS = "abcdefghi\n"
SIZES: Any = {"d": 8, "layers": 2, "heads": 4, "kv_heads": 2, "hidden": 12, "context": 64}


@pytest.fixture(autouse=True)
def float32():
    """As a user has it."""
    with jax.enable_x64(False):
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small transformer and a small recurrent model that read letters, and a text."""
    folder = tmp_path_factory.mktemp("models")
    with jax.enable_x64(False):
        llama = models.llama(key=jax.random.key(0), vocabulary=11, **SIZES)
        llama = jax.tree.map(lambda a: 20 * a if a.ndim > 1 else a, llama)
        mamba = models.mamba(key=jax.random.key(0), vocabulary=11, d=4, layers=1)
    for name, model in (("llama", llama), ("mamba", mamba)):
        checkpoints.save_weights(folder / f"{name}.safetensors", model, notes(CharacterTokens(LETTERS)))
    (folder / "text").write_text("abcabc defghi\n" * 9)
    return folder


def run(capsys, *arguments):
    """The exit code, and what is printed and complained about."""
    code = main([str(a) for a in arguments])
    said = capsys.readouterr()
    return code, said.out, said.err


def generated(capsys, folder, name, *more):
    code, out, err = run(
        capsys, "generate", "--model", folder / f"{name}.safetensors", "--prompt", "abcab", "--length", 9, *more
    )
    assert (code, err) == (0, "")
    return out.removesuffix("\n")


def test_generate_writes_text(folder, capsys):
    """As many tokens as asked for; streamed or not, the same; bounded with places for all, the same as not bounded."""
    plain = generated(capsys, folder, "llama", "--temperature", 0)
    assert len(plain) == 9 and len(set(plain)) > 1
    assert generated(capsys, folder, "llama", "--temperature", 0, "--no-stream") == plain
    assert generated(capsys, folder, "llama", "--temperature", 0, "--policy", "tova", "--states", 64) == plain
    assert (
        generated(capsys, folder, "llama", "--temperature", 0, "--stop", plain[4:6]) == plain[: plain.index(plain[4:6])]
    )


def test_generate_draws_and_bounds(folder, capsys):
    """A seed gives its text again; a bound, a prompt read at once and a recurrent model give one of that length."""
    options = ("--temperature", 2, "--top-k", 8, "--top-p", 0.95, "--min-p", 0.01)
    draw = lambda seed: generated(capsys, folder, "llama", *options, "--seed", seed)
    assert draw(1) == draw(1) != draw(2)
    bound = ("--policy", "window+1", "--states", 3)
    assert len(generated(capsys, folder, "llama", *bound, "--rerotate", "--prompt-at-once")) == 9
    assert len(generated(capsys, folder, "mamba")) == 9


def test_generate_writes_several_texts(folder, capsys):
    """A batch of one prompt, or the prompts of a file, numbered; the first text is of the seed; log-probabilities sum up."""
    name, sampled = folder / "llama.safetensors", ("--length", 5, "--temperature", 2)
    code, out, _ = run(capsys, "generate", "--model", name, "--prompt", "abcab", "--samples", 3, *sampled)
    nothing, *texts = re.split(r"\[\d\] ", out)
    assert code == 0 and nothing == "" and re.findall(r"\[(\d)\] ", out) == ["1", "2", "3"]
    assert len(set(texts)) > 1 and all(len(text) == 6 for text in texts)
    (folder / "prompts").write_text("abcab\n\nab\n")
    code, out, _ = run(
        capsys, "generate", "--model", name, "--prompts", folder / "prompts", "--length", 5, "--temperature", 0
    )
    alone = [
        run(capsys, "generate", "--model", name, "--prompt", p, "--length", 5, "--temperature", 0)[1]
        for p in ("abcab", "ab")
    ]
    assert code == 0 and out == f"[1] {alone[0]}[2] {alone[1]}"
    code, out, _ = run(
        capsys, "generate", "--model", name, "--prompt", "abcab", "--logprobs", "--length", 5, "--temperature", 0
    )
    rows = re.findall(r" (-?\d+\.\d{4})  ('.*')\n", out)
    assert (
        code == 0
        and out.startswith(alone[0])
        and "".join(ast.literal_eval(said) for _, said in rows) + "\n" == alone[0]
    )
    assert len(rows) == 5 and all(float(worth) <= 0 for worth, _ in rows)
    stop = alone[0][2:4]
    code, out, _ = run(
        *(capsys, "generate", "--model", name, "--prompt", "abcab", "--logprobs", "--length", 5, "--temperature", 0),
        *("--stop", stop),
    )
    text = alone[0][: alone[0].index(stop)]
    said = [ast.literal_eval(each) for each in re.findall(r" -?\d+\.\d{4}  ('.*')\n", out)]
    assert out.startswith(text + "\n") and "".join(said) == text  # a text to stop at ends log-probabilities, too


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "give --prompt TEXT, or --prompts FILE"),
        (("--prompt", "a", "--prompts", "text"), "give --prompt TEXT, or --prompts FILE"),
        (("--prompts", "nowhere"), "there is no file"),
        (("--prompt", "a", "--samples", 0), "--samples 0"),
        (
            ("--prompt", "a", "--samples", 2, "--policy", "tova", "--prompt-at-once"),
            "are for one text; leave out --samples",
        ),
    ],
)
def test_bad_batches(folder, capsys, options, message):
    """What cannot be written at once gets a sentence."""
    code, _, err = run(capsys, "generate", "--model", folder / "llama.safetensors", *options)
    assert code == 2 and message in " ".join(err.split())


def turn(capsys, folder, name, prompt, length, *more):
    return run(
        *(capsys, "generate", "--model", folder / f"{name}.safetensors", "--prompt", prompt, "--length", length),
        *("--temperature", 2, *more),
    )


@pytest.mark.parametrize("name, bound", [("llama", ()), ("llama", ("--policy", "tova", "--states", 4)), ("mamba", ())])
def test_generate_goes_on_from_a_state(folder, capsys, tmp_path, name, bound):
    """Written in two runs, the second without a prompt, it is the text of one; a prompt that follows is read behind it."""
    kept, whole = tmp_path / "kept", tmp_path / "whole"
    code, text, err = turn(capsys, folder, name, "abcab", 9, *bound, "--save-state", whole)
    assert (code, err, len(text)) == (0, "", 10)
    _, first, _ = turn(capsys, folder, name, "abcab", 4, *bound, "--save-state", kept)
    code, second, err = turn(capsys, folder, name, "", 5, "--load-state", kept, "--save-state", kept)
    assert (code, err, first[:-1] + second) == (0, "", text)
    assert kept.read_bytes() == whole.read_bytes()
    _, _, _ = turn(capsys, folder, name, "dd", 3, "--load-state", kept, "--save-state", tmp_path / "more")
    tokens = read_tensors(tmp_path / "more")[0]["tokens"]
    assert len(tokens) == 5 + 9 + 2 + 3 and tokens[14:16].tolist() == [3, 3]
    assert kept.read_bytes() == whole.read_bytes()


def test_mistakes_with_states_get_a_sentence(folder, capsys, tmp_path, unchecked):
    """A state of another model, another policy or none, no place left, a prompt at once: exit code 2, and no file changes."""
    kept = tmp_path / "kept"
    assert turn(capsys, folder, "llama", "abcab", 4, "--policy", "tova", "--states", 4, "--save-state", kept)[0] == 0
    before = kept.read_bytes()
    for name, prompt, more, message in (
        ("mamba", "", (), "this model has no layer of softmax attention"),
        (
            "llama",
            "",
            ("--policy", "h2o"),
            "is of another model: of a LanguageModel with 2 times MultiStateAttention (tova",
        ),
        ("llama", "a", ("--load-state", tmp_path / "nothing"), "there is no file"),
        ("llama", "a", ("--policy", "tova", "--prompt-at-once"), "--prompt-at-once reads a text from its beginning"),
    ):
        code, _, err = turn(capsys, folder, name, prompt, 4, "--load-state", kept, "--save-state", kept, *more)
        assert code == 2 and message in err and err.count("\n") == 1, err
    assert kept.read_bytes() == before
    code, _, err = turn(capsys, folder, "llama", "", 4, "--save-state", kept)
    assert code == 2 and "the text is empty; give at least one character" in err
    assert turn(capsys, folder, "llama", "abcab", 40, "--save-state", kept)[0] == 0
    code, _, err = turn(capsys, folder, "llama", "a" * 12, 9, "--load-state", kept)
    assert code == 2 and "place for 64 tokens; 45 were read, and 12 and 9 are to follow. Give a shorter prompt" in err


def test_perplexity_prints_a_table(folder, capsys):
    """A row for each policy and number of states: with places for all tokens, that of all of them."""
    code, out, _ = run(
        capsys,
        *("perplexity", "--model", folder / "llama.safetensors", "--file", folder / "text", "--passages", 3),
        *("--length", 20, "--policy", "full", "tova", "window+2", "--states", 4, 32),
    )
    rows = [re.split(r"\s{2,}", line.strip()) for line in out.splitlines() if re.match(r"(full|tova|window)", line)]
    assert code == 0 and "3 passages of 20 tokens" in " ".join(out.split())  # a line may break at any word
    assert [row[:2] for row in rows] == [
        *(["full", "all"], ["tova", "4"], ["tova", "32"], ["window+2", "4"], ["window+2", "32"]),
    ]
    another, given, _ = run(
        capsys,
        *("perplexity", "--model", folder / "llama.safetensors", "--file", folder / "text", "--passages", 3),
        *("--length", 20, "--policy", "tova", "full", "window+2", "--states", 4, 32),
    )
    assert (another, given) == (0, out)  # all are held to full, wherever it is named
    value = {(row[0], row[1]): row[2] for row in rows}
    assert value["tova", "32"] == value["window+2", "32"] == value["full", "all"] != value["tova", "4"]
    assert rows[2][4].startswith(("0.000", "-0.000"))


def test_perplexity_of_a_recurrent_model(folder, capsys):
    """It is one row."""
    code, out, _ = run(
        capsys,
        *("perplexity", "--model", folder / "mamba.safetensors", "--file", folder / "text"),
        *("--passages", 2, "--length", 20),
    )
    assert code == 0 and len([line for line in out.splitlines() if line.startswith("full")]) == 1


BAD = {
    "no policy": (("generate", "--prompt", "a", "--states", 0), "--states is of a policy; give --policy, such as tova"),
    "policy": (("generate", "--prompt", "a", "--policy", "best"), "there is no policy 'best'"),
    "no prompt": (("generate", "--prompt", ""), "the text is empty; give at least one character"),
    "length": (("generate", "--prompt", "a", "--length", 0), "--length 0: give at least 1 token"),
    "context": (
        ("generate", "--prompt", "a" * 60, "--length", 9),
        "60 tokens, and 9 are to follow; this model reads 64",
    ),
    "temperature": (("generate", "--prompt", "a", "--length", 9, "--temperature", -1), "temperature is -1.0; give 0"),
    "states": (
        ("perplexity", "--file", "text", "--policy", "tova", "--states", 4, 0),
        "--states 4 0: give whole numbers of at least 1",
    ),
    "text": (("perplexity", "--file", "nothing"), "there is no file 'nothing'. Check the path"),
    "short": (("perplexity", "--file", "text"), "a passage needs 2,048. Give a longer text, or shorter passages"),
}


@pytest.mark.parametrize("case", BAD)
def test_mistakes_get_a_sentence(folder, capsys, monkeypatch, unchecked, case):
    """A wrong option, text or bound: exit code 2 and one sentence."""
    monkeypatch.chdir(folder)
    arguments, message = BAD[case]
    code, _, err = run(capsys, *arguments, "--model", "llama.safetensors")
    assert code == 2 and message in err and err.count("\n") == 1


def test_other_models_predict_no_token(folder, capsys, monkeypatch):
    """A bare layer is no language model."""
    from dualform.mixers import LinearAttention

    monkeypatch.chdir(folder)
    checkpoints.save_weights("layer.safetensors", LinearAttention(*(jnp.eye(2)[None],) * 3))
    code, _, err = run(capsys, "generate", "--model", "layer.safetensors", "--prompt", "a")
    assert code == 2 and "which predicts no next token. Give a language model" in err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_text_is_saved(folder, capsys, tmp_path, monkeypatch, number):
    """Ctrl-C and SIGTERM end at the token in hand, with the state so far, which goes on as if it had never stopped."""
    kept, step, count = tmp_path / "kept", calls._step, []
    _, whole, _ = turn(capsys, folder, "mamba", "abcab", 9, "--save-state", tmp_path / "whole")

    def stopping(*given):
        count.append(0)
        if len(count) == 4:
            signal.raise_signal(number)
        return step(*given)

    monkeypatch.setattr(calls, "_step", stopping)
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    code, first, err = turn(capsys, folder, "mamba", "abcab", 1000, "--save-state", kept)
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before
    monkeypatch.undo()
    assert (
        code == 130 and f"interrupted; what was read and written so far is in '{kept}'. Go on with --load-state" in err
    )
    code, second, _ = turn(capsys, folder, "mamba", "", 5, "--load-state", kept)
    assert code == 0 and first[:-1] + second == whole and len(first) == 5


def test_a_text_that_nobody_reads_any_more_is_saved(folder, capsys, tmp_path):
    """As one that is interrupted: what was written before is in the state, from which it goes on."""
    _, whole, _ = turn(capsys, folder, "mamba", "abcab", 9, "--save-state", tmp_path / "whole")
    with standard_output(unread_pipe()):
        code, _, err = turn(capsys, folder, "mamba", "abcab", 9, "--save-state", tmp_path / "kept")
    assert (code, err) == (141, "")
    written = len(read_tensors(tmp_path / "kept")[0]["tokens"]) - 5
    code, rest, _ = turn(capsys, folder, "mamba", "", 9 - written, "--load-state", tmp_path / "kept")
    assert code == 0 and 1 <= written < 9 and whole[written:] == rest


@pytest.mark.parametrize("command", ["generate", "attend", "figure", "memory", "construct", "reproduce"])
def test_where_nothing_can_be_written_nothing_is_done(folder, capsys, tmp_path, monkeypatch, command):
    """A place in what is no folder is told before a model is loaded or anything is measured; nothing on disk changes."""
    (tmp_path / "file").write_text("years of work")
    place, model = tmp_path / "file" / "deep" / "out.png", folder / "llama.safetensors"
    arguments = {
        "generate": ["generate", "--model", model, "--prompt", "a", "--save-state", place],
        "attend": ["attend", "--model", model, "--text", "abc", "--out", place],
        "figure": [
            "attend",
            "--model",
            model,
            "--text",
            "abc",
            "--policy",
            "tova",
            "--out",
            tmp_path / "a.html",
            "--figure",
            place,
        ],
        "memory": ["memory", "--model", model, "--out", place],
        "construct": ["construct", "--out", place],
        "reproduce": ["reproduce", "table1", "--preset", "quick", "--store", place, "--out", tmp_path / "new"],
    }[command]
    monkeypatch.setattr(sys.modules["dualform.checkpoints.loading"], "load", None)
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "") and "cannot be written: 'file' is no folder. Choose another place" in err
    assert [path.name for path in tmp_path.rglob("*")] == ["file"] and (
        tmp_path / "file"
    ).read_text() == "years of work"


def test_seeds_are_texts_of_their_own(folder, capsys):
    """Seeds that differ beyond 32 bits give other texts; one that no key has gets a sentence."""
    told = [generated(capsys, folder, "mamba", "--seed", seed) for seed in (0, 2**32, 2**33)]
    assert len(set(told)) == 3 and generated(capsys, folder, "mamba", "--seed", 0) == told[0]
    code, _, err = run(capsys, "generate", "--model", folder / "mamba.safetensors", "--prompt", "a", "--seed", 2**70)
    assert code == 2 and "give a whole number from 0 to 2^63 - 1" in err


def test_the_temperature_may_be_the_smallest_float(folder, capsys):
    """As at 0."""
    want = generated(capsys, folder, "mamba", "--temperature", 0)
    assert generated(capsys, folder, "mamba", "--temperature", "5e-324") == want
