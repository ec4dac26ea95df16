"""Every command with every option at its edges: an exit code and a sentence, whatever is given, and nothing lost."""

import dataclasses
import os
import socketserver
import sys
import types
import typing
import webbrowser
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import pytest
from tyro.conf import Positional

from dualform import checkpoints, commands, models
from dualform.checkpoints.tokens import CharacterTokens, notes
from dualform.cli import main
from dualform.commands.options import flag as flag_of
from dualform.errors import DualformError
from tests.tiers import tiers
from tests.training.written_runs import write_run

TEXTS = (
    "",
    " ",
    "[bold]x[/]",
    "[/]",
    "@text [1]",
    "a b",
    "a\nb",
    "\udce9",
    "None",
    "-x",
    "\x1b[2J",
    ":star:",
    "$x{$",
    "\0",
)
TEXTS += ("a" * 3000,)
INTEGERS = ("0", "-1", str(2**31), str(2**63), str(2**70), "1e3", "nan", "", "1.5", "True")
FLOATS = ("nan", "inf", "-inf", "-1", "1e400", "-1e-400", "", "x")
PATHS = ("", ".", "nowhere", "folder", "empty", "latin", "text [1]", "empty/x", "[/]", "new [1]/a b", "\udce9", "x\0y")
PATHS += ("a" * 3000,)
PATHS += ("/dev/full", "/dev/zero", "/proc/self/mem") if sys.platform == "linux" else ()
EDGES = {int: INTEGERS, float: FLOATS, str: TEXTS, Path: PATHS}
RECIPE = """
task = "adding"
settings = {time = 4, batch = 2, held = 2}
model = {mixers = ["min_gru"], width = 2, layers = 1, mlp = "none"}
fit = {steps = 2, chunk = 1, warmup = 1}
"""
PRECIOUS = "years of work"
MODEL = {"model": "model [1].safetensors"}
GAUSSIAN = {"teacher": "gaussian", "d": "2", "n": "3", "m": "3", "steps": "2"}
BASES: dict[str, dict[str, str]] = {
    "attend": {**MODEL, "text": "abc", "out": "precious.html"},
    "compare": {"runs": "trained [1]", "out": "precious.html"},
    "compile": {"program": "majority", "inputs": "2", "length": "5", "report": "precious.html"},
    "construct": {"out": "precious.html"},
    "discover": {**GAUSSIAN, "out": "run [1]"},
    "generate": {**MODEL, "prompt": "abc", "length": "2"},
    "lens": {**MODEL, "text": "abc", "out": "precious.html"},
    "memory": {**MODEL, "tasks": "kv", "length": "64", "examples": "1", "turns": "1", "out": "precious.html"},
    "mixers": {},
    "models": {},
    "probe": {**MODEL, "data": "labelled.jsonl", "kind": "difference"},
    "perplexity": {**MODEL, "file": "text [1]", "length": "8", "passages": "2"},
    "reproduce": {"paper": "gated-rnn", "results": "table1", "backend": "here", "out": "results [1]"},
    "serve": {"path": "nowhere", "browser": "no"},
    "steer": {
        **MODEL,
        "toward": "text [1]",
        "away": "text [1]",
        "prompt": "abc",
        "length": "2",
        "out": "precious.html",
    },
    "sweep": {"file": "sweep [1].toml", "backend": "here", "out": "swept [1]"},
    "tasks": {},
    "train": {"task": "adding", "mixer": "min_gru", "width": "4", "steps": "2", "batch": "2", "out": "run [1]"},
    "view": {"run": "nowhere", "browser": "no"},
}
"""The least that each command takes."""
LEARNT: dict[str, str | None] = {
    "train": "yes",
    "text": None,
    "file": "text [1]",
    "steps": "2",
    "batch": "2",
    "length": "4",
    "out": "lens [1]",
}
"""What trains a lens."""
BESIDE: dict[tuple[str, str], dict[str, str | None]] = {
    ("attend", "figure"): {"policy": "tova"},
    ("attend", "file"): {"text": None},
    ("attend", "place"): {"method": "gradient"},
    ("attend", "states"): {"policy": "tova"},
    ("construct", "d"): {"teacher": "gaussian"},
    ("construct", "layers"): {"form": "lru-out"},
    ("construct", "rank"): {"teacher": "gaussian"},
    ("discover", "teacher"): {"d": None},
    ("discover", "seeds"): {"out": None},
    ("generate", "prompts"): {"prompt": None},
    ("generate", "states"): {"policy": "tova"},
    ("lens", "batch"): LEARNT,
    ("lens", "file"): {"text": None},
    ("lens", "length"): LEARNT,
    ("lens", "rate"): LEARNT,
    ("lens", "seed"): LEARNT,
    ("lens", "steps"): LEARNT,
    ("memory", "states"): {"policy": "tova"},
    ("memory", "file"): {"tasks": "needle"},
    ("models", "archive"): {"action": "get", "names": "g2p-en"},
    ("models", "names"): {"action": "get"},
    ("perplexity", "states"): {"policy": "tova"},
    ("reproduce", "data"): {"paper": "tpgn", "results": None},
    ("reproduce", "workers"): {"backend": "processes"},
    ("steer", "vector"): {"toward": None, "away": None, "out": None},
    ("sweep", "workers"): {"backend": "processes"},
    ("tasks", "archive"): {"task": "get", "names": "digits"},
    ("tasks", "names"): {"task": "get"},
    ("train", "data"): {"task": "text"},
    ("train", "coordinator"): {"hosts": "2", "host": "2"},
    ("train", "host"): {"hosts": "2", "coordinator": "x"},
    ("train", "hosts"): {"host": "0", "coordinator": "x"},
}
"""What stands beside an option so that it is read; None takes something of the base away."""


