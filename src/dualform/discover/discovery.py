"""Does this gated RNN implement attention? As it is given first; then its reduction, stage by stage, apart."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from dualform.discover.arrangement import arrange
from dualform.discover.decays import Ablation, ablate, set_decays, split_decays
from dualform.discover.lags import change_of_function
from dualform.discover.merge import merge_equivalent
from dualform.discover.reduction import least_power, reduce
from dualform.discover.units import outputs, prune, relative_error_power, relative_loss, remove_idle, targets
from dualform.discover.verdict import Judged, Limits, LongRun, Moved, Verdict, change, judged
from dualform.errors import require
from dualform.mixers import GatedRNN, LinearAttention
from dualform.threads import one_blas_thread

ROUNDING = 1e-24
"""A share of power that float64 cannot tell from nothing."""


@dataclass(frozen=True)
class Stage:
    """One step of the reduction, and what it cost on the sequences that ablations are made on.

    - thrown_away: how far the outputs moved, as a share of the target's power.  at_horizon: the same in the long run.
    - relative_loss: after it.
    """

    name: str
    thrown_away: float
    at_horizon: float
    relative_loss: float
    hidden_units: int
    readout_units: int


@dataclass(frozen=True)
class Discovery:
    """What was found in a gated RNN.

    - verdict: "identified" where the network as given is, or where its reduction is; the reasons say which.
    - given: the network as it was given, nothing done to it.  reduced: what the stages left of it, arranged in blocks.
    - ablation: relative losses of the *given* network without groups of its units.
    - stages: what was done, in order, and what each step cost; none where the network does not compute the function.
    - moved, moved_at_horizon: mean squared difference between the outputs of the two, over the target's power, on
      held-out sequences and in the long run.  moved_function: the squared difference of the two functions over all pairs of
      lags, over the teacher's, the largest over 2, 4, 8, ... and as many tokens as the horizon.
    """

    verdict: Verdict
    reasons: tuple[str, ...]
    given: Judged
    reduced: Judged
    ablation: Ablation
    stages: tuple[Stage, ...]
    moved: float
    moved_at_horizon: float
    moved_function: float

    def result(self) -> dict[str, Any]:
        """The numbers for `result.json`: those of the reduced network at the top, both networks' beside them."""
        return {
            **self.reduced.result(),
            "verdict": self.verdict,
            "reasons": list(self.reasons),
            "moved": self.moved,
            "moved_at_horizon": self.moved_at_horizon,
            "moved_function": self.moved_function,
            "given": self.given.result(),
            "reduced": self.reduced.result(),
            "ablation": self.ablation._asdict(),
            "stages": [asdict(stage) for stage in self.stages],
        }


@one_blas_thread
def discover(
    rnn: GatedRNN,
    attention: LinearAttention,
    inputs: Float[np.ndarray, "..."],
    *,
    test: Float[np.ndarray, "..."] | None = None,
    limits: Limits | None = None,
    horizon: int = 8192,
    seed: int = 0,
    on_stage: Callable[[Stage], None] | None = None,
) -> Discovery:
    """Does a gated RNN implement this attention?

    The network is judged as it is given. Then equivalent units are merged; units and directions go where an ablation on
    `inputs` shows that the network does as well without them; decays within 0.01 of 0 and 1 are set there; and what is
    left is written with the fewest units that are found. Nothing is fitted to the teacher: its outputs tell what an
    ablation costs, and no more. The reduction is judged as the network was, and held to have moved next to nothing.

    **Arguments:**

    - inputs: (sequence, time, d), what ablations are made on; not what the network was trained on.
    - test: (sequence, time, d), what the evidence is measured on; if not given, the second half of `inputs`, and
      ablations are made on the first. Gaussian sequences are added for ablations where inputs do not show the function.
    - horizon: for how many tokens the verdict is to hold, at least 2.
    - seed: of the long run, and of the search for the fewest products.
    - on_stage: called after every stage.

    **Returns:** a `Discovery`. A network that does not implement the attention gets a verdict, not an error.

    **Raises:** `InputError` where widths do not fit, inputs are not finite or the horizon is too short.
    """
    limits = limits or Limits()
    require(horizon >= 2, f"horizon is {horizon}; with fewer than 2 tokens nothing is remembered.")
    inputs = _checked(rnn, attention, inputs)
    if test is None:
        half = len(inputs) // 2
        inputs, test = (inputs[:half], inputs[half:]) if half else (inputs, inputs)
    test = _checked(rnn, attention, test)
    long_run = LongRun.of(attention, test, horizon, seed)
    given = judged(rnn, attention, test, long_run, limits)
    inputs = _with_probes(inputs, seed)
    stages = Stages(rnn, attention, inputs, LongRun.of(attention, inputs, horizon, seed + 1), on_stage)
    if given.verdict != "not identified":
        _reduce(stages, attention, inputs, seed, 0.01 * limits.moved)
    final = arrange(stages.rnn)
    moved = Moved(
        _moved(rnn, final, test, targets(attention, test)),
        _moved(rnn, final, *long_run),
        change_of_function(rnn, final, attention, horizon) ** 2,
    )
    reduced = judged(final, attention, test, long_run, limits, moved)
    verdict, reasons = _headline(given, reduced)
    ablation = ablate(rnn, split_decays(rnn), attention, test)
    return Discovery(verdict, reasons, given, reduced, ablation, tuple(stages.done), *moved)


def _moved(before: GatedRNN, after: GatedRNN, inputs, expected) -> float:
    return change(outputs(before, inputs), outputs(after, inputs), expected)


