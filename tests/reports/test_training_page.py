"""The report of one training: what its folder says, before it is done, too."""

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
