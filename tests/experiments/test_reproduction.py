"""Verdicts, intervals, the registry of results, and experiments that need no training, run whole."""

import json

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from dualform.arrays import count_parameters
from dualform.cli import main
from dualform.errors import InputError
from dualform.experiments import fig3, fig4, in_context, results, table3
from dualform.experiments.architectures import (
    ARCHITECTURES,
    Training,
    make_network,
    train,
    training_from,
)
from dualform.experiments.evidence import PAPER_STEPS, recipe_name
from dualform.experiments.identification import smallest_construction
from dualform.experiments.protocol import changed_since
from dualform.experiments.reproduction import (
    Experiment,
    Findings,
    Workshop,
    as_expected,
    at_least,
    at_most,
    diverged,
    ours_alone,
    rate_interval,
    reproduce,
    results_of,
    verdict_of,
    within,
)
from dualform.experiments.scaling import _needed, _steps_to
from dualform.tasks import Teacher
from dualform.training import Job, Row
from tests.experiments.test_protocol import planted
from tests.tiers import tiers


def test_outcomes():
    """Each rule gives the outcome that it says."""
    assert at_most("a", 1.0, 0.5, 2.0, "").outcome == "better" and at_most("a", 1.0, 1.5, 2.0, "").outcome == "met"
    assert at_most("a", None, 0.5, 2.0, "").outcome == "met" and at_most("a", 1.0, 3.0, 2.0, "").outcome == "differs"
    assert at_most("a", 1.0, float("nan"), 2.0, "").outcome == "differs"
    assert at_least("a", None, 3.0, 2.0, "").outcome == "met" and at_least("a", None, 1.0, 2.0, "").outcome == "differs"
    assert within("a", 1.0, 1.1, 0.2, "").outcome == "met" and within("a", 1.0, 1.3, 0.2, "").outcome == "differs"
    assert within("a", 1.0, float("nan"), 0.2, "").outcome == "differs"
    expected = as_expected("a", 1.0, 1.1, 0.2, "")
    assert (expected.outcome, expected.paper, expected.expected) == ("met", None, 1.0)
    assert as_expected("a", 1.0, 1.3, 0.2, "", paper=1.3).outcome == "differs"
    assert at_most("a", 1.0, 0.5, 2.0, "", alike=False).outcome == "met"


def test_verdicts():
    """One number that differs, or one run that failed, is enough; without them, one that is better."""
    met, better = at_most("a", None, 1.0, 2.0, ""), at_most("a", 1.0, 0.5, 2.0, "")
    differs, alone = at_most("a", None, 3.0, 2.0, ""), ours_alone("a", 1.0, "")
    verdict = lambda numbers, failed=(), beyond=False: verdict_of(Findings(numbers, {}, 1, failed=failed), beyond)
    assert verdict([met, alone]) == "reproduced" and verdict([met, better]) == "better"
    assert verdict([better, differs]) == "differs" and verdict([better], ["x: killed"]) == "differs"


def test_nothing_compared_is_nothing_reproduced():
    """Without a comparison, and where the paper has no such result, the verdict is that it is ours alone; failing decides."""
    met, alone, differs = at_most("a", None, 1.0, 2.0, ""), ours_alone("a", 1.0, ""), at_most("a", None, 3.0, 2.0, "")
    verdict = lambda numbers, failed=(), beyond=False: verdict_of(Findings(numbers, {}, 1, failed=failed), beyond)
    assert verdict([]) == verdict([alone]) == verdict([met, alone], beyond=True) == "ours alone"
    assert (
        verdict([met, differs], beyond=True) == verdict([alone], ["x: killed"]) == verdict([], ["x"], True) == "differs"
    )
    assert results.RESULTS["scaling"].beyond and results.RESULTS["in-context"].beyond


def test_a_training_that_diverged_has_failed():
    """A loss that is no number, which is stored as a word, is a failure with its run's name; a finite one is none."""
    good = ({"architecture": "gru", "width": 4}, {"train_loss": 0.1, "validation_loss": 0.2, "seed": 0})
    bad = ({"architecture": "gru", "width": 4}, {"train_loss": "nan", "validation_loss": 0.2, "seed": 1})
    rows = [Row(name, config, "done", (result,)) for name, (config, result) in (("a", good), ("b", bad))]
    (good, bad), failed = results_of([*rows, Row("c", {}, "failed", reason="killed")])
    assert failed == ["c: killed"]
    assert diverged([good]) == [] and diverged([good, bad]) == ["architecture gru, width 4, seed 1: training diverged."]