def _checked(rnn: GatedRNN, attention: LinearAttention, inputs) -> Float[np.ndarray, "sequence time d"]:
    """Inputs that fit the student and the teacher."""
    inputs = np.asarray(inputs, np.float64)
    require(
        inputs.ndim == 3 and 0 not in inputs.shape,
        f"inputs have shape {inputs.shape}; they must be (sequence, time, d), none of them 0.",
    )
    require(
        rnn.d_in == attention.d_in == inputs.shape[2] and rnn.d_out == attention.d_out,
        f"the student maps {rnn.d_in} to {rnn.d_out}, the attention {attention.d_in} to {attention.d_out}, and the "
        f"inputs have width {inputs.shape[2]}; these must agree.",
    )
    require(bool(np.all(np.isfinite(inputs))), "inputs hold NaN or infinity; clean them first.")
    return inputs


def _with_probes(inputs: Float[np.ndarray, "sequence time d"], seed: int) -> Float[np.ndarray, "joined time d"]:
    """`inputs`, and as many Gaussian sequences of their scale where they do not show every form of (x, 1).

    On one-hot tokens no product of two entries is ever seen, and an ablation would miss the units that hold them; they
    are a part of the function all the same.
    """
    count, time, d = inputs.shape
    tokens = np.concatenate([inputs.reshape(-1, d), np.ones((count * time, 1))], axis=1)
    i, j = np.triu_indices(d + 1)
    size = np.linalg.svd(tokens[:, i] * tokens[:, j], compute_uv=False)
    if len(size) == len(i) and size[-1] > 1e-6 * size[0]:
        return inputs
    more = max(count, -(-8 * len(i) // time))
    scale = np.sqrt(np.mean(inputs**2)) or 1.0
    probes = scale * np.random.default_rng(seed).standard_normal((more, time, d))
    return np.concatenate([inputs, probes])


class Stages:
    """The network as it goes through the stages, and the record of them.

    **Arguments:** inputs, long_run: what each stage's cost is measured on.  on_stage: called after every stage.
    """

    def __init__(
        self,
        rnn: GatedRNN,
        attention: LinearAttention,
        inputs: Float[np.ndarray, "sequence time d"],
        long_run: LongRun,
        on_stage: Callable[[Stage], None] | None = None,
    ):
        self.rnn, self.inputs, self.long_run, self.on_stage = rnn, inputs, long_run, on_stage
        self.expected = targets(attention, inputs)
        self.now = self._outputs(rnn)
        self.done: list[Stage] = []

    def _outputs(self, rnn: GatedRNN):
        return outputs(rnn, self.inputs), outputs(rnn, self.long_run.inputs)

    def add(self, name: str, rnn: GatedRNN) -> None:
        """What the network became by a step of this name."""
        before, self.now, self.rnn = self.now, self._outputs(rnn), rnn
        thrown_away = change(before[0], self.now[0], self.expected)
        at_horizon = change(before[1], self.now[1], self.long_run.expected)
        loss = relative_error_power(self.now[0], self.expected)
        self.done.append(Stage(name, thrown_away, at_horizon, loss, len(rnn.w_m_in), rnn.readout.shape[1]))
        if self.on_stage is not None:
            self.on_stage(self.done[-1])


def _reduce(
    stages: Stages, attention: LinearAttention, inputs: Float[np.ndarray, "sequence time d"], seed: int, spare: float
):
    """Merge, prune, split, reduce. What an ablation may cost: a tenth of the loss of the network as it was given.

    **Arguments:** spare: what it may cost to leave out the products that attention has no place for.
    """
    loss = relative_loss(stages.rnn, attention, inputs)
    most = 1.1 * loss + ROUNDING
    stages.add("merge", merge_equivalent(stages.rnn).rnn)
    between = split_decays(stages.rnn).between
    stages.add("prune between", remove_idle(stages.rnn, between, attention, inputs, most))
    stages.add("prune", prune(stages.rnn, inputs, max(0.1 * loss, ROUNDING)))
    split = split_decays(stages.rnn)
    stages.add("set decays", set_decays(stages.rnn, split))
    if len(split.between) or not len(split.memory) or not len(split.forget):
        return
    most = 1.1 * relative_loss(stages.rnn, attention, inputs) + ROUNDING
    keep = least_power(stages.rnn, attention, inputs, most, spare)
    if keep is not None:
        found = reduce(stages.rnn, inputs, keep=keep, product_tolerance=max(1e-16, 0.1 * most), seed=seed)
        stages.add("reduce", found.rnn)


def _headline(given: Judged, reduced: Judged) -> tuple[Verdict, tuple[str, ...]]:
    """The verdict on the network, and which of the two networks it rests on."""
    over = f"over {given.horizon:,} tokens"
    if "identified" not in (given.verdict, reduced.verdict):
        verdict = given.verdict
        if verdict == "not identified":
            return verdict, given.reasons
        of_reduced = tuple(f"Reduced: {reason}" for reason in reduced.reasons)
        return verdict, (*(f"As given: {reason}" for reason in given.reasons), *of_reduced)
    if given.verdict == reduced.verdict:
        first = f"It implements the attention {over}, as it was given, and so does its reduction."
    elif given.verdict == "identified":
        first = (
            f"It implements the attention {over}, as it was given; its reduction is not shown to: {reduced.reasons[0]}"
        )
    else:
        first = (
            f"Its reduction implements the attention {over}, and the outputs moved next to nothing; as it was given that is "
            f"not shown: {given.reasons[0]}"
        )
    told = reduced if reduced.verdict == "identified" else given
    return "identified", (first, *told.reasons)
