"""The table of evidence: what each number is, and what the paper has for it."""

from collections.abc import Mapping
from typing import Any, NamedTuple

PAPER: dict[str, float | int] = {
    "relative_loss": 4.97e-8,
    "kv_score": 4.52e-8,
    "q_score": 2.06e-10,
    "polynomial_distance": 3.73e-4,
    "memory_units": 10,
    "forget_units": 4,
    "other_units": 0,
    "readout_units": 13,
}
"""Table 1 and Sec. 3.1 of Zucchet et al. 2023, d = 4. Their loss is not said to be relative; of their 13 pre-readout units the
last three act as one."""


PAPER_STEPS = 781_250
"""Steps of the paper's training: 1,000 epochs of 50,000 sequences in batches of 64 (App. B)."""


def recipe_name(steps: int) -> str:
    """What a training by the paper's recipe is called: with how much of it was run."""
    return f"paper's recipe, {steps:,} of its {PAPER_STEPS:,} steps"


class Meaning(NamedTuple):
    """A number's name, and what it is."""

    name: str
    proves: str


MEANING = {
    "relative_loss": Meaning("loss / target power", "the outputs agree on the training distribution"),
    "kv_score": Meaning("KV score", "1 - R^2 from units at 1 to the key-values: they are there"),
    "q_score": Meaning("Q score", "1 - R^2 from units at 0 to the queries: they are there"),
    "polynomial_distance": Meaning("polynomial distance", "the instantaneous maps agree everywhere, term by term"),
    "memory_units": Meaning("units at 1", "they keep everything"),
    "forget_units": Meaning("units at 0", "they hold the present token alone"),
    "other_units": Meaning("units between", "attention has none"),
    "readout_units": Meaning("pre-readout units", "products of memory and query; the paper's 13 act as 11"),
}

COLUMNS = {
    "trained": "AdamW alone, as it ended",
    "reduced": "the same, reduced by algebra, no teacher used",
    "polished": "a second stage: Levenberg-Marquardt from the trained network",
}
"""The three networks of a run, each with a verdict of its own in `result.json`. The headline rests on the first two."""

UNKNOWNS = (
    ("input distribution", "standard normal for a Gaussian teacher; windows of the real activations for a real head"),
    (
        "scale of the teacher's weights",
        "variance 1/d; losses are divided by the target's power, so that scale drops out",
    ),
    ("pruning threshold", "units, then directions, without which the held-out loss is at most a tenth higher"),
    (
        "the decay's digit",
        "weight decay is a lever: see the config; the paper's recipe, run beside it on request, has 1e-4",
    ),
    ("seeds", "stated with every run"),
)
"""What the paper leaves open, and our choices."""


def construction_sentence(result: Mapping[str, Any]) -> str:
    """What the teacher needs at the least, beside what the student was reduced to."""
    names = ("memory_units", "forget_units", "readout_units")
    needed, found = ([counts[name] for name in names] for counts in (result["construction"], result))
    same = (
        "the reduced student has the same counts"
        if needed == found
        else f"the reduced student has {found[0]}, {found[1]} and {found[2]}"
    )
    return (
        f"The smallest construction of this teacher has {needed[0]} units at 1, {needed[1]} at 0 and {needed[2]} pre-readout "
        f"units; {same}."
    )