def test_a_rate_at_an_edge_widens_the_grid():
    """The search goes on until worse rates stand on both sides, past what diverges, and no further than its ladder."""
    best = {("up", 1): 3e-2, ("inside", 1): 1e-2, ("down", 2): 1e-5, ("off", 1): 1e-9}
    asked = []

    def losses_at(wanted):
        asked.append(wanted)
        loss = lambda kind, rate: np.inf if rate >= 0.1 else abs(np.log(rate / best[kind]))
        return {kind: {rate: loss(kind, rate) for rate in rates} for kind, rates in wanted.items()}, []

    chosen, failed = fig4.widened(list(best), losses_at)
    assert not failed and {kind: found.rate for kind, found in chosen.items()} == best | {("off", 1): fig4.LADDER[0]}
    assert [kind for kind, found in chosen.items() if not found.inside] == [("off", 1)]
    assert asked[0][("inside", 1)] == fig4.RATES and all(("inside", 1) not in wanted for wanted in asked[1:])
    tried = {f"{rate:g}": loss for rate, loss in chosen["off", 1].tried.items()}
    row = {"architecture": "gru", "layers": 1, "learning_rate": fig4.LADDER[0], "tried": tried}
    inside = row | {"learning_rate": 1e-4}
    assert fig4._at_an_edge([row, row, inside], "A") == ["A, GRU, 1 layer(s)"]


def _trained(name: str, best: float) -> dict:
    return {"architecture": name, "layers": 1, "width": 16, "errors": [best, 2 * best], "best": best}


@pytest.mark.parametrize("name", [name for name, _ in table3.KINDS if name != "gru"])
def test_no_cell_that_can_passes_as_the_gru(name):
    """A trained cell that can be attention, put in the GRU's place, is not told apart; one that is far worse is."""
    others = [_trained(other, 0.01 * (i + 1)) for i, other in enumerate(dict(table3.KINDS)) if other != "gru"]
    found = {row["architecture"]: row["best"] for row in others}
    assert table3.gru_apart([*others, _trained("gru", found[name])]).outcome == "differs"
    assert table3.gru_apart([*others, _trained("gru", 4 * max(found.values()))]).outcome == "met"
    assert table3.gru_apart([]).outcome == "differs"


def test_a_stack_that_did_not_learn_decides():
    """One seed of one stack that ends above one step of gradient descent differs, and so does a guess at recall."""
    steps = [{"steps": 1, "loss": 0.09}, {"steps": 2, "loss": 0.04}]
    stack = {"mixer": "linear_attention", "layers": 2, "parameters": 1, "loss": [0.05, 0.06]}
    outcomes = lambda numbers: [number.outcome for number in numbers]
    assert outcomes(in_context.depth_numbers([stack], steps)) == ["met", "ours alone"]
    assert outcomes(in_context.depth_numbers([stack | {"loss": [0.05, 0.33]}], steps)) == ["differs", "ours alone"]
    recall = {"mixer": "gru", "parameters": 1, "accuracy": [0.9, 0.5], "standard_error": [0.01, 0.01]}
    assert outcomes(in_context.recall_numbers([recall], 0.17)) == ["met"]
    assert outcomes(in_context.recall_numbers([recall | {"accuracy": [0.9, 0.18]}], 0.17)) == ["differs"]


def test_rate_interval():
    """Wilson's interval: known values, inside [0, 1], and no rate of nothing."""
    np.testing.assert_allclose(rate_interval(5, 10), (0.2366, 0.7634), atol=1e-4)
    np.testing.assert_allclose(rate_interval(10, 10), (0.7225, 1.0), atol=1e-4)
    assert rate_interval(0, 10)[0] == 0.0
    with pytest.raises(InputError, match="1 successes of 0 trials"):
        rate_interval(1, 0)


def test_a_record_is_kept(tmp_path):
    """The record on disk is what was returned: command, verdict, numbers, unknowns, versions."""
    experiment = Experiment(
        "t", (("x", "y"),), lambda workshop, preset: Findings([at_most("a", 2.0, 1.0, 2.0, "w")], {}, 3)
    )
    record = reproduce("one", experiment, "quick", Workshop(tmp_path))
    assert record["verdict"] == "better" and record["command"] == "dualform reproduce one --preset quick"
    assert changed_since(record) == [] and __name__ in record["protocol"]["modules"]
    assert json.loads((tmp_path / "one" / "result.json").read_text()) == json.loads(json.dumps(record))
    with pytest.raises(InputError, match="no preset 'huge'; there are quick, full"):
        reproduce("one", experiment, "huge", Workshop(tmp_path))


