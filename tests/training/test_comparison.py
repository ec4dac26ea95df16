"""Trainings side by side: grouped by all but the seed, rates chosen by what is held out, damage said in a sentence."""

import json
import math

import pytest

from dualform.errors import FileError, InputError
from dualform.training.comparison import Mean, compare
from dualform.training.outcome import Outcome, outcomes_in
from tests.training.written_runs import accuracies, write_run


def test_an_outcome_is_what_the_folder_says(tmp_path):
    """Lines, result and recipe; numbers that JSON lacks are in words there."""
    write_run(tmp_path / "a", losses=(2.0, "nan"), validation="inf", seed=3)
    outcome = Outcome.read(tmp_path / "a")
    assert outcome.result is not None and outcome.result.validation["loss"] == math.inf
    assert (outcome.recipe.seed, outcome.result.parameters, outcome.result.best_step) == (3, 1234, 30)
    assert [line.step for line in outcome.lines] == [10, 20] and math.isnan(outcome.lines[1].loss)
    assert outcome.lines[0].held_out == {"loss": 2.0, "accuracy": 0.0} and outcome.status == "done"


def test_how_far_a_training_is(tmp_path):
    """Of one that is not done: its last line, and the loss there; of one without a line, that it has not begun."""
    write_run(tmp_path / "half", done=False, losses=(2.0, 1.25))
    write_run(tmp_path / "none", done=False, losses=())
    assert Outcome.read(tmp_path / "half").status == "step 20 of 40, held-out loss 1.25"
    assert Outcome.read(tmp_path / "none").status == "not begun"


def test_all_trainings_of_a_folder_are_found_once(tmp_path):
    """A run's folder, a sweep's, and one within it that was named, too: each once; nothing below a run is another one."""
    for seed in (1, 0):
        run = write_run(tmp_path / "sweep" / f"seed={seed}" / "run", seed=seed)
        write_run(run / "checkpoints" / "old", seed=9)
        write_run(tmp_path / "sweep" / ".hidden" / f"{seed}", seed=8)
    found = outcomes_in([tmp_path / "sweep" / "seed=1" / "run", tmp_path / "sweep", str(tmp_path)])
    assert [outcome.recipe.seed for outcome in found] == [1, 0]


def test_only_the_seed_groups(tmp_path):
    """Whatever else differs makes another group, and is named; seeds are in their order."""
    write_run(tmp_path / "1", seed=1)
    write_run(tmp_path / "0", seed=0)
    write_run(tmp_path / "2", mixer="lstm", validation=0.25)
    write_run(tmp_path / "3", settings={"time": 7, "tokens": 2}, validation=0.75)
    found = compare(outcomes_in([tmp_path]))
    assert [[each.recipe.seed for each in group.outcomes] for group in found.groups] == [[0], [0, 1], [0]]
    assert set(found.differing) == {"model.mixers", "settings.time"} and not found.choices
    assert [found.label(group) for group in found.groups] == [
        "time=6, mixers=lstm",
        "time=6, mixers=gla",
        "time=7, mixers=gla",
    ]


def test_means_over_seeds(tmp_path):
    """Mean, half of the t interval and the worst: 0.8, 0.9, 1.0 are 0.9 +- 4.3027 * 0.1 / sqrt(3), at the worst 0.8."""
    for seed, accuracy in enumerate((1.0, 0.8, 0.9)):
        write_run(tmp_path / str(seed), seed=seed, validation=accuracy, test=accuracies(test=accuracy))
    (group,) = compare(outcomes_in([tmp_path])).groups
    found = group.test("test", "accuracy")
    assert found is not None and found.half == pytest.approx(4.3027 * 0.1 / 3**0.5, rel=1e-4)
    assert (found.value, found.worst, found.n) == (pytest.approx(0.9), 0.8, 3)
    validation = group.validation()
    assert validation is not None and validation.worst == 1.0  # of a loss the most is the worst
    assert group.test("length 9", "accuracy") is None and group.test("test", "piece") is None
    assert math.isnan(Mean.of("loss", [1.0, math.nan]).worst) and Mean.of("loss", [1.0]).half == math.inf


@pytest.mark.parametrize(
    ("losses", "best", "edge"), [((3, 1, 2), 0.002, ""), ((1, 2, 3), 0.001, "lower"), ((3, 2, 1), 0.004, "higher")]
)
def test_the_rate_is_chosen_by_validation(tmp_path, losses, best, edge):
    """By the mean over seeds of the validation loss, whatever the tests say; the edge of the grid is said."""
    for rate, loss in zip((0.001, 0.002, 0.004), losses, strict=True):
        for seed in (0, 1):
            tests = accuracies(test=loss / 10)
            write_run(tmp_path / f"{rate}-{seed}", rate=rate, seed=seed, validation=loss + seed, test=tests)
    found = compare(outcomes_in([tmp_path]))
    (choice,) = found.choices
    assert (choice.rate, choice.edge, choice.rates, choice.open) == (best, edge, (0.001, 0.002, 0.004), ())
    assert found.chosen() == [choice.group] and found.choice_of(choice.group) is choice
    assert len(found.groups) == 3 and found.groups[0] is choice.group


