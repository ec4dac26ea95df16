"""The protocol of a result: what it reaches, what changes it, and what does not."""

import re

import pytest

from dualform.errors import InputError
from dualform.experiments import protocol as protocols
from dualform.experiments.protocol import changed_since, combined, protocol
from dualform.experiments.results import RESULTS


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
    found = set(protocol(RESULTS["scaling"].function))
    # The job is named as "dualform.experiments.architectures:job" alone.
    assert {"dualform.experiments.scaling", "dualform.experiments.architectures"} <= found
    assert "dualform.experiments.identification" not in found and "dualform.experiments.fig4" not in found
    reached = set(protocol("dualform.experiments.table2:job"))
    assert {"dualform.experiments.regression", "dualform.discover.polynomial"} <= reached
    assert "dualform.discover" not in reached  # what only hands names on says nothing itself
    assert all(name.startswith(protocols.PARTS) for name in reached)


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        ("dualform.experiments.architectures", r"learning_rate: float = 3e-3", "learning_rate: float = 1e-2"),
        ("dualform.experiments.architectures", r"self\.steps // 20", "self.steps // 10"),
        ("dualform.experiments.fig4", r"1000\n", "1001\n"),
        ("dualform.experiments.fig4", r"np\.mean\(best_row", "np.min(best_row"),
        ("dualform.experiments.reproduction", r"ours >= limit", "ours > 0"),
    ],
)
def test_a_change_of_the_protocol_is_seen(monkeypatch, module, old, new):
    """A rate, a schedule, a seed, a mean or a rule that changes is another protocol, and names its module."""
    functions = (RESULTS["fig4"].function,)
    record = {"protocol": {"functions": functions, "modules": protocol(*functions)}}
    assert changed_since(record) == []
    planted(monkeypatch, module, old, new)
    assert changed_since(record) == [module]


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        (
            "dualform.experiments.architectures",
            r'"""Train one network for each seed\.',
            '"""Train a network for every seed.',
        ),
        ("dualform.experiments.architectures", r"# compilation shared", "# in which compilation is shared"),
        ("dualform.experiments.architectures", r"\nclass Training", "\n\n\n# A comment.\nclass Training"),
        ("dualform.experiments.identification", r"0\.1", "0.2"),  # of no experiment that trains no student
    ],
)
def test_what_changes_nothing_is_not_seen(monkeypatch, module, old, new):
    """Docstrings, comments, layout, and code that is not reached leave the protocol as it is."""
    before = protocol(RESULTS["fig4"].function)
    planted(monkeypatch, module, old, new)
    assert protocol(RESULTS["fig4"].function) == before


def test_a_record_without_a_protocol_is_not_current():
    """What does not say what made it cannot be trusted to be of this code."""
    assert changed_since({"name": "fig4"}) == changed_since({"protocol": {"functions": []}}) != []


def test_every_result_has_its_protocol():
    """The verdict's rule is in none of the experiments, and is added to each; no two results have one protocol."""
    digests = [combined(protocol(experiment.function)) for experiment in RESULTS.values()]
    assert len(set(digests)) == len(RESULTS)


def test_an_unknown_module():
    """A function of no module is named."""
    with pytest.raises(InputError, match="no module 'dualform.experiments.fig9' to take a protocol of"):
        protocol("dualform.experiments.fig9:_run")