def test_a_sweep_may_be_called_as_its_result(tmp_path):
    """Results and sweeps have folders apart; seconds are those of all runs, also where they are read back."""
    job = Job("a", "tests.training.sweep_jobs:double", {"x": 1})

    def run(workshop, preset):
        (row,) = workshop.sweep("one", [job])
        return Findings([ours_alone("y", row.results[0]["y"], "")], {}, 1)

    workshop = Workshop(tmp_path, backend="here")
    first, again = (reproduce("one", Experiment("t", (), run), "quick", workshop) for _ in range(2))
    assert (tmp_path / "one" / "result.json").exists() and (workshop.runs("one", [job]) / "table.csv").exists()
    assert first["numbers"] == again["numbers"] and first["numbers"][0]["ours"] == 2
    stored = json.loads((workshop.runs("one", [job]) / "a" / "result.json").read_text())["seconds"]
    assert again["seconds"] >= stored


def test_runs_of_other_code_are_not_read_back(tmp_path, monkeypatch):
    """A job whose code has changed is run again, beside what the old code made."""
    workshop, job = Workshop(tmp_path, backend="here"), Job("a", "tests.training.sweep_jobs:double", {"x": 1})
    before = workshop.runs("one", [job])
    planted(monkeypatch, "tests.training.sweep_jobs", r"2 \*", "3 *")
    assert workshop.runs("one", [job]) != before and workshop.runs("one", [job]).parent == before.parent


def test_an_unknown_name_lists_the_known(capsys, tmp_path):
    """`dualform reproduce` of a name that is none exits with 2 and says which there are."""
    assert main(["reproduce", "table9", "--out", str(tmp_path / "r")]) == 2
    message = capsys.readouterr().err
    assert "there is no result 'table9'" in message and "table1, table2, table3" in message and "fig5" in message
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("name", ["fig1", "table4"])
def test_what_needs_no_training(name, capsys, tmp_path):
    """The command makes the record, a page and a stored copy, and every number is met."""
    assert main(["reproduce", name, "--out", str(tmp_path / "r"), "--store", str(tmp_path / "s")]) == 0
    record = json.loads((tmp_path / "s" / f"{name}.json").read_text())
    assert record["verdict"] in ("reproduced", "better") and record["numbers"] and record["unknowns"]
    assert (tmp_path / "r" / name / "report.html").exists()
    assert record["verdict"] in capsys.readouterr().out


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_is_built(name):
    """Each has the widths asked for, and says how many parameters it has."""
    training = Training(name, 6)
    network = make_network(training, 6, 3, jr.key(0))
    assert network.d_in == 6 and network.d_out == 3
    assert count_parameters(network) > 0


@pytest.mark.slow
@pytest.mark.parametrize("task", tiers(["teacher", "regression"], "regression"))
def test_a_short_training_learns(task):
    """A few hundred steps bring the loss well below that of an output of 0, and a row has what tables need."""
    training = Training("gated_rnn", 16, task=task, d=2, steps=250, batch=32, learning_rate=1e-2, seeds=(0, 1))
    networks, rows = train(training)
    assert len(networks) == 2 and [row["seed"] for row in rows] == [0, 1]
    nothing = 1.0 if task == "teacher" else 0.5 * 2
    assert all(0 < row["validation_loss"] < nothing for row in rows) and not any(row["diverged"] for row in rows)
    assert task == "teacher" or all(row["gap"] > -0.02 for row in rows)


def test_bad_trainings():
    """An unknown architecture or task, and two layers of what stands alone."""
    with pytest.raises(InputError, match="no architecture 'mamba'; there are gated_rnn"):
        train(Training("mamba", 4, steps=1))
    with pytest.raises(InputError, match="no task 'chess'; there are teacher, regression"):
        train(Training("gru", 4, task="chess"))
    with pytest.raises(InputError, match="with one layer; got layers = 2"):
        train(Training("gated_rnn", 4, layers=2, steps=1))
    assert training_from({"architecture": "gru", "width": 3, "seeds": [0, 1]}).seeds == (0, 1)


def test_half_width():
    """The smallest size from which on half of the seeds are identified; a lucky small one does not count."""
    rows = [
        {"rank": 4, "size": size, "identified": count, "seeds": 10}
        for size, count in ((8, 6), (10, 2), (14, 5), (20, 9))
    ]
    assert fig3.half_width(rows, 4) == 14 and fig3.half_width(rows, 2) == float("inf")


