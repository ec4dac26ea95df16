"""The table of trainings and its page: what is said is what the folders say, and nothing in it is markup."""

import numpy as np
import pytest

from dualform.errors import InputError
from dualform.reports.comparison import cells, sentences
from dualform.reports.comparison_page import comparison_page, write_comparison_page
from dualform.reports.figures import svg
from dualform.reports.training_figures import MOST, curves, over_seeds, plain
from dualform.training.comparison import compare
from dualform.training.outcome import Line, outcomes_in
from tests.reports.test_page import HOSTILE
from tests.training.written_runs import accuracies, write_run


@pytest.fixture
def three(tmp_path):
    """Two seeds of one rate, one of another, one mixer that is not done."""
    write_run(tmp_path / "a0", rate=0.001, validation=0.5, test=accuracies(test=0.75, longer=0.5))
    write_run(tmp_path / "a1", rate=0.001, validation=0.7, seed=1, test=accuracies(test=0.85, longer=0.5), best_step=20)
    write_run(tmp_path / "b", rate=0.002, validation=0.9, test=accuracies(test=0.25, longer=0.1), tokens_per_second=1e4)
    write_run(tmp_path / "c0", mixer="lstm", rate=0.001, done=False, losses=(2.0,))
    write_run(tmp_path / "c1", mixer="lstm", rate=0.001, seed=1, status="stopped", validation=3.0, test={})
    return compare(outcomes_in([tmp_path]))


def test_the_table_says_what_the_folders_say(three):
    """Only what varies, sizes, means with their interval and the worst seed, speed, and how far each is."""
    found = cells(three)
    assert found.head == [
        *("mixers", "learning_rate", "rate", "seeds", "parameters", "steps", "best step", "validation loss"),
        *("test accuracy", "longer accuracy", "tokens/s", "status"),
    ]
    first, second, third = found.rows
    assert first == [
        *("gla", "0.001", "best of 2, edge", "2", "1,234", "40", "20 to 30"),
        # half of the interval: 12.706 * 0.1414 / sqrt(2) = 1.27
        *("0.6 ± 1.3 (0.7)", "0.8 ± 0.64 (0.75)", "0.5 ± 0 (0.5)", "5,000", "2 done"),
    ]
    assert second == ["gla", "0.002", "", "1", "1,234", "40", "30", "0.9", "0.25", "0.1", "10,000", "1 done"]
    assert third[3:8] == ["1 of 2", "1,234", "40", "30", "3"] and third[8:10] == ["", ""]
    assert third[-1] == "1 stopped; seed 0: step 10 of 40, held-out loss 2"
    assert found.numeric == list(range(3, 11)) and all(len(row) == len(found.head) for row in found.rows)


def test_another_score(three):
    """It is shown of every test; one that there is not is refused, naming those that there are."""
    found = cells(three, "loss")
    assert found.head[8:10] == ["test loss", "longer loss"] and found.rows[0][8] == "1 ± 0 (1)"
    with pytest.raises(InputError, match="no test has a score 'acc'; there are loss, accuracy"):
        cells(three, "acc")


def test_nothing_is_done(tmp_path):
    """A table of trainings in progress, of one group that differs from no other: called by its mixers."""
    write_run(tmp_path / "a", done=False, losses=())
    comparison = compare(outcomes_in([tmp_path]))
    found = cells(comparison)
    assert found.rows == [["gla", "0 of 1", "", "", "", "", "", "seed 0: not begun"]]
    assert sentences(comparison) == ["selective-copy: 1 training in 1 group; 1 not done."]
    with pytest.raises(InputError, match="no test has a score 'loss'; no training is done"):
        cells(comparison, "loss")
    assert "<svg" in comparison_page(comparison)


def test_tasks_have_scores_of_their_own(tmp_path):
    """A column for each test of each, in which the other has nothing."""
    write_run(tmp_path / "a")
    write_run(tmp_path / "b", task="adding", settings={}, test={"test": {"loss": 0.125, "absolute": 2.0}})
    found = cells(compare(outcomes_in([tmp_path])))
    assert found.head[-4:-2] == ["test loss", "test accuracy"] and found.head[0] == "task"
    assert [row[-4:-2] for row in found.rows] == [["0.125", ""], ["", "0.5"]]


