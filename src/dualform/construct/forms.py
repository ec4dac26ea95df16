"""Attention -> RNN: the choice of a form, the exact fallback, and the certificate."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.random as jr
import numpy as np
from jaxtyping import Array

from dualform.construct.certificate import Certificate, certify
from dualform.construct.compact import compact
from dualform.construct.full import full
from dualform.construct.low_rank import TOLERANCE, least_hidden, low_rank
from dualform.construct.side_gated import side_gated
from dualform.errors import require
from dualform.mixers import GatedRNN, LinearAttention, SideGatedRNN
from dualform.mixers.circuits import circuits

FORMS = ("full", "compact", "low_rank", "side_gated")


class Construction(eqx.Module):
    """An RNN that is an attention, and the proof.

    - rnn: the network, in JAX's default float dtype.
    - asked, used: the form asked for and the form built.  reason: why they differ, else None.
    - certificate: its errors in float64 and its counts.
    """

    rnn: GatedRNN | SideGatedRNN
    certificate: Certificate
    asked: str = eqx.field(static=True)
    used: str = eqx.field(static=True)
    reason: str | None = eqx.field(static=True)


def build(
    attention: LinearAttention | Any,
    form: str = "compact",
    inputs: Any = None,
    *,
    key: Array | None = None,
    tolerance: float = TOLERANCE,
) -> Construction:
    """Write `attention` into the weights of an RNN, and certify it.

    | form | hidden units, one square head | pre-readout | serves |
    |---|---|---|---|
    | full | d^2 at 1, d at 0 | d^2 | any attention |
    | compact | d (d + 1) / 2 at 1, d at 0 | d (d + 1) / 2 | one head, values of full rank; else low_rank is built |
    | low_rank | the fewest that we can prove | | any attention |
    | side_gated | d^2 at 1 | d^2 | any attention |

    **Arguments:**

    - attention: a `LinearAttention`, any heads and sizes.
    - form: one of the table; "low-rank" and "side-gated" are understood.
    - inputs: (sequence, time, d), real data for the certificate; optional.
    - key: of the certificate's random input; `jr.key(0)` if not given.
    - tolerance: relative singular value that counts as 0; the error that low_rank may make.

    **Returns:** a `Construction`; where the form asked for does not fit, an exact other one, with the reason.

    **Raises:** `InputError` for anything but a `LinearAttention`, an unknown form, weights or inputs that are not
    finite.

        >>> import jax.random as jr
        >>> from dualform import construct, mixers
        >>> attention = mixers.LinearAttention.make(4, heads=1, key=jr.key(0))
        >>> built = construct.build(attention, "compact")
        >>> counts = built.certificate
        >>> counts.memory_units, counts.forget_units, counts.readout_units, counts.parameters
        (10, 4, 10, 474)
        >>> counts.error < 1e-12
        True
    """
    make, least, used, reason = _plan(attention, form, tolerance)
    certificate = certify(make, attention, least, inputs, key=jr.key(0) if key is None else key)
    return Construction(make(), certificate, asked=form.replace("-", "_"), used=used, reason=reason)


def gated_rnn(attention: LinearAttention | Any, form: str = "compact") -> GatedRNN:
    """The gated RNN alone, without a certificate; `build` says whether and why it fell back.

    **Arguments:** form: "full", "compact" or "low_rank".

    **Raises:** as `build`.
    """
    require(
        form.replace("-", "_") != "side_gated",
        "a side-gated RNN is no GatedRNN; call side_gated_rnn(attention) instead.",
    )
    rnn = _plan(attention, form, TOLERANCE)[0]()
    assert isinstance(rnn, GatedRNN)
    return rnn


def side_gated_rnn(attention: LinearAttention | Any) -> SideGatedRNN:
    """The side-gated RNN y = D (h * W x) that is `attention`, without a certificate.

    **Raises:** as `build`.
    """
    rnn = _plan(attention, "side_gated", TOLERANCE)[0]()
    assert isinstance(rnn, SideGatedRNN)
    return rnn


def _plan(
    attention: Any, form: str, tolerance: float
) -> tuple[Callable[..., GatedRNN | SideGatedRNN], tuple[int, int], str, str | None]:
    """The maker of the network, the lower bounds, the form used and the reason, once all is known to be usable."""
    require(
        isinstance(attention, LinearAttention),
        f"a construction starts from a LinearAttention; got {type(attention).__name__}. "
        "Wrap the weights: mixers.LinearAttention(w_v, w_k, w_q).",
    )
    asked = form.replace("-", "_")
    require(asked in FORMS, f"there is no form {form!r}; the forms are {', '.join(FORMS)}.")
    for name in ("w_v", "w_k", "w_q", "w_o"):
        w = getattr(attention, name)
        require(
            w is None or bool(np.isfinite(np.asarray(w).astype(np.float64)).all()),
            f"{name} holds a NaN or an infinity; an attention with such weights has no outputs to write into an RNN.",
        )
    v, c = circuits(attention)
    least = least_hidden(v, c, tolerance)
    reason = _unfit_for_compact(v, tolerance) if asked == "compact" else None
    used = asked if reason is None else "low_rank"
    if used == "side_gated":
        return lambda dtype=None: side_gated(attention, dtype), least, used, reason
    wiring = (
        full(attention) if used == "full" else compact(v[0], c[0]) if used == "compact" else low_rank(v, c, tolerance)
    )
    return wiring.rnn, least, used, reason


def _unfit_for_compact(output_value: np.ndarray, tolerance: float) -> str | None:
    """Why one symmetric state of all of x is not the form for these values, or None where it is."""
    heads, _, d = output_value.shape
    if heads > 1:
        return f"compact is for one head and there are {heads}; low_rank is exact and shares one memory between them."
    singular = np.linalg.svd(output_value[0], compute_uv=False)
    rank = int(np.sum(singular > tolerance * singular[0]))
    if rank < d:
        return (
            f"the values have rank {rank} for tokens of width {d} (W_V is singular or has too few rows), so a part of "
            "compact's symmetric state would never be read; low_rank is exact and leaves it out."
        )
    return None
