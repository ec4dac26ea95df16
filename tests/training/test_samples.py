"""What a trained model writes and answers is what its weights say, and is written once."""

import dataclasses
import json
from typing import Any

import numpy as np
import pytest

from dualform import checkpoints, tasks
from dualform.cli import main
from dualform.errors import FileError
from dualform.models.architecture import Architecture
from dualform.training.config import FitConfig
from dualform.training.recipe import Recipe
from dualform.training.samples import Answers, Texts, read_samples, write_samples

FIT = FitConfig(steps=2, chunk=1, warmup=1)
SMALL = Architecture(("min_gru",), 8, 1, "none")


@pytest.mark.slow
def test_the_text_is_that_of_the_command(tmp_path, capsys):
    """`dualform generate` with its prompt, length and seed says the same, drawn and greedy."""
    (tmp_path / "text.txt").write_text("the cat sat on the mat. " * 100)
    recipe = Recipe("text", str(tmp_path / "text.txt"), {"time": 16, "batch": 2}, SMALL, FIT, seed=3)
    recipe.train(tmp_path / "run")
    write_samples(tmp_path / "run")
    found = read_samples(tmp_path / "run")
    assert isinstance(found, Texts) and (found.seed, found.given, found.length) == (3, 16, 200)
    assert found.prompt == "".join(["the cat sat on the mat. "] * 100)[int(0.95 * 2400) :][:16]
    asked = ["generate", "--model", str(tmp_path / "run"), "--prompt", found.prompt, "--length", "200"]
    for more, said in ((["--seed", "3"], found.sampled), (["--temperature", "0"], found.greedy)):
        assert main([*asked, *more]) == 0
        assert capsys.readouterr().out == f"{said}\n"


@pytest.mark.slow
def test_a_text_within_a_context(tmp_path):
    """A model that reads so many tokens writes no more than fit."""
    (tmp_path / "text.txt").write_text("the cat sat on the mat. " * 100)
    for context, given, length in ((40, 16, 24), (8, 4, 4), (1, 1, 1)):
        run = tmp_path / f"run-{context}"
        model = Architecture(("softmax_attention",), 8, 1, "none", options={"context": context, "heads": 2})
        Recipe("text", str(tmp_path / "text.txt"), {"time": 16, "batch": 2}, model, FIT).train(run)
        write_samples(run)
        found = read_samples(run)
        assert isinstance(found, Texts) and (found.given, found.length) == (given, length)
        assert len(found.greedy) == length


def test_what_is_no_sample(tmp_path):
    """Whatever is wrong with samples.json, it alone is to be deleted, and not the training."""
    for said in (
        '{"prompt": "a',
        "[1]",
        "3",
        '{"prompt": 1}',
        '{"time": 1, "read": [1], "asked": [1], "answered": [1, 2]}',
    ):
        (tmp_path / "samples.json").write_text(said)
        with pytest.raises(FileError, match="samples.json.*Delete it; the same training writes it again"):
            read_samples(tmp_path)


@pytest.mark.slow
def test_the_answers_are_the_models(tmp_path):
    """On the first sequence of the test; a second call changes nothing; a task of vectors has none."""
    settings: dict[str, Any] = {"time": 6, "tokens": 2, "symbols": 3, "batch": 4, "held": 8}
    recipe, run = Recipe("selective-copy", None, settings, SMALL, FIT), tmp_path / "run"
    recipe.train(run)
    write_samples(run)
    found = read_samples(run)
    x, y = next(iter(tasks.SelectiveCopy(**settings).held_out("test")))
    said = np.argmax(checkpoints.load(run).model(x[0])[0], axis=-1)
    read, asked, answered = (tuple(np.asarray(each).tolist()) for each in (x[0], y[0], said))
    assert isinstance(found, Answers) and found == Answers(len(read), read, asked, answered)
    (run / "samples.json").write_text(json.dumps(found._asdict() | {"answered": [9] * len(said)}))
    write_samples(run)
    again = read_samples(run)
    assert isinstance(again, Answers) and set(again.answered) == {9}
    dataclasses.replace(recipe, task="adding", settings={"time": 8, "batch": 4, "held": 8}).train(tmp_path / "adding")
    write_samples(tmp_path / "adding")
    assert read_samples(tmp_path / "adding") is None