def test_sentences_say_how_it_is_to_be_read(three):
    """How many, the rate that was chosen and from what, the edge with what to try, and of what the intervals are."""
    said = sentences(three)
    assert said[0] == "selective-copy: 5 trainings in 3 groups; 1 not done."
    assert said[1] == (
        "mixers=gla, learning_rate=0.001: the best by validation loss of the learning rates 0.001, 0.002, and at their edge: "
        "try lower ones."
    )
    assert (
        "in brackets the worst seed" in said[2]
        and said[3] == "Of a single seed there is no interval."
        and len(said) == 4
    )


def test_rates_that_are_not_done_are_said(tmp_path):
    """One that could not be chosen is named."""
    write_run(tmp_path / "a", rate=0.001)
    write_run(tmp_path / "b", rate=0.002)
    write_run(tmp_path / "c", rate=0.004, done=False)
    assert (
        "not all seeds of 0.004 are done, which could not be chosen." in sentences(compare(outcomes_in([tmp_path])))[1]
    )


def test_the_page_has_all_of_it(three, tmp_path):
    """Sentences, table, curves of what was chosen, and every recipe folded; the same bytes for the same trainings."""
    made = comparison_page(three)
    for text in (
        "5 trainings in 3 groups; 1 not done.",
        "0.6 ± 1.3 (0.7)",
        "best of 2, edge",
        "try lower ones",
        "<svg",
    ):
        assert text in made, text
    assert made.count("<details>") == made.count("\nlearning_rate = ") == 5 and "the chosen one is drawn" in made
    path = write_comparison_page(three, tmp_path / "page.html")
    assert path.read_text() == made and comparison_page(three) == made


def test_text_is_escaped(tmp_path):
    """Whatever a recipe or a score is called stays text; pictures have letters of their font alone."""
    scores = {HOSTILE: 1.0, "loss": 2.0, "$x{$": 3.0}
    for i, data in enumerate((HOSTILE, "\u4e2d $x{$ \\")):
        write_run(tmp_path / str(i), data=data, test={HOSTILE: scores})
    made = comparison_page(compare(outcomes_in([tmp_path])))
    assert "<script" not in made and "<img" not in made and "&lt;script&gt;" in made
    assert plain("\u4e2d $x{$ \\") == r"? \$x{\$ /"


def test_a_band_is_of_the_seeds_that_have_come_so_far():
    """Least, mean and most at each step; what is not finite is left out."""
    seeds = [
        [Line(1, 2.0, {"loss": 5.0}), Line(2, 4.0, {"loss": 7.0})],
        [Line(1, 4.0, {}), Line(2, float("nan"), {}), Line(3, 8.0, {})],
    ]
    steps, low, middle, high = over_seeds(seeds, "")
    assert [steps.tolist(), low.tolist(), middle.tolist(), high.tolist()] == [
        [1, 2, 3],
        [2, 4, 8],
        [3, 4, 8],
        [4, 4, 8],
    ]
    steps, _, middle, _ = over_seeds(seeds, "loss")
    assert (steps.tolist(), middle.tolist()) == ([1, 2], [5, 7])


def test_curves_are_drawn_as_they_are(three):
    """A panel for the training loss and for each score, a line for each group, losses on a log scale, the best step marked."""
    drawn = {three.label(group): group.outcomes for group in three.groups}
    figure = curves(drawn, best_step=30)
    train, loss, accuracy = figure.axes
    assert (train.get_yscale(), loss.get_yscale(), accuracy.get_yscale()) == ("log", "log", "linear")
    assert [axes.get_title() for axes in figure.axes] == ["training loss", "held out: loss", "held out: accuracy"]
    assert list(np.asarray(train.lines[0].get_ydata())) == [2.0, 1.0, 0.75, 0.625] and len(train.lines) == 3
    assert list(np.asarray(loss.lines[-1].get_xdata())) == [30, 30] and len(accuracy.lines) == 3
    assert svg(figure) == svg(curves(drawn, best_step=30))


def test_no_more_than_can_be_told_apart(tmp_path):
    """Of many groups the first are drawn, and it is said."""
    for width in range(1, MOST + 3):
        write_run(tmp_path / str(width), model={"mixers": ["gla"], "width": width})
    assert f"Only the first {MOST} of {MOST + 2} groups are." in comparison_page(compare(outcomes_in([tmp_path])))
