"""One network judged as it stands: the evidence against its teacher, a verdict, and the reasons in plain words."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Float

from dualform.discover.decays import split_decays
from dualform.discover.lags import LengthError, errors_by_length
from dualform.discover.polynomials import polynomial_distance
from dualform.discover.recover import Recovered, recover_attention
from dualform.discover.scores import kv_score, q_score
from dualform.discover.units import outputs, relative_error_power, relative_loss, targets
from dualform.mixers import GatedRNN, LinearAttention

Verdict: TypeAlias = Literal["identified", "function only", "not identified"]

RUNS = 4
"""How many long runs an error at the horizon is the mean over."""


@dataclass(frozen=True)
class Limits:
    """What counts as identified. Errors are relative norms; `relative_loss` and `moved` are squares, shares of power.

    - relative_loss: on held-out sequences. Above it the network does not compute the function.
    - function: over all pairs of lags, at 2, 4, 8, ... tokens and at the horizon.  long_run: of the outputs, at the horizon.
    - score: KV and Q score.  distance: polynomial.  recovered: error of the attention read back.
    - moved: how far a reduction may be from its network, on held-out sequences, in the long run and as a function.
    """

    relative_loss: float = 1e-4
    function: float = 1e-2
    long_run: float = 1e-2
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
class Judged:
    """One network, nothing done to it, and what is shown of it.

    - verdict and its reasons.  evidence, on held-out sequences.  network.
    - recovered: the attention read back from its weights, with the error of the whole function over `horizon` tokens.
    - recovered_error: ||recovered(x) - teacher(x)|| / ||teacher(x)|| on held-out sequences.
    - function_error: ||rnn - teacher|| / ||teacher|| over all pairs of lags, exactly, without inputs: the largest of those
      at 2, 4, 8, ... and `horizon` tokens.
    - horizon_error: ||rnn(x) - teacher(x)|| / ||teacher(x)|| in runs of `horizon` held-out tokens.
    - holds_for: the most of these tokens up to which both are within their limits; 0 where they are at none.
    """

    verdict: Verdict
    reasons: tuple[str, ...]
    evidence: Evidence
    network: GatedRNN
    recovered: Recovered
    recovered_error: float
    function_error: float
    holds_for: int
    horizon_error: float
    horizon: int

    def result(self) -> dict[str, Any]:
        """The numbers for `result.json`."""
        return {
            "verdict": self.verdict,
            "reasons": list(self.reasons),
            **asdict(self.evidence),
            "recovered_error": self.recovered_error,
            "recovered_tensor_error": self.recovered.error,
            "function_error": self.function_error,
            "holds_for": self.holds_for,
            "horizon_error": self.horizon_error,
            "horizon": self.horizon,
        }


class LongRun(NamedTuple):
    """Runs of `horizon` tokens, held-out sequences one after another at random, and the teacher's outputs on them."""

    inputs: Float[np.ndarray, "run time d"]
    expected: Float[np.ndarray, "run time d_out"]

    @classmethod
    def of(
        cls, attention: LinearAttention, inputs: Float[np.ndarray, "sequence time d"], horizon: int, seed: int
    ) -> "LongRun":
        """Drawn with replacement: a few sequences are enough for any horizon."""
        pieces = -(-horizon // inputs.shape[1])
        chosen = np.random.default_rng(seed).integers(len(inputs), size=(RUNS, pieces))
        long = inputs[chosen].reshape(RUNS, -1, inputs.shape[2])[:, :horizon]
        return cls(long, targets(attention, long))

    def errors(self, rnn: GatedRNN, lengths: Sequence[int]) -> list[float]:
        """||rnn - teacher|| / ||teacher|| over the first so many tokens of the runs."""
        off, size = (
            np.cumsum(np.mean(values**2, axis=(0, 2)))
            for values in (outputs(rnn, self.inputs) - self.expected, self.expected)
        )
        return [float(np.sqrt(off[tokens - 1] / max(size[tokens - 1], 1e-300))) for tokens in lengths]


class Moved(NamedTuple):
    """How far a reduction is from its network, as shares of the teacher's power.

    - outputs: on held-out sequences.  at_horizon: in the long run.
    - function: over all pairs of lags, exactly, the largest over 2, 4, 8, ... and as many tokens as the horizon.
    """

    outputs: float
    at_horizon: float
    function: float


def change(
    before: Float[np.ndarray, "*shape"], after: Float[np.ndarray, "*shape"], expected: Float[np.ndarray, "*shape"]
) -> float:
    """Mean squared difference of two networks' outputs over the power of `expected`, the teacher's."""
    return float(np.mean((before - after) ** 2)) / max(float(np.mean(expected**2)), 1e-300)


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


def judged(
    rnn: GatedRNN,
    attention: LinearAttention,
    inputs: Float[np.ndarray, "sequence time d"],
    long_run: LongRun,
    limits: Limits,
    moved: Moved | None = None,
) -> Judged:
    """One network against its teacher.

    **Arguments:**

    - inputs: held-out sequences (sequence, time, d).  long_run: of as many tokens as the verdict is to hold for.
    - moved: of a reduction, how far it is from the network that it was made of.
    """
    evidence, horizon = measure(rnn, attention, inputs), long_run.inputs.shape[1]
    lengths = errors_by_length(rnn, attention, horizon)
    recovered = recover_attention(rnn, heads=len(attention.w_v), tolerance=limits.recovered, horizon=horizon)
    recovered_error = relative_error_power(targets(recovered.attention, inputs), targets(attention, inputs)) ** 0.5
    in_runs = long_run.errors(rnn, [length.tokens for length in lengths])
    holds_for = _holds_for(lengths, in_runs, limits)
    verdict, reasons = _judge(evidence, lengths, holds_for, recovered, recovered_error, in_runs[-1], limits, moved)
    return Judged(
        verdict,
        reasons,
        evidence,
        rnn,
        recovered,
        recovered_error,
        max(length.error for length in lengths),
        holds_for,
        in_runs[-1],
        horizon,
    )


def _holds_for(lengths: tuple[LengthError, ...], in_runs: list[float], limits: Limits) -> int:
    """The most tokens up to which the function and the outputs in the long runs are within their limits."""
    tokens = 0
    for length, error in zip(lengths, in_runs, strict=True):
        if not (length.error <= limits.function and error <= limits.long_run):
            break
        tokens = length.tokens
    return tokens


def _judge(
    evidence: Evidence,
    lengths: tuple[LengthError, ...],
    holds_for: int,
    recovered: Recovered,
    recovered_error: float,
    horizon_error: float,
    limits: Limits,
    moved: Moved | None,
) -> tuple[Verdict, tuple[str, ...]]:
    """The verdict, and its reasons: all that speaks against it, or all that is shown."""
    if not evidence.relative_loss <= limits.relative_loss:
        return "not identified", (
            f"The student's outputs are not the teacher's: its loss is {evidence.relative_loss:.1e} of the target's "
            f"power, above {limits.relative_loss:g}. Train longer, or give it more units.",
        )
    horizon, worst = lengths[-1].tokens, max(lengths, key=lambda length: length.error)
    against: list[str] = []
    if holds_for < horizon:
        held = f"within its limits over {holds_for:,} tokens, no further" if holds_for else "at no length"
        against.append(
            f"It is the teacher's attention {held}: at {worst.tokens:,} tokens its function is {worst.error:.1e} off over all "
            f"pairs of lags (limit {limits.function:g}), in runs of {horizon:,} tokens its outputs are {horizon_error:.1e} off "
            f"(limit {limits.long_run:g})."
        )
        against.extend(f"Over {horizon:,} tokens {reason}" for reason in recovered.reasons[1:])
    if not recovered_error <= limits.recovered and (len(recovered.attention.w_v) == 1 or against):
        against.append(f"The attention that can be read back misses the teacher's outputs by {recovered_error:.1e}.")
    for name, value in (("key-values", evidence.kv_score), ("queries", evidence.q_score)):
        if not value <= limits.score:
            against.append(f"Its units do not hold the {name}: a linear readout misses {value:.1e} of their variance.")
    if not evidence.polynomial_distance <= limits.distance:
        against.append(
            f"Off the training distribution it is another function: its polynomial is "
            f"{evidence.polynomial_distance:.1e} away from the teacher's."
        )
    if moved is not None and not max(moved) <= limits.moved:
        against.append(
            f"It is another network's function: the reduction moved the outputs by {moved.outputs:.1e} of their power on "
            f"held-out sequences and by {moved.at_horizon:.1e} in runs of {horizon:,} tokens, and the function by "
            f"{moved.function:.1e} over some number of them (limit {limits.moved:g})."
        )
    if against:
        return "function only", tuple(against)
    idle = f", and {evidence.other_units} in between do nothing" if evidence.other_units else ", and none is in between"
    return "identified", (
        f"It is the teacher's attention over {horizon:,} tokens: {worst.error:.1e} off over all pairs of lags, for any "
        f"input, from the weights alone; in runs of {horizon:,} held-out tokens its outputs are {horizon_error:.1e} off, "
        f"and its loss on held-out sequences is {evidence.relative_loss:.1e} of their power.",
        f"{evidence.memory_units} units that keep everything hold the key-values (1 - R^2 = {evidence.kv_score:.1e}), "
        f"{evidence.forget_units} that forget at once hold the query ({evidence.q_score:.1e}){idle}; "
        f"{evidence.readout_units} products read one with the other.",
        f"From one token it is the same polynomial, term by term ({evidence.polynomial_distance:.1e}); the attention "
        f"weights read back from it give the teacher's outputs to {recovered_error:.1e}.",
    )