POSITIONAL = typing.get_args(Positional[int])[1]


class Option(typing.NamedTuple):
    """One field of a command: how it is typed, and the edges of its type."""

    command: str
    name: str
    flag: str | None
    edges: tuple[str, ...]


def options() -> Iterator[Option]:
    """Every option of every command, from the dataclasses."""
    for name in commands.__all__:
        kind = getattr(commands, name)
        hints = typing.get_type_hints(kind, include_extras=True)
        for field in dataclasses.fields(kind):
            hint = hints[field.name]
            positional = POSITIONAL in getattr(hint, "__metadata__", ())
            flag = None if positional else flag_of(field.name)
            yield Option(name.lower(), field.name, flag, edges_of(hint))


def edges_of(hint: Any) -> tuple[str, ...]:
    """The edges of a type; of one of several words, words that are not among them."""
    parts = set(parts_of(hint))
    if bool in parts:
        return ()
    found = next((edges for kind, edges in EDGES.items() if kind in parts), None)
    return ("", "[/]", "None") if found is None else found


def parts_of(hint: Any) -> Iterator[Any]:
    """The types that a hint is made of."""
    inner = [
        each for each in typing.get_args(hint) if isinstance(each, type | types.UnionType) or typing.get_args(each)
    ]
    if not inner:
        yield hint
    for each in inner:
        yield from parts_of(each)


def command_line(command: str, given: Mapping[str, str | None]) -> list[str]:
    """What a person would type for these fields; None for one that is not given."""
    fields = {each.name: each for each in OPTIONS if each.command == command}
    places, flags = [], []
    for name, said in given.items():
        flag = fields[name].flag
        if said is None:
            continue
        if flag is None:
            places.append(said)
        elif said in ("no", "yes") and not fields[name].edges:
            flags.append(flag.replace("--", "--no-", 1) if said == "no" else flag)
        else:
            flags += [flag, said]
    return [command, *places, *flags]


def at(option: Option, value: str) -> list[str]:
    """The command's base, what stands beside the option so that it is read, and the option with this value."""
    beside = BESIDE.get((option.command, option.name), {})
    return command_line(option.command, {**BASES[option.command], **beside, option.name: value})


OPTIONS = tuple(options())
WITH_EDGES = [option for option in OPTIONS if option.edges]
JOBS = (
    "dualform.programs.compile_program",
    "dualform.construct.forms",
    "dualform.construct.build_stack",
    "dualform.experiments.gated_rnn.identification.identify",
    "dualform.experiments.memory.remember",
    "dualform.experiments.reproduction.reproduce",
    "dualform.lenses.contrast",
    "dualform.generation.generate_batch",
    "dualform.training.sweeps.sweep",
    "dualform.generation.surprise",
    "dualform.generation.stream",
    "dualform.commands.sessions.opened",
    "dualform.lenses.lens_training.fit",
    "dualform.reports.attend.model_form",
    "dualform.reports.lens.logit_lens",
    "dualform.training.recipe.fit",
    "dualform.lenses.probes.places.activations",
)
"""Where the work of a command begins, when all that can be told before is told."""


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """A small transformer that reads letters."""
    path = tmp_path_factory.mktemp("models") / "model [1].safetensors"
    sizes: Any = {"vocabulary": 12, "d": 4, "layers": 1, "heads": 1, "kv_heads": 1, "hidden": 4, "context": 64}
    with jax.enable_x64(False):
        made = models.llama(key=jax.random.key(0), **sizes)
        checkpoints.save_weights(path, made, notes(CharacterTokens("abcdefghi \n")))
    return path


