"""Training on several devices and hosts: the numbers are those of one, and so is what is left when one of them ends."""

import json
import math
import os
import re
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractMesh, PartitionSpec

from dualform.errors import InputError
from dualform.training import Run, fit
from dualform.training.devices import check_batch, mesh_of, of_each_process, parts, simulated
from dualform.training.hosts import check_hosts, lost
from dualform.training.processes import Processes, packed, unpacked
from tests.training.test_engine import BATCHES, CONFIG, draw, error, line, same

ROOT = Path(__file__).resolve().parents[2]
EIGHT: Any = AbstractMesh((8,), ("data",))


@pytest.mark.parametrize("data", [draw, BATCHES], ids=["drawn", "given"])
def test_one_device_that_is_given_is_as_none(tmp_path, data):
    """History, weights and checkpoints, to the bit; and either goes on from the other's."""
    config = replace(CONFIG, accumulate=2)
    plain = fit(line(), data, config, loss=error)
    given = fit(line(), data, config, loss=error, devices=jax.devices()[:1])
    assert given.history == plain.history
    same(given.model, plain.model)

    def stop(progress):
        raise KeyboardInterrupt

    run = Run.create(tmp_path / "run", config)
    assert fit(line(), data, config, loss=error, devices=jax.devices()[:1], run=run, on_chunk=stop).steps == 5
    on = fit(line(), data, config, loss=error, run=run)
    assert on.history == plain.history
    same(on.model, plain.model)


def test_an_optimiser_is_split_by_what_divides(unchecked):
    """Along the first axis that eight divides, and whole where none does."""
    shapes = {(16, 4): ("data",), (6, 16): (None, "data"), (6, 4): (), (): (), (0, 8): (None, "data"), (8,): ("data",)}
    for shape, expected in shapes.items():
        assert parts(jax.ShapeDtypeStruct(shape, float), EIGHT) == PartitionSpec(*expected)


def test_what_devices_cannot_be_is_said(unchecked):
    """None, one twice, a batch that they do not divide, arrays that are cut, numbers that cannot be."""
    with pytest.raises(InputError, match="no devices are given; at least one is needed"):
        fit(line(), draw, CONFIG, loss=error, devices=[])
    with pytest.raises(InputError, match="a device is given twice"):
        mesh_of([jax.devices()[0]] * 2)
    with pytest.raises(InputError, match="a batch of 12 sequences cannot be shared equally among 8 devices. .* of 16,"):
        check_batch((jnp.zeros((12, 3)), jnp.zeros(12)), EIGHT)
    with pytest.raises(InputError, match="a batch of 0 sequences"):
        check_batch((jnp.zeros((16, 3)), jnp.zeros(())), EIGHT)
    with pytest.raises(InputError, match="reshape cuts arrays on one device"):
        fit(line(), draw, CONFIG, loss=error, devices=jax.devices(), reshape=lambda state: state)
    for count, said in ((0, "devices is 0; give a whole number of at least 1"), (257, "a CPU simulates at most 256")):
        with pytest.raises(InputError, match=said):
            simulated(count)
    with pytest.raises(InputError, match="devices is 99, and there are 1. Give no more than there are"):
        of_each_process(99)
    assert of_each_process(None) == jax.devices() and mesh_of(None) is None


@pytest.mark.parametrize(
    ("coordinator", "hosts", "host", "said"),
    [
        ("a:1", 0, 0, "there are 0 hosts; there must be at least 1"),
        ("a:1", 2, 2, "this is host 2 of 2; give its number, from 0 to 1"),
        ("a:1", 2, None, "this is host None of 2"),
        (
            None,
            2,
            0,
            "the coordinator is None; give the address of host 0 with a free port there, such as 10.0.0.1:1234",
        ),
        ("10.0.0.1", 2, 0, "the coordinator is '10.0.0.1'"),
        ("10.0.0.1:0", 2, 0, "the coordinator is"),
        ("10.0.0.1:65536", 2, 0, "the coordinator is"),
        ("a b:1", 2, 0, "the coordinator is"),
    ],
)
def test_what_hosts_cannot_be_is_said(coordinator, hosts, host, said):
    """Their number, that of this one, and the address."""
    with pytest.raises(InputError, match=said):
        check_hosts(coordinator, hosts, host)
    for address in ("10.0.0.1:1234", "a-b.c:65535", "[::1]:80"):
        check_hosts(address, 2, 1)


