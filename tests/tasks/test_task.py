"""Tasks: what is held out is never trained on, whatever the seeds."""

import dataclasses

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from dualform import tasks
from dualform.errors import FileError, InputError
from dualform.tasks import DrawnTask, registration, scores
from dualform.tasks.task import TEST, TRAIN, VALIDATION, split_of


class Bits(DrawnTask):
    """So few sequences, 2^time of them, that every one is drawn again and again."""

    judge = staticmethod(scores.of_tokens)

    @property
    def vocabulary(self):
        return 2

    def sequence(self, key):
        x = jr.bernoulli(key, shape=(self.time,)).astype(jnp.int32)
        return x, x


def rows_of(batches) -> set[tuple[int, ...]]:
    return {tuple(row) for x, _ in batches for row in np.asarray(x).tolist()}


def test_no_sequence_is_of_two_splits_where_there_are_few_of_them():
    """Of 256 sequences, more than a thousand are drawn for each split, and none is drawn for two."""
    task = Bits(time=8, batch=256, held=1024)
    found = {split: rows_of(task.held_out(split)) for split in ("validation", "test")}
    found["train"] = rows_of(jax.jit(task.sample)(key) for key in jr.split(jr.key(0), 12))
    assert not found["train"] & found["validation"]
    assert not found["train"] & found["test"]
    assert not found["validation"] & found["test"]
    assert len(set.union(*found.values())) == 256  # and every sequence is of one


def test_training_sees_no_held_out_sequence_with_their_own_seed():
    """Keys that training draws from may be those of what is held out."""
    task = Bits(time=20, batch=64)
    for x, _ in task.held_out("validation"):
        assert {int(split_of(row)) for row in x} == {VALIDATION}
    x, _ = task.sample(jr.fold_in(jr.fold_in(jr.key(2**31 - 2), 0), 0))
    assert {int(split_of(row)) for row in x} == {TRAIN}


def test_the_hash_shares_sequences_out_as_it_says():
    """One in 16 for validation, one in 16 for the test, within four standard deviations; of floats as of integers."""
    for rows in (jr.bernoulli(jr.key(0), shape=(4096, 40)), jr.uniform(jr.key(1), (4096, 5, 2))):
        of = np.asarray(jax.vmap(split_of)(rows))
        for split in (VALIDATION, TEST):
            assert abs((of == split).mean() - 1 / 16) < 4 * np.sqrt(15 / 256 / 4096)


def test_held_out_batches_are_the_same_at_every_call():
    """To the bit, and different for each split."""
    task = tasks.SelectiveCopy(time=32, tokens=4, batch=8, held=16)
    first, again, test = (list(task.held_out(split)) for split in ("validation", "validation", "test"))
    assert all((a[0] == b[0]).all() and (a[1] == b[1]).all() for a, b in zip(first, again, strict=True))
    assert not rows_of(first) & rows_of(test)


def test_further_lengths_are_tests_of_that_length():
    """Their sequences are longer than any in training."""
    task = Bits(time=8, lengths=(16, 32), held=64)
    assert task.splits == ("validation", "test", "length 16", "length 32")
    assert [next(iter(task.held_out(split)))[0].shape for split in task.splits[2:]] == [(64, 16), (64, 32)]


def test_too_few_sequences_are_said():
    """Where a split has none, nothing else is given for it."""
    with pytest.raises(InputError, match="no sequence was found for test in 1000 draws"):
        list(Bits(time=1).held_out("test"))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"time": 0}, "time is 0; it must be at least 1"),
        ({"lengths": (4,)}, "a test at length 4 is no longer than training's, 8"),
        ({"batch": 0}, "batch is 0"),
    ],
)
def test_bad_settings_are_said(settings, said):
    """With which value, and what is allowed."""
    with pytest.raises(InputError, match=said):
        Bits(**{"time": 8} | settings)
    with pytest.raises(InputError, match="there is no split 'train'; there are validation, test"):
        list(Bits(time=8).held_out("train"))


def test_settings_are_checked_where_a_task_is_opened():
    """Unknown ones, those of another type, and data that nobody reads."""
    with pytest.raises(InputError, match="SelectiveCopy has no setting 'length'; it has time, batch, held"):
        tasks.SelectiveCopy.open(length=3)
    with pytest.raises(InputError, match="time of SelectiveCopy is '3'; it must be of the kind of its default, 256"):
        tasks.SelectiveCopy.open(time="3")
    with pytest.raises(InputError, match="reads no file"):
        tasks.SelectiveCopy.open("file.txt")
    assert tasks.SelectiveCopy.open(lengths=[512]).lengths == (512,)


def test_selective_copy_asks_for_the_symbols_in_their_order():
    """They stand among blanks, as many as are asked for."""
    task = tasks.SelectiveCopy(time=20, tokens=5, symbols=6, batch=32)
    x, y = task.sample(jr.key(0))
    for row, targets in zip(np.asarray(x), np.asarray(y), strict=True):
        shown = row[:20]
        assert (shown[shown > 0] == targets[20:]).all() and (shown > 0).sum() == 5
        assert (row[20:] == 1).all() and (targets[:20] == -1).all() and row.max() < task.vocabulary
    with pytest.raises(InputError, match="tokens is 5; it must be from 1 to the 4 places"):
        dataclasses.replace(task, time=4)