def _sized(rank: int, size: int, identified: int, seeds: int = 10) -> dict:
    low, high = rate_interval(identified, seeds)
    return {"rank": rank, "size": size, "identified": identified, "seeds": seeds, "low": low, "high": high}


def test_fig_3_has_margins():
    """Half from 24 to 32 units on is about twice 14, above and below it is not; a share is judged by its interval's lower end."""
    gaps = [{"size": 8, "gaps": [1e-3, 5e-2, 5e-2]}, {"size": 12, "gaps": [1e-3, 1e-3, 5e-2]}]
    rows = lambda first, last=10: [_sized(4, first - 4, 1), _sized(4, first, 6), _sized(4, 40, last), _sized(1, 8, 9)]
    found = lambda *args: {n.name.split(":")[0].split(",")[0]: n for n in fig3._numbers(rows(*args), gaps)}
    full, share = "full rank", "share of seeds identified at n = m = 40"
    assert [found(first)[full].outcome for first in (20, 24, 28, 32, 38)] == ["differs", "met", "met", "met", "differs"]
    assert found(28)["rank 1"].outcome == "met" and found(8)["rank 1"].outcome == "differs"
    assert found(28, 10)[share].outcome == "met" and found(28, 8)[share].outcome == "differs"
    # Nothing identified at full rank: no lower rank is lower than that.
    none = [row | {"identified": 0} if row["rank"] == 4 else row for row in rows(28)]
    assert {n.outcome for n in fig3._numbers(none, gaps) if n.name.startswith(("full", "rank"))} == {"differs"}
    # The median, not the best of the seeds.
    assert (
        found(28)["regression"].ours == 12
        and "the worst seed from inf on, the best from 8" in found(28)["regression"].rule
    )


def test_best_and_steps():
    """The lowest mean over widths and layers, diverged runs left out; the first chunk below a level."""
    rows = [
        {"architecture": "gru", "layers": 1, "loss": [1.0, 3.0]},
        {"architecture": "gru", "layers": 2, "loss": [float("nan"), 0.1]},
        {"architecture": "gru", "layers": 2, "loss": [1.0, 1.0]},
    ]
    assert (
        fig4.best(rows, "gru") == 1.0 and fig4.best(rows, "gru", 1) == 2.0 and fig4.best(rows, "lstm") == float("inf")
    )
    widths = [{"d": 2, "width": width, "loss": loss} for width, loss in ((5, 0.1), (8, 0.009), (10, 0.001))]
    assert _needed(widths, 2, 0.01) == 8 and _needed(widths, 3, 0.01) == _needed(widths, 2, 1e-9) == "none of them"
    assert _steps_to([1.0, 0.5, 0.05, 0.01], 0.1, 400) == 300 and _steps_to([1.0], 0.1, 100) is None


def test_the_papers_recipe_says_how_much_of_it_was_run():
    """Its steps stand beside the paper's, wherever it is shown."""
    assert recipe_name(4000) == "paper's recipe, 4,000 of its 781,250 steps" and 1000 * 50_000 / 64 == PAPER_STEPS


@pytest.mark.parametrize(("least", "counts"), [(1e-4, (10, 4, 10)), (1e-9, (9, 4, 9))])
def test_what_a_weak_teacher_needs(least, counts):
    """A direction of a ten-thousandth is the teacher's and is built; what float32 cannot tell from 0 is not."""
    teacher = Teacher.gaussian(4, key=jr.key(0))
    left, _, right = np.linalg.svd(np.asarray(teacher.attention.w_v[0], np.float64))
    w_v = left @ np.diag([1.0, 0.7, 0.5, least]) @ right
    weak = eqx.tree_at(lambda t: t.attention.w_v, teacher, jnp.asarray(w_v, teacher.attention.w_v.dtype)[None])
    names = ("memory_units", "forget_units", "readout_units")
    assert tuple(smallest_construction(weak)[name] for name in names) == counts


def test_constructions_known_sizes():
    """Full rank needs the 14 units of the compact construction; less rank, less."""
    assert fig3.construction_units(4) == 14 and fig3.construction_units(1) < fig3.construction_units(2) < 14


def test_every_result_has_both_presets():
    """Each name has a title and says what the paper leaves open."""
    assert list(results.RESULTS)[:9] == ["table1", "table2", "table3", "table4", "fig1", "fig2", "fig3", "fig4", "fig5"]
    for experiment in results.RESULTS.values():
        assert experiment.title and experiment.unknowns
    assert set(results.chosen("all")) == set(results.RESULTS)