def test_who_ended_is_read_from_what_the_runtime_says():
    """As jax 0.10.2 says it: a host without heartbeats, one that left before the others, the coordinator's; else nobody."""
    assert lost("UNAVAILABLE: The following tasks are unhealthy (stopped sending heartbeats):\n1\n3\nThe tasks") == [
        1,
        3,
    ]
    assert lost("# of tasks that reached the barrier: 1/2.\nThe first task at the barrier: 1. Some timed out") == [1]
    assert lost("UNAVAILABLE: Failed to send RPC to coordination service. Either the leader task was") == [0]
    assert lost("INTERNAL: something else") == []


def test_what_is_told_arrives_to_the_bit():
    """Numbers, texts, lists and arrays of every kind, in their order."""
    arrays = [
        np.array([-0.0, math.nan, 5e-324]),
        np.arange(6, dtype=np.int32).reshape(2, 3).T,
        np.asarray(jnp.asarray([1.5, -2.0], jnp.bfloat16)),
        np.array(True),
        np.zeros((0, 3), np.float32),
    ]
    told = {"a": arrays[0], "b": [1, 0.1, None, "é", {"c": arrays[1:]}], "d": math.inf}
    back = unpacked(packed(told))
    for array, found in zip(arrays, [back["a"], *back["b"][4]["c"]], strict=True):
        assert (found.dtype, found.shape) == (array.dtype, array.shape) and found.tobytes() == array.tobytes()
    assert back["b"][:4] == told["b"][:4] and back["d"] == math.inf


def test_one_process_asks_nobody():
    """What it makes is what it is given, its errors too, and its flags are all."""
    alone = Processes(mesh_of(jax.devices()))
    made = object()
    assert (alone.several, alone.first, alone.of_first(lambda: made), alone.any(True, False)) == (
        *(False, True, made),
        (True, False),
    )


def start(**told: Any) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.training.apart", json.dumps(told)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen) -> tuple[int, Any, str]:
    """Its exit code, what it printed, and what it said."""
    try:
        out, said = process.communicate(timeout=240)
    finally:
        process.kill()
    lines = [line for line in out.splitlines() if line.startswith("{")]
    return process.returncode, json.loads(lines[-1]) if lines else None, said