def test_adding_marks_one_number_in_each_half():
    """And the target is the sum of these two; the mean of it, 1, has a loss of 1/6."""
    task = tasks.Adding(time=11, batch=512)
    x, y = task.sample(jr.key(1))
    x, y = np.asarray(x), np.asarray(y)
    assert (x[:, :5, 1].sum(1) == 1).all() and (x[:, 5:, 1].sum(1) == 1).all()
    assert np.abs((x[..., 0] * x[..., 1]).sum(1) - y[:, 0]).max() < 1e-6
    loss = scores.of_numbers(jnp.ones_like(y), jnp.asarray(y))["loss"].mean
    assert abs(float(loss) - 1 / 6) < 4 * 0.2 / np.sqrt(512)


def test_text_is_cut_into_parts_that_share_nothing(tmp_path):
    """Every token of the last tenth is asked for once, in its part, but for what is less than a window."""
    text = "".join(chr(97 + i % 26) for i in range(2000))
    (tmp_path / "text.txt").write_text(text)
    task = tasks.Text.open(tmp_path / "text.txt", time=16, batch=4)
    assert task.characters == "abcdefghijklmnopqrstuvwxyz" and task.vocabulary == 27
    for split, begin in (("validation", 1800), ("test", 1900)):
        rows = np.concatenate([np.asarray(y).reshape(-1) for _, y in task.held_out(split)])
        assert "".join(task.characters[i] for i in rows) == text[begin + 1 : begin + 1 + len(rows)]
        assert len(rows) == 96
    x, y = task.sample(jr.key(0))
    assert (np.asarray(x)[:, 1:] == np.asarray(y)[:, :-1]).all()
    starts = tasks.Text.open(tmp_path / "text.txt", time=16, batch=4, unit="bytes")
    assert starts.vocabulary == 256 and int(starts.train[0]) == 97
    with pytest.raises(InputError, match="the part validation of this text is 100 tokens; a window of 128"):
        tasks.Text.open(tmp_path / "text.txt", time=128)
    with pytest.raises(InputError, match="give one by --data"):
        tasks.Text.open()
    with pytest.raises(FileError, match="there is no file"):
        tasks.Text.open(tmp_path / "none.txt")


def test_a_task_of_ones_own_is_a_file(tmp_path):
    """Named by its path; a second one in it by its name."""
    source = """
import jax.numpy as jnp
import jax.random as jr
from dualform.tasks import DrawnTask, register, scores

@register("{name}")
class {kind}(DrawnTask):
    judge = staticmethod(scores.of_tokens)
    vocabulary = 4

    def sequence(self, key):
        x = jr.randint(key, (self.time,), 0, 4, jnp.int32)
        return x, x
"""
    place = tmp_path / "mine.py"
    place.write_text(source.format(name="echo-of-mine", kind="Echo"))
    assert registration.named(str(place)).__name__ == "Echo"
    place.write_text(source.format(name="echo-of-mine", kind="Echo") + source.format(name="echo-two", kind="Other"))
    assert registration.named(f"{place}:echo-two").__name__ == "Other"
    for name, said in (
        (str(place), "has several tasks; give one of echo-of-mine, echo-two"),
        (f"{place}:echo", "has no task 'echo'; it has echo-of-mine, echo-two"),
    ):
        with pytest.raises(InputError, match=said):
            registration.named(name)
    place.write_text("1 / 0")
    with pytest.raises(FileError, match="cannot be run: ZeroDivisionError"):
        registration.named(str(place))
    with pytest.raises(InputError, match="there is no task 'none'; there are adding"):
        registration.named("none")


def test_names_of_tasks_are_theirs_alone(unchecked):
    """Another class cannot take one, and a class that is no task has none."""
    with pytest.raises(InputError, match="there is a task 'adding' already"):
        registration.register("adding")(Bits)
    with pytest.raises(InputError, match="no name for a task"):
        registration.register("a b")(Bits)
    with pytest.raises(InputError, match="a task is a class made of"):
        registration.register("number")(int)  # pyright: ignore[reportArgumentType] - no task, on purpose


def test_scores_of_tokens_are_those_of_the_targets_that_are_there(unchecked):
    """By hand: two sequences, three targets, of which two are right."""
    logits = jnp.log(jnp.array([[[0.5, 0.5], [0.25, 0.75]], [[0.9, 0.1], [0.2, 0.8]]]))
    targets = jnp.array([[-1, 1], [1, 1]])
    found = {name: float(score.mean) for name, score in scores.of_tokens(logits, targets).items()}
    assert found["loss"] == pytest.approx(-np.log(0.75 * 0.1 * 0.8) / 3, rel=1e-12)
    assert found["accuracy"] == pytest.approx(2 / 3) and found["sequences"] == 0.5
    with pytest.raises(InputError, match="each token needs a target"):
        scores.of_tokens(logits, targets[:1])


def test_scores_of_notes_are_averaged_over_frames_and_over_pieces():
    """By hand: a piece of one frame and one of two; logits of 0 cost log 2 a note."""
    logits = jnp.zeros((2, 2, 3)).at[1].set(-jnp.inf)
    played = jnp.array([[[0.0, 1.0, 1.0], [-1.0] * 3], [[0.0] * 3, [0.0] * 3]])
    found = {name: float(score.mean) for name, score in scores.of_notes(jnp.maximum(logits, -1e3), played).items()}
    assert found["loss"] == pytest.approx(3 * np.log(2) / 3) and found["piece"] == pytest.approx(3 * np.log(2) / 2)
