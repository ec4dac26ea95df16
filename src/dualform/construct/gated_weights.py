"""What a target computes, as the plain arrays of a gated RNN: the common start of the constructions with sigmoids."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from dualform.construct.certificate import double_sum
from dualform.construct.low_rank import low_rank
from dualform.construct.wiring import Wiring
from dualform.errors import require
from dualform.mixers import GatedRNN, LinearAttention
from dualform.mixers.circuits import circuits

TOKENS = 64
"""The length of the sequences for which units are normalised and errors are measured."""


class GatedWeights(NamedTuple):
    """h_t = lam * h_{t-1} + (W_m^in z_t) * (W_x^in z_t), z = (x, 1), y_t = D ((W_m^out h_t) * (W_x^out h_t)); float64.

    nu: lam = exp(-exp(nu)), -inf for a lam of 1 and +inf for 0.
    """

    w_m_in: Float[np.ndarray, "n columns"]
    w_x_in: Float[np.ndarray, "n columns"]
    w_m_out: Float[np.ndarray, "m n"]
    w_x_out: Float[np.ndarray, "m n"]
    readout: Float[np.ndarray, "d_out m"]
    nu: Float[np.ndarray, " n"]

    @property
    def decay(self) -> Float[np.ndarray, " n"]:
        """lam, in [0, 1]."""
        return np.exp(-np.exp(np.minimum(self.nu, 10.0)))

    def outputs(self, x: Float[np.ndarray, "sequence time d"]) -> Float[np.ndarray, "sequence time d_out"]:
        """The recurrence as it is written, one token after the other: the specification of a construction."""
        z = np.concatenate([x, np.ones((*x.shape[:2], 1))], axis=2)
        drive = (z @ self.w_m_in.T) * (z @ self.w_x_in.T)
        h, y = np.zeros((len(x), len(self.nu))), []
        for t in range(x.shape[1]):
            h = self.decay[None] * h + drive[:, t]
            y.append(((h @ self.w_m_out.T) * (h @ self.w_x_out.T)) @ self.readout.T)
        return np.stack(y, axis=1)

    def state_power(self) -> Float[np.ndarray, "n n"]:
        """E[h_t h_t^T] for tokens x ~ N(0, 1), averaged over t = 1 ... 64; see `state_power`."""
        return state_power(self.w_m_in, self.w_x_in, self.decay)


def gated_weights(target: Any) -> GatedWeights:
    """The arrays of a `GatedRNN`, or those of the `low_rank` construction of a `LinearAttention`.

    An attention's queries are put in the branch that will be a sigmoid (W_m^out): they do not grow with time, as its
    memory does, so that the linearisation is as good for a long sequence as for a short one.

    **Raises:** `InputError` for another target, or weights that are not finite.
    """
    checked_target(target)
    if isinstance(target, LinearAttention):
        weights = low_rank(*circuits(target)).arrays()
        return GatedWeights(
            weights["w_m_in"],
            weights["w_x_in"],
            weights["w_x_out"],
            weights["w_m_out"],
            weights["readout"],
            _nu(weights["decay"]),
        )
    wide = lambda w: np.asarray(w).astype(np.float64)
    return GatedWeights(
        wide(target.w_m_in),
        wide(target.w_x_in),
        wide(target.w_m_out),
        wide(target.w_x_out),
        wide(target.readout),
        wide(target.nu) if target.given_decay is None else _nu(wide(target.given_decay)),
    )


def attention_wiring(attention: LinearAttention) -> Wiring:
    """The `low_rank` wiring of an attention: memory forms, and the queries that read them."""
    checked_target(attention)
    return low_rank(*circuits(attention))


def checked_target(target: Any) -> None:
    """`InputError` unless the target is a `LinearAttention` or a `GatedRNN` with finite weights."""
    require(
        isinstance(target, LinearAttention | GatedRNN),
        f"this construction starts from a LinearAttention or a GatedRNN; got {type(target).__name__}.",
    )
    names = ("w_v", "w_k", "w_q", "w_o") if isinstance(target, LinearAttention) else GatedWeights._fields[:5]
    for name in names:
        w = getattr(target, name)
        require(
            w is None or bool(np.isfinite(np.asarray(w).astype(np.float64)).all()),
            f"{name} holds a NaN or an infinity; a target with such weights has no outputs to write into an RNN.",
        )
    if isinstance(target, GatedRNN):
        decays = target.nu if target.given_decay is None else target.given_decay
        require(
            not bool(np.isnan(np.asarray(decays).astype(np.float64)).any()),
            "the decays hold a NaN; a target with such decays has no outputs to write into an RNN.",
        )


def exact_outputs(
    target: LinearAttention | GatedRNN, x: Float[np.ndarray, "sequence time d"]
) -> Float[np.ndarray, "sequence time d_out"]:
    """The target's outputs as its equation is written, in float64, without JAX."""
    return double_sum(target, x) if isinstance(target, LinearAttention) else gated_weights(target).outputs(x)


def state_power(
    w_m: Float[np.ndarray, "n columns"], w_x: Float[np.ndarray, "n columns"], decay: Float[np.ndarray, " n"]
) -> Float[np.ndarray, "n n"]:
    """E[h_t h_t^T] of h_t = lam * h_{t-1} + (w_m z_t) * (w_x z_t), x ~ N(0, 1), averaged over t = 1 ... 64, exactly.

    A drive is the quadratic form x^T A x + b x + c: its mean is tr A + c, and the covariance of two is 2 tr(A A') + b b'.
    """
    forms = (w_m[:, :, None] * w_x[:, None] + w_x[:, :, None] * w_m[:, None]) / 2
    a, b, c = forms[:, :-1, :-1], 2 * forms[:, :-1, -1], forms[:, -1, -1]
    mean = np.trace(a, axis1=1, axis2=2) + c
    covariance = 2 * np.einsum("ikl,jkl->ij", a, a) + b @ b.T
    total, h_mean, h_covariance = np.zeros_like(covariance), np.zeros_like(mean), np.zeros_like(covariance)
    for _ in range(TOKENS):
        h_mean = decay * h_mean + mean
        h_covariance = decay[:, None] * decay[None] * h_covariance + covariance
        total += h_covariance + h_mean[:, None] * h_mean[None]
    return total / TOKENS


def _nu(decay: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    with np.errstate(divide="ignore"):
        return np.log(-np.log(decay))