def test_a_rate_that_is_not_done_is_not_chosen(tmp_path):
    """However good its other seed is; it stays one that was tried, so the one beside it is at no edge."""
    write_run(tmp_path / "a", rate=0.001, validation=0.9)
    write_run(tmp_path / "b", rate=0.002, validation=0.5)
    write_run(tmp_path / "c", rate=0.004, validation=0.1)
    write_run(tmp_path / "d", rate=0.004, seed=1, done=False)
    (choice,) = compare(outcomes_in([tmp_path])).choices
    assert (choice.rate, choice.edge, choice.open) == (0.002, "", (0.004,))


def test_each_family_chooses_for_itself(tmp_path):
    """Rates are compared where nothing else differs; a NaN is never the best; one rate is no choice."""
    write_run(tmp_path / "a", rate=0.001, validation="nan")
    write_run(tmp_path / "b", rate=0.002, validation=0.5)
    write_run(tmp_path / "c", rate=0.001, mixer="lstm", validation=0.5)
    write_run(tmp_path / "d", rate=0.002, mixer="lstm", validation=0.9)
    write_run(tmp_path / "e", rate=0.002, mixer="gru", validation=0.9)
    found = compare(outcomes_in([tmp_path]))
    chosen = {choice.group.told["model.mixers"][0]: choice.rate for choice in found.choices}
    assert chosen == {"gla": 0.002, "lstm": 0.001}
    assert len(found.chosen()) == 3


def test_a_training_counts_once(tmp_path):
    """Two folders of one training are refused: they are no two seeds."""
    write_run(tmp_path / "a")
    write_run(tmp_path / "b")
    with pytest.raises(InputError, match="a' and .*b' are the same training, of seed 0. Leave one out"):
        compare(outcomes_in([tmp_path]))
    with pytest.raises(InputError, match="there is nothing to compare"):
        compare([])


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("run.toml", "task = copy", "run.toml' is no TOML"),
        ("run.toml", 'tsk = "copy"', "run.toml' has a key 'tsk', which is none"),
        ("run.toml", b"\xff", "is no text in UTF-8"),
        ("result.json", "{", "result.json' cannot be read"),
        ("result.json", "3", "result.json' is not what a training writes"),
        ("result.json", "{}", r"result.json' is not what a training writes .*status.*Delete it and train again"),
        ("metrics.jsonl", "3\n", "is not JSON in each line"),
        ("metrics.jsonl", '{"stage": "train", "step": 3}\n', "metrics.jsonl' is not what a training writes .*loss"),
        ("metrics.jsonl", '{"stage": "train", "step": 3, "loss": 1, "held_out": 3}\n', "is not what a training writes"),
    ],
)
def test_damage_is_said(tmp_path, name, content, said):
    """Which file it is, and what to do."""
    run = write_run(tmp_path / "run")
    (run / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises((FileError, InputError), match=said):
        outcomes_in([tmp_path])


@pytest.mark.parametrize("change", [{"parameters": 1.5}, {"seconds": "long"}, {"validation": {}}, {"test": 3}])
def test_a_result_of_another_kind_is_said(tmp_path, change):
    """Each of its numbers is of its kind."""
    run = write_run(tmp_path / "run")
    result = json.loads((run / "result.json").read_text())
    (run / "result.json").write_text(json.dumps(result | change))
    with pytest.raises(FileError, match="is not what a training writes"):
        Outcome.read(run)


def test_folders_without_a_training_are_said(tmp_path):
    """Empty, missing, a file, of another run."""
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    for name, said in (
        ("empty", "holds no training: there is no run.toml in it or below it"),
        ("none", "there is no folder"),
        ("file", "is a file; give the folder"),
        ("x\0y", "cannot be read"),
    ):
        with pytest.raises(FileError, match=said):
            outcomes_in([tmp_path / name])
    with pytest.raises(FileError, match="has no run.toml: it is no training's folder"):
        Outcome.read(tmp_path / "empty")


def test_the_main_score(tmp_path):
    """Accuracy where the tests have it, but of text the loss."""
    (tmp_path / "text.txt").write_text("a")
    write_run(tmp_path / "a")
    write_run(tmp_path / "b", task="text", data="text.txt", settings={})
    write_run(tmp_path / "c", task="adding", settings={}, test={"test": {"loss": 1.0, "absolute": 2.0}})
    scores = {each.recipe.task: each.main_score for each in outcomes_in([tmp_path])}
    assert scores == {"selective-copy": "accuracy", "text": "loss", "adding": "loss"}
