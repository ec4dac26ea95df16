"""Does this gated RNN implement attention? The stages put together, and a verdict with its reasons."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

import jax.random as jr
import numpy as np
from jaxtyping import Float

from dualform.discover.arrange import arrange
from dualform.discover.decays import Ablation, ablate, set_decays, split_decays
from dualform.discover.merge import merge_equivalent
from dualform.discover.polynomial import polynomial_distance
from dualform.discover.recover import Recovered, recover_attention
from dualform.discover.reduce import reduce
from dualform.discover.scores import kv_score, q_score
from dualform.discover.units import outputs, prune, relative_error_power, relative_loss, targets
from dualform.errors import require
from dualform.mixers import GatedRNN, LinearAttention
from dualform.threads import one_blas_thread
from dualform.training.second_order import SecondOrder, levenberg_marquardt

Verdict: TypeAlias = Literal["identified", "function only", "not identified"]


@dataclass(frozen=True)
class Limits:
    """What counts as identified. Each limit is far above what an identified student shows and far below what others do.

    - relative_loss: of the student as given, before anything is done to it.
    - score: KV and Q score of the reduced network.  distance: polynomial.  recovered: error of the attention read back.
    - moved: the share of the output's power by which reduction and fine-tuning may change the function.
    """

    relative_loss: float = 1e-4
    score: float = 1e-4
    distance: float = 1e-2
    recovered: float = 1e-2
    moved: float = 1e-4


@dataclass(frozen=True)
class Evidence:
    """The numbers of one network against its teacher.

    - relative_loss: mean squared error over the target's power, on the inputs.
    - kv_score, q_score: 1 - R^2 of key-values from units at 1, of queries from units at 0.
    - polynomial_distance: of the instantaneous maps, ||p - q|| / ||q||, mean over outputs.
    - memory_units, forget_units, other_units: decays within 0.01 of 1, of 0, and all others.
    - readout_units: pre-readout units.
    """

    relative_loss: float
    kv_score: float
    q_score: float
    polynomial_distance: float
    memory_units: int
    forget_units: int
    other_units: int
    readout_units: int


@dataclass(frozen=True)
class Stage:
    """One step of the reduction: what was done, what it threw away (share of the output's power), and what was left."""

    name: str
    thrown_away: float
    relative_loss: float
    hidden_units: int
    readout_units: int


@dataclass(frozen=True)
class Discovery:
    """What was found in a trained gated RNN.

    - verdict and its reasons, in plain words.
    - given, reduced: the evidence for the network as it was given, and after the stages.
    - network: the network after the stages, float64, arranged in blocks.
    - recovered: the attention read back out of it, with the error of the whole function.
    - recovered_error: ||recovered(x) - teacher(x)|| / ||teacher(x)|| on the inputs.
    - ablation: relative losses of the *given* network without groups of its units.
    - stages: what was done, in order.
    - moved: mean squared difference between the outputs given and reduced, over the target's power.
    """

    verdict: Verdict
    reasons: tuple[str, ...]
    given: Evidence
    reduced: Evidence
    network: GatedRNN
    recovered: Recovered
    recovered_error: float
    ablation: Ablation
    stages: tuple[Stage, ...]
    moved: float

    def result(self) -> dict[str, Any]:
        """The numbers for `result.json`: those of the reduced network at the top, the given one's beside them."""
        return {
            "verdict": self.verdict,
            "reasons": list(self.reasons),
            **asdict(self.reduced),
            "recovered_error": self.recovered_error,
            "recovered_tensor_error": float(self.recovered.error),
            "moved": self.moved,
            "given": asdict(self.given),
            "ablation": self.ablation._asdict(),
            "stages": [asdict(stage) for stage in self.stages],
        }


def measure(rnn: GatedRNN, attention: LinearAttention, inputs: Float[np.ndarray, "sequence time d"]) -> Evidence:
    """The evidence for one network, nothing done to it.

    **Arguments:** inputs (sequence, time, d); scores are regressions over all their tokens.
    """
    split = split_decays(rnn)
    tokens = np.asarray(inputs, np.float64).reshape(-1, inputs.shape[-1])
    return Evidence(
        relative_loss=relative_loss(rnn, attention, inputs),
        kv_score=kv_score(rnn, split, attention, tokens),
        q_score=q_score(rnn, split, attention, tokens),
        polynomial_distance=float(polynomial_distance(rnn, attention)),
        memory_units=len(split.memory),
        forget_units=len(split.forget),
        other_units=len(split.between),
        readout_units=rnn.readout.shape[1],
    )


@one_blas_thread
def discover(
    rnn: GatedRNN,
    attention: LinearAttention,
    inputs: Float[np.ndarray, "..."],
    *,
    test: Float[np.ndarray, "..."] | None = None,
    limits: Limits | None = None,
    fine_tune: SecondOrder | None = None,
    seed: int = 0,
    on_stage: Callable[[Stage], None] | None = None,
) -> Discovery:
    """Reverse-engineer a trained gated RNN against the attention that it was trained to mimic.

    Dead units are pruned, decays within 0.01 of 0 and 1 are set there, equivalent units are merged, and a student whose
    decays all split is reduced to the ranks of its effective tensor and fine-tuned without weight decay. Every stage
    says what it threw away; `moved` says how far the function went in all.

    **Arguments:**

    - inputs: (sequence, time, d), what units are judged and fine-tuned on; a few hundred sequences are enough.
    - test: (sequence, time, d), what the evidence is measured on; `inputs` if not given.
    - fine_tune: how to fine-tune after the reduction.
    - seed: of the fine-tuning's data and the reduction's random starts.
    - on_stage: called after every stage.

    **Returns:** a `Discovery`. A student that does not implement the attention gets a verdict, not an error.

    **Raises:** `InputError` where widths do not fit or inputs are not finite.
    """
    limits = limits or Limits()
    inputs = _checked(rnn, attention, inputs)
    test = inputs if test is None else _checked(rnn, attention, test)
    given, ablation = measure(rnn, attention, test), ablate(rnn, split_decays(rnn), attention, test)
    stages = _Stages(rnn, attention, inputs, on_stage)
    share = 0.1 * given.relative_loss
    stages.add("prune", prune(rnn, inputs, share))
    split = split_decays(stages.rnn)
    stages.add("set decays", set_decays(stages.rnn, split))
    stages.add("merge", merge_equivalent(stages.rnn).rnn)
    loss = relative_loss(stages.rnn, attention, inputs)
    # Directions worth less than the loss cannot be told from its noise: past this, nothing would be left to reduce to.
    if not len(split.between) and len(split.memory) and len(split.forget) and loss < 1e-3:
        keep = max(30 * loss, 1e-20)
        reduced = reduce(stages.rnn, inputs, keep=keep, product_tolerance=max(1e-16, keep / 30), seed=seed)
        stages.add("reduce", reduced.rnn)
        fine_tune = fine_tune or SecondOrder(iterations=30, tolerance=1e-22, residuals=4.0, train_decays=False)
        sample, power = _windows(attention, inputs)
        stages.add("fine-tune", levenberg_marquardt(stages.rnn, sample, power, fine_tune, seed=seed).rnn)
    final = arrange(stages.rnn)
    found = measure(final, attention, test)
    moved = _moved(rnn, final, attention, test)
    recovered = recover_attention(final, heads=len(attention.w_v))
    recovered_error = relative_error_power(targets(recovered.attention, test), targets(attention, test)) ** 0.5
    verdict, reasons = judge(given, found, recovered_error, moved, limits)
    return Discovery(
        verdict, reasons, given, found, final, recovered, recovered_error, ablation, tuple(stages.done), moved
    )


def _checked(rnn: GatedRNN, attention: LinearAttention, inputs) -> Float[np.ndarray, "sequence time d"]:
    """Inputs that fit the student and the teacher."""
    inputs = np.asarray(inputs, np.float64)
    require(inputs.ndim == 3, f"inputs have shape {inputs.shape}; they must be (sequence, time, d).")
    require(
        rnn.d_in == attention.d_in == inputs.shape[2] and rnn.d_out == attention.d_out,
        f"the student maps {rnn.d_in} to {rnn.d_out}, the attention {attention.d_in} to {attention.d_out}, and the "
        f"inputs have width {inputs.shape[2]}; these must agree.",
    )
    require(bool(np.all(np.isfinite(inputs))), "inputs hold NaN or infinity; clean them first.")
    return inputs


class _Stages:
    """The network as it goes through the stages, and the record of them."""

    def __init__(self, rnn, attention, inputs, on_stage):
        self.rnn, self.attention, self.inputs, self.on_stage = rnn, attention, inputs, on_stage
        self.done: list[Stage] = []

    def add(self, name: str, rnn: GatedRNN) -> None:
        thrown = _moved(self.rnn, rnn, self.attention, self.inputs)
        loss = relative_loss(rnn, self.attention, self.inputs)
        self.rnn = rnn
        self.done.append(Stage(name, thrown, loss, len(rnn.w_m_in), rnn.readout.shape[1]))
        if self.on_stage is not None:
            self.on_stage(self.done[-1])


def _moved(before: GatedRNN, after: GatedRNN, attention: LinearAttention, inputs) -> float:
    """Mean squared difference of two networks' outputs over the target's power."""
    difference = outputs(before, inputs) - outputs(after, inputs)
    return float(np.mean(difference**2)) / max(float(np.mean(targets(attention, inputs) ** 2)), 1e-300)


def _windows(attention: LinearAttention, inputs):
    """Data for fine-tuning: sequences picked at random from the inputs, and the teacher's outputs on them."""
    expected = targets(attention, inputs)
    size = min(len(inputs), 512)

    def sample(key):
        picked = np.asarray(jr.choice(key, len(inputs), (size,), replace=False))
        return inputs[picked], expected[picked]

    return sample, max(float(np.mean(expected**2)), 1e-300)


def judge(
    given: Evidence, reduced: Evidence, recovered_error: float, moved: float, limits: Limits
) -> tuple[Verdict, tuple[str, ...]]:
    """The verdict, and its reasons in plain words.

    *identified*: the student computes the teacher's function and does it by attention's own means. *function only*: it
    computes the function on these inputs, but the means are not shown. *not identified*: it does not compute it.
    """
    if not given.relative_loss <= limits.relative_loss:
        return "not identified", (
            f"The student's outputs are not the teacher's: its loss is {given.relative_loss:.1e} of the target's "
            f"power, above {limits.relative_loss:g}. Train longer, or give it more units.",
        )
    against: list[str] = []
    if reduced.other_units:
        against.append(
            f"{reduced.other_units} units with decays between 0.01 and 0.99 are left: they neither keep nor forget, "
            "and attention has no such units."
        )
    if not recovered_error <= limits.recovered:
        against.append(f"The attention that can be read back misses the teacher's outputs by {recovered_error:.1e}.")
    for name, value in (("key-values", reduced.kv_score), ("queries", reduced.q_score)):
        if not value <= limits.score:
            against.append(f"Its units do not hold the {name}: a linear readout misses {value:.1e} of their variance.")
    if not reduced.polynomial_distance <= limits.distance:
        against.append(
            f"Off the training distribution it is another function: its polynomial is "
            f"{reduced.polynomial_distance:.1e} away from the teacher's."
        )
    if not moved <= limits.moved:
        against.append(f"The reduction changed the function by {moved:.1e} of its power: it is about another network.")
    if against:
        return "function only", tuple(against)
    return "identified", (
        f"It computes the teacher's function: the loss is {given.relative_loss:.1e} of the target's power as given, "
        f"{reduced.relative_loss:.1e} after reduction, which moved the outputs by {moved:.1e}.",
        f"It does so by attention's means: {reduced.memory_units} units that keep everything hold the key-values "
        f"(1 - R^2 = {reduced.kv_score:.1e}), {reduced.forget_units} that forget at once hold the query "
        f"({reduced.q_score:.1e}), none is in between, and {reduced.readout_units} products read one with the other.",
        f"It is the same polynomial of its input, term by term ({reduced.polynomial_distance:.1e}), and the attention "
        f"weights read back from it give the teacher's outputs to {recovered_error:.1e}.",
    )