@pytest.fixture
def place(tmp_path, model, monkeypatch, unchecked) -> Iterator[Path]:
    """A folder with one of each kind of file, as a user has it: no browser, no network, an empty cache."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DUALFORM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(webbrowser, "open", lambda *given: True)
    monkeypatch.setattr(socketserver.BaseServer, "serve_forever", lambda self, **options: None)
    os.symlink(model, model.name)
    for name, content in (("text [1]", b"abc def ghi\n" * 9), ("empty", b""), ("latin", b"caf\xe9")):
        (tmp_path / name).write_bytes(content)
    lines = (f'{{"text": "{text}", "label": {i % 2}}}\n' for i, text in enumerate(("ab", "bc", "cd", "de")))
    (tmp_path / "labelled.jsonl").write_text("".join(lines))
    (tmp_path / "folder").mkdir()
    (tmp_path / "sweep [1].toml").write_text(f"{RECIPE}[sweep]\nseed = [0, 1]\n")
    write_run(tmp_path / "trained [1]")
    with jax.enable_x64(False):
        yield tmp_path


class Begun(DualformError):
    """All that can be told before the work was told."""


@pytest.fixture
def no_jobs(monkeypatch):
    """Where the work would begin, it is over."""

    def begins(*given: Any, **options: Any) -> None:
        raise Begun("the work begins.")

    for job in JOBS:
        module, _, name = job.rpartition(".")
        __import__(module)
        monkeypatch.setattr(sys.modules[module], name, begins)


def ended(arguments: list[str], capsys) -> tuple[int, str]:
    """The exit code, and all that was said, once it is known to be well said."""
    Path("precious.html").write_text(PRECIOUS)
    ours = True
    try:
        code = main(arguments)
    except SystemExit as stop:  # what is no command at all
        code, ours = stop.code, False
    said = capsys.readouterr()
    told = f"{arguments} ended with {code}: {said.err}"
    assert code in (0, 1, 2), told
    assert "Traceback" not in said.out + said.err and "fault of dualform" not in said.err, told
    assert (code == 0) == (said.err == "") or not ours, told
    if ours and code != 0:
        assert said.err.startswith("dualform: ") and said.err.endswith((".\n", "?\n")) and said.err.count("\n") == 1, (
            told
        )
        assert said.err.removesuffix("\n").isprintable(), told
        assert Path("precious.html").read_text() == PRECIOUS, told
    return code, said.err


PARTS = 3


def parted() -> Iterator[Any]:
    """Each option with each third of its edges, of which every run has one: another from option to option of a kind."""
    count: dict[tuple[str, ...], int] = {}
    for option in WITH_EDGES:
        place = count[option.edges] = count.get(option.edges, -1) + 1
        parts = [edges for part in range(PARTS) if (edges := option.edges[part::PARTS])]
        for part, edges in enumerate(parts):
            marks = () if part == place % len(parts) else pytest.mark.slow
            yield pytest.param(option, edges, marks=marks, id=f"{option.command}-{option.name}-{part}")


PARTED = list(parted())


@pytest.mark.parametrize(("option", "edges"), PARTED)
def test_an_option_at_its_edges_gets_a_sentence(option, edges, place, no_jobs, capsys):
    """Whatever an option is given, the command ends with 0, 1 or 2 before its work begins, or it can begin."""
    for value in edges:
        ended(at(option, value), capsys)


def test_every_edge_is_in_every_run():
    """Of each kind, every edge is asked of some option without the thorough tier; and every option is asked."""
    quick: list[Any] = [each.values for each in PARTED if not each.marks]
    assert [option for option, _ in quick] == WITH_EDGES
    for kind in EDGES.values():
        assert {edge for option, edges in quick for edge in edges if option.edges == kind} == set(kind)


@pytest.mark.slow
@pytest.mark.parametrize("option", WITH_EDGES, ids=lambda option: f"{option.command}-{option.name}")
def test_an_option_at_its_edges_is_worked_with(option, place, capsys):
    """As above, with all of the work."""
    if option.command == "reproduce":
        pytest.skip("a result takes minutes; tests/experiments has one of them")
    for value in option.edges:
        ended(at(option, value), capsys)


@pytest.mark.parametrize("name", tiers(BASES, *(name for name in BASES if name != "mixers")))
def test_the_bases_are_taken(name, place, no_jobs, capsys):
    """Without an edge, each command comes to its work, or does it: the tests above fail at an edge and at nothing else."""
    code, said = ended(command_line(name, BASES[name]), capsys)
    assert code == 0 or "the work begins" in said or (name in ("serve", "view") and "nowhere" in said)
