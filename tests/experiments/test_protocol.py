"""The protocol of a result: what it reaches, what changes it, and what does not."""

import importlib
import re

import pytest

from dualform.errors import InputError
from dualform.experiments import protocol as protocols
from dualform.experiments.gated_rnn.paper import GATED_RNN
from dualform.experiments.papers import PAPERS
from dualform.experiments.protocol import changed_since, combined, protocol


def planted(monkeypatch: pytest.MonkeyPatch, module: str, old: str, new: str) -> None:
    """Let a module's text read as if it had been edited."""
    read = protocols.source

    def edited(name: str) -> str:
        text = read(name)
        if name != module:
            return text
        assert re.search(old, text), old
        return re.sub(old, new, text, count=1)

    monkeypatch.setattr(protocols, "source", edited)


def test_what_is_reached():
    """Names are followed through imports, packages that hand names on, and jobs that are named in text; no further."""
    found = set(protocol(GATED_RNN.results["scaling"].function))
    # The job is named as "dualform.experiments.gated_rnn.architectures:job" alone.
    assert {"dualform.experiments.gated_rnn.scaling", "dualform.experiments.gated_rnn.architectures"} <= found
    assert not {"dualform.experiments.gated_rnn.identification", "dualform.experiments.gated_rnn.fig4"} & found
    reached = set(protocol("dualform.experiments.gated_rnn.table2:job"))
    assert {"dualform.experiments.gated_rnn.regression", "dualform.discover.polynomials"} <= reached
    assert "dualform.discover" not in reached  # what only hands names on says nothing itself
    assert all(name.startswith(protocols.PARTS) for name in reached)


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        ("dualform.experiments.gated_rnn.architectures", r"learning_rate: float = 3e-3", "learning_rate: float = 1e-2"),
        ("dualform.experiments.gated_rnn.architectures", r"self\.steps // 20", "self.steps // 10"),
        ("dualform.experiments.gated_rnn.fig4", r"1000\n", "1001\n"),
        ("dualform.experiments.gated_rnn.fig4", r"np\.mean\(best_row", "np.min(best_row"),
        ("dualform.experiments.reproduction", r"ours >= limit", "ours > 0"),
    ],
)
def test_a_change_of_the_protocol_is_seen(monkeypatch, module, old, new):
    """A rate, a schedule, a seed, a mean or a rule that changes is another protocol, and names its module."""
    functions = (GATED_RNN.results["fig4"].function,)
    record = {"protocol": {"functions": functions, "modules": protocol(*functions)}}
    assert changed_since(record) == []
    planted(monkeypatch, module, old, new)
    assert changed_since(record) == [module]


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        (
            "dualform.experiments.gated_rnn.architectures",
            r'"""Train one network for each seed\.',
            '"""Train a network for every seed.',
        ),
        ("dualform.experiments.gated_rnn.architectures", r"# compilation shared", "# in which compilation is shared"),
        ("dualform.experiments.gated_rnn.architectures", r"\nclass Training", "\n\n\n# A comment.\nclass Training"),
        ("dualform.experiments.gated_rnn.identification", r"0\.1", "0.2"),  # of no experiment that trains no student
    ],
)
def test_what_changes_nothing_is_not_seen(monkeypatch, module, old, new):
    """Docstrings, comments, layout, and code that is not reached leave the protocol as it is."""
    before = protocol(GATED_RNN.results["fig4"].function)
    planted(monkeypatch, module, old, new)
    assert protocol(GATED_RNN.results["fig4"].function) == before


@pytest.fixture
def write(monkeypatch, tmp_path):
    """A function that makes a module of one of two folders, neither of which has an `__init__`, and is followed into."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(protocols, "PARTS", ("before", "after"))

    def written(module: str, text: str) -> None:
        path = tmp_path.joinpath(*module.split(".")).with_suffix(".py")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        importlib.invalidate_caches()

    return written


FIGURE = """
from {folder}.jobs import job
def run():
    from {folder}.jobs import job as again
    return "{folder}.{named}:job", job, again
"""


def test_code_that_is_moved_keeps_its_digests(write):
    """Modules of another folder have other names and the same digests, also where texts and imports name them."""
    for folder in ("before", "after"):
        for name in ("jobs", "other"):
            write(f"{folder}.{name}", "def job(): return 1")
        write(f"{folder}.fig", FIGURE.format(folder=folder, named="jobs"))
    before, after = (protocol(f"{folder}.fig:run") for folder in ("before", "after"))
    assert set(before) == {"before.fig", "before.jobs"}
    assert {name.replace("before", "after"): digest for name, digest in before.items()} == after
    write("after.fig", FIGURE.format(folder="after", named="other"))
    assert protocol("after.fig:run") != after, "a text that names another module is other code"


def test_a_module_is_taken_from_a_folder(write):
    """All of a module that is imported from its folder is reached, also where the folder says nothing itself."""
    write("before.jobs", "def job(): return 1")
    write("before.fig", "from before import jobs\ndef run(): return jobs.job()")
    assert set(protocol("before.fig:run")) == {"before.fig", "before.jobs"}


def test_a_record_without_a_protocol_is_not_current():
    """What does not say what made it cannot be trusted to be of this code."""
    assert changed_since({"name": "fig4"}) == changed_since({"protocol": {"functions": []}}) != []


def test_every_result_has_its_protocol():
    """The verdict's rule is in none of the experiments, and is added to each; no two results have one protocol."""
    results = [experiment for paper in PAPERS.values() for experiment in paper.results.values()]
    assert len({combined(protocol(experiment.function)) for experiment in results}) == len(results)


def test_an_unknown_module():
    """A function of no module is named."""
    with pytest.raises(InputError, match="no module 'dualform.experiments.fig9' to take a protocol of"):
        protocol("dualform.experiments.fig9:_run")