def near(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """The losses of every chunk, those on what is held out, and all weights, to 1e-10."""
    for name in ("losses", "held_out", "weights"):
        np.testing.assert_allclose(found[name], expected[name], rtol=0, atol=1e-10)
    assert (found["steps"], found["best_step"]) == (expected["steps"], expected["best_step"])


@pytest.fixture(scope="module")
def alone() -> dict[str, Any]:
    """The training on one device."""
    code, found, said = ended(start())
    assert (code, said) == (0, "") and found["status"] == "done" and found["best_step"] == 20
    assert found["losses"][-1] < found["losses"][0]
    return found


@pytest.mark.slow
def test_eight_devices_give_the_curve_of_one():
    """Data drawn and given, one batch a step and two, dropout, carried states: to 1e-10; each device has its share."""
    code, found, said = ended(start(simulated=8, what="all"))
    assert (code, said) == (0, "")
    runs, layout = found["found"], found["layout"]
    for one, eight in ((0, 2), (1, 3), (4, 6), (5, 7)):
        near(runs[eight], runs[one])
    assert runs[0]["losses"] != runs[4]["losses"] != runs[5]["losses"]
    for one, eight in ((0, 1), (2, 3)):
        near(found["others"][eight], found["others"][one])
    assert any("data" in each for each in runs[2]["inputs"])
    assert layout["model"] == [[[16, 3]] * 2, [[16]] * 2, [[3, 16]] * 2]
    halves = [[[16, 3], [2, 3]], [[16], [2]], [[3, 16], [3, 2]]]
    assert layout["optimiser"] == [[[], []], *halves, *halves, [[], []], [[], []]]
    assert layout["compiled_again"] == 0
    assert {tuple(shape) for shape in layout["whole"].values()} == {(16, 3), (16,), (3, 16), (), (2,)}


@pytest.mark.slow
def test_a_run_goes_on_with_other_devices(tmp_path, alone):
    """Begun on eight, gone on with on two, ended on one: the curve of one."""
    folder = str(tmp_path / "run")
    for told, steps in (
        ({"simulated": 8, "devices": 8, "at": 10}, 10),
        ({"simulated": 2, "devices": 2, "at": 30}, 30),
        ({}, 40),
    ):
        code, found, said = ended(start(folder=folder, **told))
        assert (code, said, found["steps"]) == (0, "", steps)
        assert found["status"] == ("done" if steps == 40 else "interrupted")
    near(found, alone)


def free() -> str:
    """An address with a port that is free."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def together(hosts: int = 2, each: dict[int, dict[str, Any]] | None = None, **told: Any) -> list[tuple[int, Any, str]]:
    """What becomes of processes that train together; `each` is told some of them apart."""
    address = free()
    processes = [
        start(hosts=hosts, host=host, coordinator=address, devices=1, **(told | (each or {}).get(host, {})))
        for host in range(hosts)
    ]
    return [ended(process) for process in processes]


@pytest.mark.slow
@pytest.mark.parametrize("stream", [False, True])
def test_two_processes_give_the_curve_of_one(tmp_path, stream, alone):
    """Each of them, to 1e-10, with data that are drawn and given; only the first writes."""
    expected = ended(start(stream=True))[1] if stream else alone
    found = together(folder=str(tmp_path / "run"), stream=stream)
    for code, each, said in found:
        assert (code, said, each["status"]) == (0, "", "done")
        near(each, expected)
    assert found[0][1]["weights"] == found[1][1]["weights"]
    assert [line["step"] for line in Run.open(tmp_path / "run").metrics("train")] == [10, 20, 30, 40]
    assert not (tmp_path / "run" / "none").exists()


@pytest.mark.slow
@pytest.mark.parametrize("lost", [0, 1])
def test_a_process_that_dies_ends_the_other_with_its_name(tmp_path, lost, alone):
    """Killed after 20 steps; the other says which it was, and the run goes on alone to the same curve."""
    folder = str(tmp_path / "run")
    found = together(folder=folder, each={lost: {"at": 20, "what": "kill"}})
    assert found[lost][0] == -9
    code, _, said = found[1 - lost]
    assert code == 1
    name = re.escape(socket.gethostname())
    assert re.fullmatch(
        rf"dualform: host {lost} \({name}\) has ended, or cannot be reached, and so host {1 - lost} \({name}\) ends, too. Run "
        r"the same command again: it goes on from the last checkpoint, on fewer hosts as well.\n",
        said,
    )
    assert Run.open(folder).checkpoints("train").steps()[0] in (10, 20)
    code, on, said = ended(start(folder=folder))
    assert (code, said) == (0, "")
    near(on, alone)


@pytest.mark.slow
def test_processes_end_together(tmp_path, alone):
    """SIGTERM at one ends both after the same chunk, and both go on; a mistake of one ends the other with its name."""
    folder = str(tmp_path / "run")
    found = together(folder=folder, each={1: {"at": 20, "what": "terminate"}})
    assert [(code, each["status"], each["steps"]) for code, each, _ in found] == [(0, "interrupted", 20)] * 2
    found = together(folder=folder, each={1: {"at": 30, "what": "mistake"}})
    assert found[1][0] == 1 and found[1][2] == "dualform: a mistake of this host's\n"
    assert found[0][0] == 1 and found[0][2].startswith("dualform: host 1 (")
    found = together(folder=folder)
    for code, each, said in found:
        assert (code, said, each["status"]) == (0, "", "done")
        near(each, alone)


@pytest.mark.slow
def test_what_the_first_process_finds_wrong_ends_all_with_it(tmp_path, alone):
    """A folder of another run: each says the same sentence, and nothing there changes."""
    folder = str(tmp_path / "run")
    assert ended(start(folder=folder, at=10))[0] == 0
    before = {path: path.read_bytes() for path in Path(folder).rglob("*") if path.is_file() and path.name != ".lock"}
    for code, _, said in together(folder=folder, rate=0.5):
        assert code == 2 and "was made with learning_rate = 0.02, and now it is 0.5" in said
    assert all(path.read_bytes() == content for path, content in before.items())
    assert os.listdir(folder)
