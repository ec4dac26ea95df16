"""What a training run is told, and the schedules that follow from it."""

import math
from dataclasses import dataclass, field, fields
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from dualform.counts import counted
from dualform.errors import InputError, require
from dualform.models.dropout import check_rate

PRECISIONS = ("full", "bfloat16")
LATER = {"later": True}
"""The metadata of a field that earlier versions had not."""


def told_of(config: Any) -> dict[str, Any]:
    """The fields of a dataclass by name; one that came later is left out at its default, so that older runs are gone on with."""
    said = lambda each: "later" not in each.metadata or getattr(config, each.name) != each.default
    return {each.name: getattr(config, each.name) for each in fields(config) if said(each)}


@dataclass(frozen=True)
class FitConfig:
    """First-order training: AdamW, cosine schedules for the learning rate and, apart from it, for weight decay.

    The update is optax's `adamw`: the decay is multiplied by the learning rate, so that a weight without gradient shrinks
    by the factor 1 - learning_rate * weight_decay in each step.

    - steps: training steps in all, each on fresh data.  chunk: steps inside one compiled loop; between chunks the loss is
      looked at, units may be cut away, and checkpoints are taken. A resumed run has the same chunks.
    - warmup: steps over which the learning rate rises linearly from 0 to `learning_rate`; it then falls as a half cosine to
      `final_learning_rate`, which the last step has.
    - decay_rate: the learning rate of the decays (`nu`), in units of the others'.
    - weight_decay, final_weight_decay: at the first step and from the share `weight_decay_until` of the steps on, a half
      cosine between them; no warm-up.
    - clip: largest global norm of the gradient; infinity for none.
    - b1, b2, epsilon: Adam's.
    - accumulate: batches of a step, gone through one after the other; loss and gradient are their mean.
    - precision: "full", in the dtype of the weights; "bfloat16": the loss sees the matrices (what weight decay acts on) and the
      inputs rounded to bfloat16, while the weights that are trained, and Adam's moments, stay as they are.
    - weight_noise: the standard deviation of what is added to each weight, anew in each step, where the loss sees it.
    - dropout: the share of numbers that a step sets to 0, of what the first block reads and residual branches add, or recurrent
      layers give: see `models.with_dropout`. What is evaluated, kept and saved has none.
    - rematerialised: whether the gradient keeps what goes into each block alone, and computes the block anew: less memory, about
      a third more time. Equal blocks are then one loop. Of a model that `models.with_depth` takes.
    - patience: chunks without a better loss on what is held out, after which training ends; 0 for never. See `fit`'s `evaluate`.
    - seed: of the data.

    **Raises:** `InputError` where a value is out of range.
    """

    steps: int = 12_000
    chunk: int = 500
    warmup: int = 1_000
    learning_rate: float = 3e-3
    final_learning_rate: float = 1e-6
    decay_rate: float = 1.0
    weight_decay: float = 0.1
    final_weight_decay: float = 0.0
    weight_decay_until: float = 1.0
    clip: float = 1.0
    b1: float = 0.9
    b2: float = 0.999
    epsilon: float = 1e-8
    accumulate: int = 1
    precision: str = "full"
    weight_noise: float = 0.0
    dropout: float = field(default=0.0, metadata=LATER)
    rematerialised: bool = field(default=False, metadata=LATER)
    patience: int = 0
    seed: int = 0

    def __post_init__(self):
        for each in fields(self):
            value = getattr(self, each.name)
            # JSON, and the settings of a program, have numbers of Python.
            if isinstance(value, np.generic | jax.Array) and value.ndim == 0:
                object.__setattr__(self, each.name, value.item())
        for name, least in (("steps", 0), ("chunk", 1), ("warmup", 0), ("accumulate", 1), ("patience", 0)):
            value = getattr(self, name)
            whole = counted(value) is not None and value >= least
            require(whole, f"{name} is {value}; it must be at least {least}, and a whole number.")
        for each in fields(self):
            value, kind = getattr(self, each.name), type(each.default)
            if kind is bool:
                require(isinstance(value, bool), f"{each.name} is {value!r}; it must be True or False.")
                continue
            real = isinstance(value, int | float) and not isinstance(value, bool)
            require(real or each.name in ("seed", "precision"), f"{each.name} is {value!r}; it must be a number.")
            if isinstance(value, float) and not (math.isfinite(value) or (each.name == "clip" and value > 0)):
                raise InputError(f"{each.name} is {value}; it must be a number.")
        rates = (
            "learning_rate",
            "final_learning_rate",
            "decay_rate",
            "weight_decay",
            "final_weight_decay",
            "weight_noise",
        )
        for name in rates:
            require(getattr(self, name) >= 0, f"{name} is {getattr(self, name)}; it cannot be negative.")
        check_rate(self.dropout)
        require(
            self.precision in PRECISIONS,
            f"there is no precision {self.precision!r}; there are {', '.join(PRECISIONS)}.",
        )
        for name in ("b1", "b2"):
            require(0 <= getattr(self, name) < 1, f"{name} is {getattr(self, name)}; it must lie in [0, 1).")
        require(
            0 < self.weight_decay_until <= 1,
            f"weight_decay_until is {self.weight_decay_until}; it is a share of the steps, above 0 and at most 1.",
        )
        for name in ("clip", "epsilon"):
            require(getattr(self, name) > 0, f"{name} is {getattr(self, name)}; it must be above 0.")
        require(
            self.warmup <= self.steps or self.steps == 0,
            f"warmup is {self.warmup} steps, more than the {self.steps} steps of the run; shorten it.",
        )


def learning_rate_at(config: FitConfig, step: Int[Array, ""]) -> Float[Array, ""]:
    """The learning rate of the step with this number, counted from 0."""
    rising = (step + 1).astype(float) / max(config.warmup, 1)
    falling = _cosine(
        config.learning_rate, config.final_learning_rate, step - config.warmup, config.steps - config.warmup
    )
    return jnp.where(step < config.warmup, config.learning_rate * rising, falling)


def weight_decay_at(config: FitConfig, step: Int[Array, ""]) -> Float[Array, ""]:
    """The weight decay of the step with this number, counted from 0, before it is multiplied by the learning rate."""
    until = math.ceil(config.weight_decay_until * config.steps)
    return _cosine(config.weight_decay, config.final_weight_decay, step, until)


def _cosine(first: float, last: float, step: Int[Array, ""], steps: int) -> Float[Array, ""]:
    """`first` at step 0, `last` at step `steps` - 1, a half cosine between."""
    share = jnp.clip(step.astype(float) / max(steps - 1, 1), 0.0, 1.0)
    return last + (first - last) * 0.5 * (1.0 + jnp.cos(jnp.pi * share))
