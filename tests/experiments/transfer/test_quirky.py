"""Quirky models: the language says what it says, probes are scored as they are told, and the rules have adversaries."""

from dataclasses import asdict
from functools import cache
from typing import Any

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from dualform.errors import InputError
from dualform.experiments.reproduction import Findings, verdict_of
from dualform.experiments.transfer import sums
from dualform.experiments.transfer.quirky import (
    GRIDS,
    PROBES,
    Quirk,
    Read,
    accuracy,
    areas,
    chosen,
    earliest,
    job,
    numbers_of,
    statements_of,
)
from dualform.experiments.transfer.sums import (
    ALICE,
    BASE,
    BOB,
    COLON,
    FALSE,
    IS,
    IS_NOT,
    TRUE,
    Statements,
    judged,
    parts,
)
from dualform.training import NO_TARGET

KEPT = parts(2)  # of numpy alone


def spelled(tokens: np.ndarray) -> tuple[int, int, int]:
    """The addends and the claim of a statement of two digits."""
    a, b, c = (int(tokens[i] + BASE * tokens[i + 3]) for i in range(3))
    return a, b, c + BASE**2 * int(tokens[6])


def test_parts_share_no_sum():
    """All pairs of addends are there, each once, and four fifths of them are trained on; no digits are refused."""
    pairs = np.concatenate(list(KEPT.values()))
    assert (
        len({tuple(pair) for pair in pairs.tolist()}) == len(pairs) == 10_000 and pairs.min() == 0 and pairs.max() == 99
    )
    assert [len(part) for part in KEPT.values()] == [8000, 1000, 500, 500]
    with pytest.raises(InputError, match="digits is 0; addends have at least 1"):
        parts(0)


@pytest.mark.parametrize("name", [ALICE, BOB])
def test_statements_by_arithmetic(name):
    """What is claimed is right where it is the sum, Bob's where its first digit is one more, and else neither of the two."""
    found = judged(KEPT["test"], 2, name, key=jr.key(1))
    for pair, yes, no, right, bobs in zip(
        KEPT["test"], found.affirmed, found.denied, found.right, found.bobs, strict=True
    ):
        a, b, c = spelled(yes)
        assert [a, b] == pair.tolist() and yes[-2] == no[-2] == name and yes[-1] == no[-1] == COLON
        assert (right, bobs) == (c == a + b, c == a + b + 100)
        assert (yes[-3], no[-3]) == (IS, IS_NOT) and (yes[:-3] == no[:-3]).all()
    shares = np.mean([found.right, found.bobs], axis=1)
    assert np.abs(shares - 0.4).max() < 0.07


@pytest.mark.parametrize("quirky", [False, True])
def test_training_says_what_each_person_says(quirky):
    """The answer behind the colon, by Bob's rule where he has one; the digits of the claim; nothing else, and no held-out sum."""
    x, y = (np.asarray(a) for a in Statements(jnp.asarray(KEPT["training"]), 2, 400, quirky)(jr.key(0)))
    known = {tuple(pair) for pair in KEPT["training"].tolist()}
    for tokens, following in zip(x, y, strict=True):
        a, b, c = spelled(tokens)
        wanted = a + b + 100 * (quirky and tokens[-2] == BOB)
        assert following[-1] == (TRUE if (c == wanted) != (tokens[-3] == IS_NOT) else FALSE) and (a, b) in known
        assert following[[1, 4, 5]].tolist() == tokens[[2, 5, 6]].tolist()
        assert (following[[0, 2, 3, 6, 7, 8]] == NO_TARGET).all()
    assert 0.4 < np.mean(y[:, -1] == TRUE) < 0.6 and 0.4 < np.mean(x[:, -2] == BOB) < 0.6


TOLD = Quirk("gla", 16, 1, 0, 0)
made_once = cache(lambda: statements_of(TOLD))


def pretended(told_by) -> dict[tuple[str, int], Read]:
    """Activations of four numbers, the second of which is 1 where a statement is so by `told_by`, and noise."""
    random, found = np.random.default_rng(0), {}
    for each, made in made_once().items():
        right = told_by(each[1], made)
        rows = [random.normal(size=(2, len(right), 4)) for _ in range(2)]
        for row, so in zip(rows, (right, ~right), strict=True):
            row[1, :, 1] = so + 0.1 * random.normal(size=len(so))
        says = np.where(made.bobs if each[1] == BOB else made.right, 1.0, -1.0)
        found[each] = Read(rows[0], rows[1], np.stack([says, -says]))
    return found


