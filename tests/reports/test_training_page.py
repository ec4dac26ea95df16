"""The report of one training: what its folder says, before it is done, too."""

import json

import pytest

from dualform.errors import FileError
from dualform.reports.training_page import write_training_page
from tests.reports.test_page import HOSTILE
from tests.training.written_runs import accuracies, write_run


def test_the_page_says_what_the_folder_says(tmp_path):
    """Status, scores of every split, sizes, speed, curves, and the recipe."""
    run = write_run(tmp_path / "run", test=accuracies(test=0.75, longer=0.5), seed=7)
    page = write_training_page(run)
    made = page.read_text()
    assert page == run / "report.html" and made.count("<svg") == 1
    for text in (
        "selective-copy: gla, width 8, 2 layers",
        "Seed 7; 40 steps, of which the first 4 warm up.",
        "<strong>Done</strong>",
        "test accuracy: 0.75.",
        "longer accuracy: 0.5.",
        "1,234 parameters; 40 steps in 2 s, 5,000 tokens a second",
        "The weights are those of step 30",
        '<td class="number">0.75</td>',
        "learning_rate = 0.003",
    ):
        assert text in made, text
    write_training_page(run)
    assert page.read_text() == made


def test_a_training_in_progress(tmp_path):
    """Its curves so far and no scores; before its first chunk no curves either."""
    made = write_training_page(write_run(tmp_path / "half", done=False, losses=(2.0,))).read_text()
    assert "<strong>Step 10 of 40, held-out loss 2</strong>" in made and "<svg" in made and "Scores" not in made
    made = write_training_page(write_run(tmp_path / "none", done=False, losses=())).read_text()
    assert "<strong>Not begun</strong>" in made and "<svg" not in made


def test_one_that_was_stopped(tmp_path):
    """It is said, and why."""
    made = write_training_page(write_run(tmp_path / "run", status="stopped")).read_text()
    assert "<strong>Stopped</strong>" in made and "It no longer got better, and was stopped." in made


def test_nothing_in_it_is_markup(tmp_path):
    """Whatever the folder says stays text."""
    run = write_run(tmp_path / "run", data=HOSTILE, test={HOSTILE: {"loss": 1.0, HOSTILE: 2.0}})
    made = write_training_page(run).read_text()
    assert "<script" not in made and "<img" not in made and "&lt;script&gt;" in made


def test_what_can_be_done_with_it(tmp_path):
    """The commands that repeat it and compare it; of text that is done, those that write and look at it."""
    run = write_run(tmp_path / "a run", done=False)
    made = write_training_page(run).read_text()
    assert f"dualform train --config &#39;{run}&#39;/run.toml --out OTHER" in made and "dualform generate" not in made
    text = write_run(tmp_path / "text", task="text", data="text.txt", settings={})
    assert f"dualform generate --model {text} --prompt TEXT" in write_training_page(text).read_text()


def test_a_folder_of_no_training_is_said(tmp_path):
    """And nothing is written there."""
    with pytest.raises(FileError, match="has no run.toml: it is no training's folder"):
        write_training_page(tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_it_writes(tmp_path):
    """The prompt, and both texts behind it, with how they were drawn; no control character and no markup of theirs."""
    run = write_run(tmp_path / "run", task="text", data="text.txt", settings={})
    texts = {"prompt": f"To be\x1b {HOSTILE}", "sampled": "or, " * 60, "greedy": "not\n\nto be"}
    numbers = {"seed": 7, "temperature": 0.8, "given": 32, "length": 200}
    (run / "samples.json").write_text(json.dumps(texts | numbers))
    made = write_training_page(run).read_text()
    said = "Behind the first 32 tokens of the test&#39;s text, 200 of its own: drawn at temperature 0.8 with seed 7"
    assert said in made and "[prompt]\nTo be\ufffd &lt;script" in made and "<script" not in made
    assert "[likeliest]\nnot\n\nto be" in made and max(map(len, made.split("[drawn]")[1].split("\n")[1:3])) == 100


def test_what_it_answers(tmp_path):
    """A sequence in rows of 24 tokens, an answer below each that is asked for; a file of something else is said."""
    run = write_run(tmp_path / "run")
    told = {"time": 130, "read": [*range(25), 3], "asked": [-1] * 24 + [10, 4], "answered": [5] * 24 + [10, 3]}
    (run / "samples.json").write_text(json.dumps(told))
    made = write_training_page(run).read_text()
    assert "the last 26 of its 130 tokens: 1 of 2 answers are right." in made
    assert "read     24  3\nasked    10  4\nanswered 10  3" in made and f"asked    {' '.join([' .'] * 24)}\n" in made
    (run / "samples.json").write_text(json.dumps(told | {"asked": [1]}))
    with pytest.raises(FileError, match="samples.json' is not what a training writes .*Delete it"):
        write_training_page(run)
