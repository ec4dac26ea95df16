"""Killed at any moment, a run goes on from its last good checkpoint and ends with the same numbers, to the bit."""

import dataclasses
import json
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import ml_dtypes
import numpy as np
import pytest

from dualform.described import digest
from dualform.errors import FileError, InputError
from dualform.mixers import GatedRNN
from dualform.training import Checkpoints, FitConfig, Fitted, Run, fit, mean_squared_error, resume
from tests.training.interrupted import CONFIG, SHRINK, train

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ("metrics.jsonl", "result.json", "weights.safetensors", "config.json")


def start(folder: Path, how: str) -> subprocess.Popen:
    """The run in a process of its own."""
    environment = os.environ | {
        "JAX_COMPILATION_CACHE_DIR": str(ROOT / ".cache" / "jax-interrupted"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    return subprocess.Popen(
        [sys.executable, "-m", "tests.training.interrupted", str(folder), how],
        cwd=ROOT,
        env=environment,
        stderr=subprocess.PIPE,
    )


def finish(folder: Path) -> None:
    process = start(folder, "whole")
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said.decode()


def kill(folder: Path, how: str, delay: float = 0.0) -> None:
    """Start the run, and kill it (SIGKILL) `delay` seconds after it says that it is where it should be."""
    marker = folder / "reached"
    marker.unlink(missing_ok=True)
    process = start(folder, how)
    deadline = time.monotonic() + 300
    while not marker.exists():
        assert process.poll() is None or marker.exists(), process.communicate()[1].decode()
        assert time.monotonic() < deadline
        time.sleep(0.002)
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    marker.unlink()


def here(folder: Path) -> Fitted:
    """The run, or what is left of it, in this process."""
    with jax.enable_x64(False):
        return train(folder)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory) -> Path:
    """The folder of the same run, never killed."""
    folder = tmp_path_factory.mktemp("unbroken") / "run"
    here(folder)
    return folder


def assert_same(folder: Path, unbroken: Path) -> None:
    for name in RESULTS:
        assert (folder / name).read_bytes() == (unbroken / name).read_bytes(), name


@pytest.mark.slow
def test_killed_runs_end_the_same(unbroken, tmp_path):
    """kill -9 between chunks and in the middle of saving, units cut away twice: weights, metrics and result are equal."""
    folder, moments = tmp_path / "run", random.Random(0)
    kill(folder, "chunk")
    lines = (folder / "metrics.jsonl").read_text().count("\n")
    assert lines == 2 and Run.open(folder).checkpoints("train").steps() == [10]
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"stage": "train", "st')  # what a kill in the middle of a write leaves
    kill(folder, "save", moments.uniform(0, 0.05))
    kill(folder, "chunk")
    kill(folder, "save", moments.uniform(0, 0.05))
    finish(folder)
    assert_same(folder, unbroken)
    assert not list(folder.rglob("*tmp*"))


def test_units_were_cut(unbroken):
    """The unbroken run is a real test of it: two cuts of two hidden units and one pre-readout unit, and no line doubled."""
    run = Run.open(unbroken)
    arrays = run.checkpoints("train").restore(90).arrays
    shapes = {name: array.shape for name, array in arrays.items()}
    of_w_m_out = [shape for name, shape in shapes.items() if name.endswith(".w_m_out")]  # the weight's and its moments'
    assert of_w_m_out == [(4, 4)] * 3
    assert [line["step"] for line in run.metrics()] == list(range(10, 91, 10)) and set(SHRINK) < set(range(90))
    assert run.checkpoints("train").steps() == [90, 80, 70]


def test_finished_run_is_not_trained_again(unbroken, tmp_path):
    """A stage that is done, and has learnt something, gives its model back at once, and changes nothing on disk."""
    folder = tmp_path / "run"
    shutil.copytree(unbroken, folder)
    fitted = here(folder)
    assert_same(folder, unbroken)
    assert fitted.status == "done" and fitted.steps == CONFIG.steps
    assert fitted.history[-1]["loss"] < fitted.history[0]["loss"]


def flip_bits(step: Path) -> None:
    for path in (step / "state").rglob("*"):
        if path.is_file() and path.stat().st_size:
            data = bytearray(path.read_bytes())
            data[len(data) // 2] ^= 1
            path.write_bytes(bytes(data))


def other_digest(step: Path) -> None:
    path = step / "metadata" / "metadata"
    metadata = json.loads(path.read_text())
    path.write_text(json.dumps(metadata | {"digest": "0" * 64}))


def truncate_all(step: Path) -> None:
    for path in step.rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(step: Path) -> None:
    shutil.rmtree(step)
    step.mkdir()


def sample(key):
    x = jr.normal(key, (4, 5, 2))
    return x, jnp.cumsum(x, axis=1)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A student, a config, a run of it with three checkpoints, and what came of it."""
    config = FitConfig(steps=12, chunk=3, warmup=2, learning_rate=1e-2)
    student = GatedRNN.make(2, key=jr.key(5), n=3, m=2)
    run = Run.create(tmp_path_factory.mktemp("trained") / "run", config)
    return student, config, run, fit(student, sample, config, run=run, save_every=0)


@pytest.fixture
def small(trained, tmp_path):
    """The same, in a copy of the folder."""
    student, config, run, fitted = trained
    shutil.copytree(run.path, tmp_path / "run")
    return student, sample, config, Run.open(tmp_path / "run"), fitted


@pytest.mark.parametrize("damage", [flip_bits, other_digest, truncate_all, empty])
def test_damaged_checkpoint_is_passed_over(small, damage, caplog):
    """Flipped bits, other arrays, truncated files, an empty folder: a warning, the checkpoint before, and the same end."""
    student, sample, config, run, fitted = small
    metrics = (run.path / "metrics.jsonl").read_bytes()
    damage(run.path / "checkpoints" / "train" / "12")
    with caplog.at_level(logging.WARNING):
        found = resume(run, student, config)
    assert found is not None and int(found.state.step) == 9
    assert "the checkpoint of step 12" in caplog.text and "is damaged" in caplog.text and "one before" in caplog.text
    again = fit(student, sample, config, run=run, save_every=0)
    np.testing.assert_array_equal(again.model.w_m_out, fitted.model.w_m_out)
    assert (run.path / "metrics.jsonl").read_bytes() == metrics and again.history == fitted.history


def test_no_checkpoint_is_whole(small):
    """All damaged: one sentence that says so, with the steps."""
    student, _, config, run, _ = small
    for step in (6, 9, 12):
        other_digest(run.path / "checkpoints" / "train" / str(step))
    with pytest.raises(
        FileError, match=r"no checkpoint in .* is whole \(steps 12, 9, 6\). Delete the folder of the run"
    ):
        resume(run, student, config)


def test_lost_metrics_make_a_checkpoint_useless(small, caplog):
    """A checkpoint whose metrics lines are gone is passed over, so that metrics.jsonl never has a gap."""
    student, _, config, run, _ = small
    lines = (run.path / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    (run.path / "metrics.jsonl").write_bytes(b"".join(lines[:3]))
    with caplog.at_level(logging.WARNING):
        found = resume(run, student, config)
    assert found is not None and int(found.state.step) == 9
    assert "lost lines from before the checkpoint of step 12" in caplog.text


def test_no_checkpoint_yet(tmp_path, small):
    """Nothing to resume is None, not an error."""
    student, _, config, _, _ = small
    assert resume(Run.create(tmp_path / "new", config), student, config) is None


def test_other_config_or_model(small):
    """A checkpoint of another config or model is not gone on from."""
    student, _, config, run, _ = small
    with pytest.raises(InputError, match="was made with learning_rate = 0.01, and now it is 0.5"):
        resume(run, student, dataclasses.replace(config, learning_rate=0.5))
    fixed = GatedRNN(
        w_m_in=student.w_m_in,
        w_x_in=student.w_x_in,
        w_m_out=student.w_m_out,
        w_x_out=student.w_x_out,
        readout=student.readout,
        decay=jnp.ones(3),
    )
    with pytest.raises(InputError, match="the checkpoint is of another model: model.given_decay.bits, model.nu"):
        resume(run, fixed, config)
    single = jax.tree_util.tree_map(lambda leaf: leaf.astype(jnp.float32), student)
    with pytest.raises(InputError, match="is float64 with 2 axes there, float32 with 2 here. Is float64 enabled"):
        resume(run, single, config)


def test_two_stages_of_one_run(small):
    """Stages keep their checkpoints and metrics apart, and each goes on by itself."""
    student, sample, config, run, fitted = small
    second = fit(student, sample, config, run=run, stage="again", save_every=0)
    assert second.history == [record | {"stage": "again"} for record in fitted.history]
    assert len(run.metrics()) == 8 and len(run.metrics("again")) == 4
    before = (run.path / "metrics.jsonl").read_bytes()
    assert fit(student, sample, config, run=run).history == fitted.history
    assert (run.path / "metrics.jsonl").read_bytes() == before


def test_interrupt_keeps_a_checkpoint(small, tmp_path):
    """Ctrl-C, from the keyboard or from the callback: status "interrupted", a checkpoint, and the same end later."""
    student, sample, config, _, fitted = small

    def by_signal(progress):
        if progress.step == 6:
            signal.raise_signal(signal.SIGINT)

    def by_exception(progress):
        if progress.step == 6:
            raise KeyboardInterrupt

    for name, stop in (("signal", by_signal), ("exception", by_exception)):
        run = Run.create(tmp_path / name, config)
        handler = signal.getsignal(signal.SIGINT)
        cut = fit(student, sample, config, run=run, on_chunk=stop, save_every=1e9)
        assert signal.getsignal(signal.SIGINT) is handler
        assert (cut.status, cut.steps, run.checkpoints("train").steps()) == ("interrupted", 6, [6])
        again = fit(student, sample, config, run=run)
        assert again.status == "done" and again.history == fitted.history
        np.testing.assert_array_equal(again.model.readout, fitted.model.readout)


def test_second_interrupt_is_not_deferred(small):
    """Ctrl-C twice within one chunk raises KeyboardInterrupt at once."""
    student, sample, config, _, _ = small

    def twice(progress):
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)

    assert fit(student, sample, config, on_chunk=twice).status == "interrupted"


def test_cadence_changes_no_number(small, tmp_path):
    """Checkpoints after each chunk, or none but the last: the same weights and metrics."""
    student, sample, config, run, fitted = small
    other = Run.create(tmp_path / "rare", config)
    rare = fit(student, sample, config, run=other, save_every=1e9)
    assert other.checkpoints("train").steps() == [12]
    np.testing.assert_array_equal(rare.model.w_x_in, fitted.model.w_x_in)
    assert (other.path / "metrics.jsonl").read_bytes() == (run.path / "metrics.jsonl").read_bytes()


def full_disk(*arguments, **options):
    raise ValueError(
        "RESOURCE_EXHAUSTED: Failed to write 16823 bytes to file 14: No space left on device [os_error_code='28']"
    )


def test_full_disk_found_by_orbax(small, monkeypatch):
    """A disk that runs full while Orbax writes: what to do, and the checkpoint before it is whole."""
    import orbax.checkpoint as ocp

    student, _, config, run, _ = small
    checkpoints = run.checkpoints("train")
    monkeypatch.setattr(ocp.Checkpointer, "save", full_disk)
    with pytest.raises(
        FileError,
        match="no space is left on the disk for the checkpoint of step 15 .*; the checkpoint of step 12 is whole",
    ):
        checkpoints.save(15, {"a": np.zeros(3)}, {})
    monkeypatch.undo()
    found = resume(run, student, config)
    assert found is not None and int(found.state.step) == 12


def test_full_disk_found_before(small, monkeypatch):
    """A disk without room for the arrays is noticed before anything is written."""
    checkpoints = small[3].checkpoints("train")
    usage = shutil.disk_usage(".")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(FileError, match="Free some space, then run the same command again: it goes on from there"):
        checkpoints.save(15, {"a": np.zeros(3)}, {})
    assert checkpoints.steps() == [12, 9, 6]


def test_unwritable_checkpoint(tmp_path):
    """A file where the folder should be: the message names the cause, and that there was no checkpoint before."""
    (tmp_path / "checkpoints").write_text("a file")
    with pytest.raises(
        FileError, match="of step 5 .* cannot be written .*; no checkpoint was taken before. Choose another"
    ):
        Checkpoints(tmp_path / "checkpoints").save(5, {"a": np.zeros(3)}, {})


def test_checkpoint_round_trip(tmp_path):
    """Every dtype and shape comes back as it was, with the metadata; the newest three are kept."""
    arrays = {
        "half": np.arange(6, dtype=ml_dtypes.bfloat16).reshape(2, 3),
        "wide": np.linspace(0, 1, 5),
        "scalar": np.asarray(3, np.int32),
        "key": np.asarray([1, 2**32 - 1], np.uint32),
        "none": np.zeros((0, 4), np.float32),
    }
    checkpoints = Checkpoints(tmp_path / "c")
    for step in range(5):
        checkpoints.save(step, arrays, {"stage": "s", "nested": {"x": [1, None, 0.1]}})
    assert checkpoints.steps() == [4, 3, 2]
    found = Checkpoints(tmp_path / "c").newest()
    assert found is not None and found.metadata == {"stage": "s", "nested": {"x": [1, None, 0.1]}}
    for name, array in arrays.items():
        assert found.arrays[name].dtype == array.dtype and found.arrays[name].shape == array.shape
        np.testing.assert_array_equal(found.arrays[name], array)


def other_sample(key):
    x, y = sample(key)
    return x + 0.1, y


def other_teacher(key):
    x, y = sample(key)
    return x, 1.1 * y


def other_loss(model, x, y):
    return jnp.mean(jnp.abs(jax.vmap(lambda x: model(x)[0])(x) - y))


def same_at_first(model, x, y):
    """The loss of before, until a weight has moved far."""
    return mean_squared_error(model, x, y) + jax.nn.relu(jnp.max(jnp.abs(model.readout)) - 1e3)


def keyed(key):
    """A reshape that closes over a random key."""
    return lambda state: state if key.shape == () else None


def test_a_key_is_told_by_its_data():
    """Functions that close over random keys are told apart by the keys, and one is itself in every process."""
    assert digest(keyed(jr.key(1))) == digest(keyed(jr.key(1))) != digest(keyed(jr.key(2)))


OTHERS = {
    "model": (
        {"model": lambda: GatedRNN.make(2, key=jr.key(5), n=4, m=2)},
        r"is of another model: model.nu was float64 \(3,\), and now it is float64 \(4,\)",
    ),
    "weights": (
        {"model": lambda: GatedRNN.make(2, key=jr.key(6), n=3, m=2)},
        "training began with other weights of the same shapes",
    ),
    "inputs": ({"sample": lambda: other_sample}, "the data that sample draws has other inputs"),
    "targets": ({"sample": lambda: other_teacher}, "other targets, as of another teacher"),
    "loss": ({"loss": lambda: other_loss}, "is of another loss, or scale: the first one was .*, and now it is"),
    "scale": ({"scale": lambda: 2.0}, "is of another loss, or scale"),
    "decayed": (
        {"decayed": lambda: lambda model: jax.tree_util.tree_map(lambda leaf: False, model)},
        "was made by other code of `decayed`",
    ),
    "trainable": (
        {"trainable": lambda: lambda model: jax.tree_util.tree_map(eqx.is_inexact_array, model)},
        "was made by other code of `trainable`",
    ),
    "reshape": ({"reshape": lambda: lambda state: state}, "was made by other code of `reshape`"),
    "a key in reshape": ({"reshape": lambda: keyed(jr.key(1))}, "was made by other code of `reshape`"),
    "code": ({"loss": lambda: same_at_first}, "was made by other code of `loss`, or by what it calls"),
}


@pytest.mark.parametrize("case", OTHERS)
@pytest.mark.parametrize("done", [True, False])
def test_another_run_is_not_gone_on_from(small, case, done):
    """A folder of another model, teacher, data or loss is refused, done or not, naming what differs; nothing on disk changes."""
    student, _, config, run, _ = small
    if not done:
        run.checkpoints("train").discard_after(9)
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file() and path.name != ".lock"}
    change, message = OTHERS[case]
    given: Any = {"model": student, "sample": sample, **{name: make() for name, make in change.items()}}
    with pytest.raises(InputError, match=f"{message}.* Choose another folder for this run, or delete that one"):
        fit(given.pop("model"), given.pop("sample"), config, run=run, **given)
    after = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file() and path.name != ".lock"}
    assert after == before


def test_rounding_is_no_other_run(small, caplog):
    """What another machine computes a little apart goes on; a checkpoint that does not say what it is of does, with a warning."""
    student, _, config, run, fitted = small
    near = jax.tree_util.tree_map(lambda leaf: leaf * (1 + 1e-6), student)
    assert fit(near, sample, config, run=run).history == fitted.history
    for step in (6, 9, 12):
        path = run.path / "checkpoints" / "train" / str(step) / "metadata" / "metadata"
        metadata = json.loads(path.read_text())
        del metadata["user"]["of"]
        path.write_text(json.dumps(metadata))
    with caplog.at_level(logging.WARNING):
        assert fit(student, sample, config, run=run).history == fitted.history
    assert "does not say which model, data and loss it is of" in caplog.text


def test_a_finished_run_is_extended(small, caplog):
    """More steps go on from the last one, by the schedules of all of them, in a folder that then says so."""
    student, _, config, run, fitted = small
    longer = dataclasses.replace(config, steps=18)
    with caplog.at_level(logging.WARNING):
        run = Run.create(run.path, longer)
        found = fit(student, sample, longer, run=run, save_every=0)
    assert "had reached its last step, 12: it goes on to 18" in caplog.text
    assert (found.status, found.steps) == ("done", 18) and found.history[:4] == fitted.history
    assert [line["step"] for line in run.metrics()] == [3, 6, 9, 12, 15, 18]
    assert found.history[4]["learning_rate"] > found.history[5]["learning_rate"] == fitted.history[3]["learning_rate"]
    assert run.config()["config"]["steps"] == 18 and run.config()["extended"] == [12]
    assert fit(student, sample, longer, run=Run.create(run.path, longer)).history == found.history
    state = resume(run, student, longer)
    assert state is not None and int(state.state.step) == 18
    with pytest.raises(InputError, match="was made with steps = 18, and now it is 12"):
        Run.create(run.path, config)


@pytest.mark.parametrize("why", ["unfinished", "result", "another field", "two stages"])
def test_what_is_not_extended(small, why):
    """An unfinished run, one with a result, one with another change, one of several stages: refused as any other config is."""
    student, _, config, run, _ = small
    longer = dataclasses.replace(config, steps=18)
    if why == "unfinished":
        run.checkpoints("train").discard_after(9)
        with pytest.raises(InputError, match="was made with steps = 12, and now it is 18"):
            fit(student, sample, longer, run=run)
    if why == "result":
        run.write_json("result.json", {"loss": 1})
    if why == "another field":
        longer = dataclasses.replace(longer, clip=2.0)
    if why == "two stages":
        (run.path / "checkpoints" / "again").mkdir()
    before = (run.path / "config.json").read_bytes()
    with pytest.raises(InputError, match="was made with (steps = 12, and now it is 18|clip = 1.0, and now it is 2.0)"):
        Run.create(run.path, longer)
    assert (run.path / "config.json").read_bytes() == before


HOLDER = """
import fcntl, os, sys, time
handle = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
fcntl.flock(handle, fcntl.LOCK_EX)
os.ftruncate(handle, 0)  # the number of whoever held it before may be a longer one
os.write(handle, str(os.getpid()).encode())
print("held", flush=True)
time.sleep(600)
"""


def test_two_processes_do_not_train_in_one_folder(small):
    """While another process holds the folder it is refused, and nothing changes; the lock dies with that process."""
    pytest.importorskip("fcntl", reason="the lock of another process is taken as POSIX has it")
    student, _, config, run, fitted = small
    run.checkpoints("train").discard_after(9)
    metrics = (run.path / "metrics.jsonl").read_bytes()
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(run.path / ".lock")], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None and process.stdout.readline() == b"held\n"
        with pytest.raises(
            FileError, match=rf"another process \(number {process.pid}\) is at work in '.*run'. Wait until it is"
        ):
            fit(student, sample, config, run=run)
        assert (run.path / "metrics.jsonl").read_bytes() == metrics
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert fit(student, sample, config, run=run).history == fitted.history
    with run.alone():  # a thread may enter it again
        assert fit(student, sample, config, run=run).steps == 12


def test_two_threads_do_not_train_in_one_folder(small):
    """Nor do two threads of one process."""
    student, _, config, run, _ = small
    said = []

    def other():
        try:
            fit(student, sample, config, run=Run.open(run.path))
        except FileError as error:
            said.append(str(error))

    with run.alone():
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert len(said) == 1 and "another thread is at work in" in said[0]


def test_sigterm_is_as_an_interrupt(small, tmp_path):
    """What a cluster sends before it kills: a checkpoint, the status, and the handler of before."""
    student, sample, config, _, fitted = small
    run = Run.create(tmp_path / "cut", config)

    def stop(progress):
        if progress.step == 6:
            signal.raise_signal(signal.SIGTERM)

    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    cut = fit(student, sample, config, run=run, on_chunk=stop, save_every=1e9)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    assert (cut.status, cut.steps, run.checkpoints("train").steps()) == ("interrupted", 6, [6])
    assert fit(student, sample, config, run=run).history == fitted.history


def test_numbers_of_numpy_are_kept_as_numbers(small, tmp_path, unchecked):
    """A config of NumPy's numbers is the same config, and its checkpoints can be written."""
    student, _, config, _, fitted = small
    numbers: dict[str, Any] = {"steps": np.int64(12), "chunk": np.int32(3), "warmup": np.uint8(2), "seed": np.int64(0)}
    same = FitConfig(**numbers, learning_rate=np.float64(1e-2))
    assert same == config and all(type(value) in (int, float, str, bool) for value in dataclasses.asdict(same).values())
    assert fit(student, sample, same, run=Run.create(tmp_path / "new", same)).history == fitted.history
    with pytest.raises(InputError, match="clip is nan"):
        FitConfig(clip=np.float32("nan"))  # pyright: ignore[reportArgumentType] - refused