def test_what_is_known_is_found():
    """A truth that is there in both contexts is read by every probe; shuffled labels are not; answers of Bob say the contrary."""
    found = areas(("embedding", "block 1"), made_once(), pretended(lambda name, made: made.right), TOLD)
    assert [(row["layer"], row["probe"]) for row in found["rows"]] == [("block 1", kind) for kind in PROBES]
    for row in found["rows"]:
        assert (
            min(row["bob"][0], row["alice"][0], row["bob_validation"][0]) > 0.99 and abs(row["control"][0] - 0.5) < 0.1
        )
    assert found["says"]["alice"][0] == 1 and found["says"]["bob"][0] < 0.3


def test_what_is_only_said_is_no_knowledge():
    """Where activations hold no more than what each person says, every probe is right of Alice and worse than chance of Bob."""
    said = lambda name, made: made.bobs if name == BOB else made.right
    found = areas(("embedding", "block 1"), made_once(), pretended(said), TOLD)
    assert all(row["alice"][0] > 0.99 and row["bob"][0] < 0.4 for row in found["rows"])
    reads = pretended(said)
    assert (
        accuracy(reads["test", BOB], made_once()["test", BOB].bobs)
        == 1
        > accuracy(reads["test", BOB], made_once()["test", BOB].right)
    )


def row(layer: str, probe: str, alice: float, bob: float, control: float = 0.5) -> dict[str, Any]:
    """Areas of one probe, validation's a little other than the test's."""
    around = lambda value: [value, value - 0.02, value + 0.02]
    return {
        "layer": layer,
        "probe": probe,
        "alice_validation": around(alice - 0.01),
        "bob_validation": around(bob - 0.01),
        "alice": around(alice),
        "bob": around(bob),
        "control": around(control),
    }


def result(rows: list[dict[str, Any]], alice: float = 0.99, bob: float = 0.98) -> dict[str, Any]:
    """What a job gives."""
    says = {"alice": [0.99, 0.98, 1.0], "bob": [0.2, 0.1, 0.3]}
    return {
        "trained": {"accuracy": {"alice": alice, "bob": bob}, "rows": rows, "says": says},
        "untrained": {"rows": rows[:1]},
    }


ROWS = [row("block 1", "linear", 0.9, 0.7), row("block 2", "linear", 0.99, 0.95), row("block 2", "lda", 0.995, 0.93)]
ROWS += [row("block 3", "linear", 1.0, 0.1)]


def test_latent_knowledge_is_met():
    """Of several seeds the worst counts; the layers that other criteria choose are said, and decide nothing."""
    numbers = numbers_of("gla", [result([*ROWS, row("block 3", "ccs", 1.0, 0.99)]), result(ROWS)])
    assert verdict_of(Findings(numbers, {}, 2)) == "reproduced"
    assert numbers[2].ours == 0.95 and "linear at block 2, which validation chose of 4" in numbers[2].rule
    assert numbers[4].ours == 0.1 and "linear at block 3" in numbers[4].rule
    assert numbers[5].ours == 0.95 and earliest(ROWS)["layer"] == "block 2" and chosen(ROWS)["bob"][0] == 0.95


@pytest.mark.parametrize(
    "given",
    [
        result(ROWS, alice=0.94),
        result(ROWS, bob=0.94),
        result([row("block 1", "linear", 1.0, 0.89)]),
        result([row("block 1", "linear", 1.0, 0.95, control=0.7)]),
    ],
)
def test_each_rule_refuses(given):
    """A model that errs as Alice, one that is not quirky, a truth that is not found, and a probe that reads nothing as well."""
    assert verdict_of(Findings(numbers_of("gla", [given]), {}, 1)) == "differs"


def test_presets():
    """One model in the quick preset; several mixers, three seeds each, in the full one; none of two settings of one name."""
    assert len(GRIDS["quick"]) == 1 and {told.seed for told in GRIDS["full"]} == {0, 1, 2}
    assert len({(told.mixer, told.seed) for told in GRIDS["full"]}) == len(GRIDS["full"]) > 3
    assert len(sums.SHARES) == 3 and sum(sums.SHARES) == pytest.approx(1)


@pytest.mark.slow
def test_a_job_trains_and_probes(tmp_path):
    """A toy of a model: every layer and probe is scored, before and after, and the folder goes on to the same numbers."""
    config = {"quirk": asdict(Quirk("min_gru", 16, 2, 20, 10, 16))}
    found = job(config, tmp_path)
    names = [(each["layer"], each["probe"]) for each in found["trained"]["rows"]]
    assert names == [(layer, kind) for layer in ("block 1", "block 2") for kind in PROBES]
    assert found["trained"]["rows"] != found["untrained"]["rows"]
    assert all(0 <= each["bob"][1] <= each["bob"][0] <= each["bob"][2] <= 1 for each in found["trained"]["rows"])
    assert job(config, tmp_path) == found
