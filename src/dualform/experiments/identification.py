"""The main job: a gated RNN is trained on an attention head, and reverse-engineered.

    train     AdamW in float32, weight decay strong and annealed, units that die cut away
    polish    Levenberg-Marquardt in float64, decays trained too, until the loss is gone or stays
    discover  prune, merge, reduce, fine-tune, measure, judge (`dualform.discover`)

All of it is a function of the config: a run that was killed goes on from its last checkpoint and ends with the same
numbers.
"""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Float

from dualform.discover import Discovery, Evidence, Stage, discover, measure, prune, settle_decays, shrink
from dualform.mixers import GatedRNN
from dualform.tasks import Teacher, TeacherStudent
from dualform.training import FitConfig, Fitted, Progress, Run, SecondOrder, fit, levenberg_marquardt, save_weights

PAPER = {
    "relative_loss": 4.97e-8,
    "kv_score": 4.52e-8,
    "q_score": 2.06e-10,
    "polynomial_distance": 3.73e-4,
    "memory_units": 10,
    "forget_units": 4,
    "other_units": 0,
    "readout_units": 11,
}
"""Table 1 and Sec. 3.1 of Zucchet et al. 2023, d = 4. Their loss is not said to be relative; 13 pre-readout units are left,
of which the last three act as one."""


@dataclass(frozen=True)
class Identification:
    """What is trained on what, and how.

    - teacher: "default" or another embedded head's name, "gaussian", or a safetensors file.
    - d, rank: of a Gaussian teacher; rank is W_V's, full if None.
    - n, m: hidden and pre-readout units to begin with.
    - time, batch: tokens of a training sequence, sequences of a step.
    - fit: first-order training.  shrink: units are cut away while that costs less than this share of the loss.
    - second_order: polishing.  rounds: of polishing and settling decays, at most.
    - seed: of everything; teacher_seed: of a Gaussian teacher, `seed` if None.
    """

    teacher: str = "default"
    d: int = 4
    rank: int | None = None
    n: int = 32
    m: int = 32
    time: int = 32
    batch: int = 64
    fit: FitConfig = field(
        default_factory=lambda: FitConfig(
            steps=2500, chunk=500, warmup=200, learning_rate=1e-2, final_learning_rate=1e-5, weight_decay=0.2
        )
    )
    shrink: float = 0.02
    second_order: SecondOrder = SecondOrder()
    rounds: int = 4
    seed: int = 0
    teacher_seed: int | None = None


def preset(name: str) -> Identification:
    """The configs by name: "default" (a real head), "quick" (the same, smaller), "paper" (Gaussian, n = m = 100)."""
    default = Identification()
    return {
        "default": default,
        "quick": replace(default, n=24, m=24, fit=replace(default.fit, steps=1500)),
        "paper": replace(default, teacher="gaussian", n=100, m=100, fit=replace(default.fit, weight_decay=0.3)),
    }[name]


def recipe_of_the_paper(config: Identification) -> Identification:
    """The same student and teacher with the paper's optimiser and none of our levers, for as many steps."""
    fit = replace(
        config.fit,
        warmup=0,
        learning_rate=1e-3,
        final_learning_rate=1e-6,
        weight_decay=1e-4,
        final_weight_decay=1e-4,
        clip=float("inf"),
    )
    return replace(config, fit=fit, shrink=0.0)
