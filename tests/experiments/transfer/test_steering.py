"""Steering as a result: the rule by which a behaviour is counted, texts that share no line, and rules that have adversaries."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dualform import checkpoints
from dualform.errors import InputError
from dualform.experiments.reproduction import Workshop, verdict_of
from dualform.experiments.transfer import steering
from dualform.experiments.transfer.steering import ARMS, Arm, Sizes, measured
from dualform.experiments.transfer.upper_case import cased, contrast_lines, prompts, share
from dualform.training import Row
from dualform.training.recipe import Recipe

WORDS = ("the king is here and", "my lord of York will", "what say you to this", "I know not why it is")
RANDOM = np.random.default_rng(0)
TEXT = "\n\n".join(
    "\n".join(" ".join(RANDOM.choice(WORDS, 2)) + f" {RANDOM.choice(list('abcdefgh'))}{i % 7}" for i in range(3))
    for _ in range(400)
)


@pytest.mark.parametrize(
    ("text", "wanted"), [("", 0), ("12 !\n", 0), ("abc", 0), ("ABC", 1), ("aB, Cd 7", 0.5), ("KING: o", 0.8)]
)
def test_the_rule(text, wanted):
    """Upper-case letters among letters."""
    assert share(text) == pytest.approx(wanted)


def test_sections_in_upper_case():
    """The same text but for its case, whole sections of it, about half; a letter that is two in upper case is refused."""
    found = cased(TEXT, 0)
    assert found.lower() == TEXT.lower() and len(found) == len(TEXT) and cased(TEXT, 0) == found != cased(TEXT, 1)
    parts = list(zip(found.split("\n\n"), TEXT.split("\n\n"), strict=True))
    upper = [part == own.upper() for part, own in parts]
    assert all(up or part == own for up, (part, own) in zip(upper, parts, strict=True)) and 0.3 < np.mean(upper) < 0.7
    assert all(len(set(upper[first : first + 4])) == 1 for first in range(0, len(upper), 4))
    with pytest.raises(InputError, match="a character of this text is several in upper case"):
        cased("stra\u00dfe", 0)


def test_what_is_read_is_not_what_is_asked():
    """Lines of the contrast are of the first nine tenths, prompts of the last twentieth and none of them; all are different."""
    lines = contrast_lines(TEXT, 40, 0)
    asked = prompts(TEXT, 10, lines)
    assert len(set(lines)) == 40 and len(set(asked)) == 10 and not set(lines) & set(asked)
    assert all(line in TEXT[: int(0.9 * len(TEXT))] for line in lines)
    assert all(line in TEXT[int(0.95 * len(TEXT)) :] for line in asked)
    assert contrast_lines(TEXT, 40, 1) != lines


def curve(shares: list[float], losses: list[float]) -> list[dict[str, Any]]:
    """Rows of three texts and three passages around these."""
    return [
        {"shares": [max(share - 0.01, 0), share, share + 0.01], "text": "A", "losses": [loss - 0.1, loss, loss + 0.1]}
        for share, loss in zip(shares, losses, strict=True)
    ]


@dataclass
class Pretended(Workshop):
    """A workshop whose trainings are done, and whose arms rise as they are told to."""

    given: Any = None

    def sweep(self, name, jobs):
        results = {"parameters": 1, "validation": {}, "test": {}}
        assert name == "steering" or all(Recipe.of(job.config).seed == 1 for job in jobs)
        made = lambda job: results if name == "steering-models" else self.given(job.config["name"], job.config["arm"])
        return [Row(job.name, job.config, "done", (made(job),)) for job in jobs]


def pretended(tmp_path: Path, shares: list[float], control: list[float]) -> Any:
    """The findings where every arm has these."""
    text = tmp_path / "text.txt"
    text.write_text(TEXT)
    given = lambda name, arm: {
        "doses": arm["doses"],
        "norms": {},
        "vector": curve(shares, [1.5, 1.6, 1.7, 1.9, 2.5, 3.5]),
        "control": curve(control, [1.5] * 6),
    }
    return steering._run(Pretended(tmp_path / "out", given=given), "quick", text)


RISING, FLAT = [0.1, 0.1, 0.3, 0.5, 0.7, 0.9], [0.1, 0.12, 0.1, 0.11, 0.1, 0.12]


def test_a_rising_dose_is_met(tmp_path):
    """A share that never falls, beside a control that stays: every arm's numbers are met, and the costs are said."""
    found = pretended(tmp_path, RISING, FLAT)
    assert verdict_of(found) == "reproduced" and len(found.numbers) == 3 * len(ARMS)
    assert found.numbers[0].ours == pytest.approx(0) and found.numbers[1].ours == pytest.approx(0.78)
    assert found.numbers[2].ours == pytest.approx(2.0) and "perplexity 4.48 unsteered" in found.numbers[2].rule
    stored = found.data["arms"]["gla, states"]["vector"][-1]
    assert stored["share"][0] == pytest.approx(0.9) and stored["cost"][0] == pytest.approx(2.0)
    assert (tmp_path / "out" / "data" / "cased.txt").read_text().lower() == TEXT.lower()


@pytest.mark.parametrize(
    ("shares", "control"), [([0.1, 0.3, 0.29, 0.5, 0.7, 0.9], FLAT), (RISING, RISING), ([0.1] * 5 + [0.25], FLAT)]
)
def test_what_is_no_dose_response_differs(shares, control, tmp_path):
    """A share that falls once, a random vector that does as much, and an effect that is small."""
    assert verdict_of(pretended(tmp_path, shares, control)) == "differs"


def test_arms_are_as_stated():
    """At least five doses above none in order, for activations, states and both, and of SmolLM2 activations alone."""
    for arm in ARMS.values():
        assert arm.doses[0] == 0 and len(arm.doses) >= 6 and list(arm.doses) == sorted(set(arm.doses))
    kinds = {(arm.model, tuple(sorted({place.split(".")[1] for place in arm.places}))) for arm in ARMS.values()}
    assert {("gla", ("out",)), ("gla", ("state",)), ("gla", ("out", "state")), ("smollm2", ("out",))} < kinds


@pytest.mark.slow
def test_a_model_is_measured():
    """The characters: at 0 the vector and the control are one, at a large dose upper case is what is written."""
    text = (TEXT + "\n") * 2
    sizes = Sizes(lines=6, texts=2, given=8, length=12, passages=2, time=24)
    found = measured(checkpoints.load("characters"), text, Arm("characters", ("block 2.out",), (0.0, 3.0)), sizes)
    assert found["vector"][0] == found["control"][0] and found["doses"] == [0, 3]
    assert np.mean(found["vector"][1]["shares"]) > 0.6 > np.mean(found["control"][1]["shares"]) + 0.1
    assert np.mean(found["vector"][1]["losses"]) > np.mean(found["vector"][0]["losses"]) + 1
