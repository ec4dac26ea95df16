"""What a construction is worth: its error against the attention's own double sum, and what it costs."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float

from dualform.arrays import count_parameters
from dualform.errors import require
from dualform.mixers import GatedRNN, LinearAttention, SideGatedRNN


class Certificate(eqx.Module):
    """The number that proves a construction, and its counts.

    - random_error: ||rnn(x) - attention(x)|| / ||attention(x)|| in float64, x ~ N(0, 1), 4 sequences of 64 tokens.
    - input_error: the same on the given inputs; None where none were given.
    - memory_units, forget_units: hidden units at lam = 1 and at lam = 0.  readout_units: pre-readout units.
    - parameters: of the network, its decays included where it has any.  attention_parameters: of the teacher.
    - least_memory, least_forget: no gated RNN that computes this attention has fewer (`construct.low_rank` proves it).
    """

    random_error: float
    input_error: float | None
    memory_units: int
    forget_units: int
    readout_units: int
    parameters: int
    attention_parameters: int
    least_memory: int
    least_forget: int

    @property
    def error(self) -> float:
        """The larger of the errors measured."""
        return max(self.random_error, self.input_error or 0.0)


def double_sum(
    attention: LinearAttention, x: Float[np.ndarray, "sequence time d"]
) -> Float[np.ndarray, "sequence time d_out"]:
    """y_t = sum_{s<=t} v_s (k_s . q_t), summed as it is written, in float64: the specification of a construction."""
    w_v, w_k, w_q = (np.asarray(w).astype(np.float64) for w in (attention.w_v, attention.w_k, attention.w_q))
    v, k, q = (np.einsum("btd,hrd->bhtr", x, w) for w in (w_v, w_k, w_q))
    y = np.tril(q @ k.swapaxes(-1, -2)) @ v
    y = y.swapaxes(1, 2).reshape(*x.shape[:2], -1)
    return y if attention.w_o is None else y @ np.asarray(attention.w_o).astype(np.float64).T


@eqx.filter_jit
def _run(rnn: GatedRNN | SideGatedRNN, x: Float[Array, "sequence time d"]) -> Float[Array, "sequence time d_out"]:
    return jax.vmap(lambda x: rnn(x)[0])(x)


def measured_error(
    make: Callable[..., GatedRNN | SideGatedRNN], attention: LinearAttention, x: Float[np.ndarray, "sequence time d"]
) -> float:
    """The relative error of `make(float64)` on x, run in float64 whatever JAX's default is."""
    with jax.enable_x64(True):
        rnn = make(jnp.float64)
        found = np.asarray(_run(rnn, jnp.asarray(x, jnp.float64)))
    return difference(found, double_sum(attention, x))


def difference(found: Float[np.ndarray, "*shape"], expected: Float[np.ndarray, "*shape"]) -> float:
    """||found - expected|| / ||expected||, the plain norm where `expected` is 0: in NumPy, and so in float64 always."""
    power = np.linalg.norm(expected)
    return float(np.linalg.norm(found - expected) / (power if power else 1.0))


def certify(
    make: Callable[..., GatedRNN | SideGatedRNN],
    attention: LinearAttention,
    least: tuple[int, int],
    inputs: Any = None,
    *,
    key: Array,
) -> Certificate:
    """The certificate of the network that `make(dtype)` gives.

    **Arguments:**

    - least: the lower bounds on units at 1 and at 0.
    - inputs: (sequence, time, d) or (time, d), real data to be measured too; optional.
    - key: of the random inputs.

    **Raises:** `InputError` for inputs of another shape, or not finite.
    """
    with jax.enable_x64(True):
        x = np.asarray(jr.normal(key, (4, 64, attention.d_in), jnp.float64))
    given = None if inputs is None else checked_inputs(inputs, attention.d_in)
    rnn = make(None)
    decay = np.asarray(rnn.decay)
    return Certificate(
        random_error=measured_error(make, attention, x),
        input_error=None if given is None else measured_error(make, attention, given),
        memory_units=int(np.sum(decay == 1)),
        forget_units=int(np.sum(decay == 0)),
        readout_units=rnn.readout.shape[1],
        # The decays of a construction are given, so no parameters that are learned; of its size they are a part.
        parameters=count_parameters(rnn) + (0 if rnn.given_decay is None else rnn.given_decay.size),
        attention_parameters=count_parameters(attention),
        least_memory=least[0],
        least_forget=least[1],
    )


def checked_inputs(inputs: Any, d: int) -> Float[np.ndarray, "sequence time d"]:
    """Inputs as (sequence, time, d) float64, or an `InputError` that says what they are."""
    x = np.asarray(inputs).astype(np.float64)
    x = x[None] if x.ndim == 2 else x
    require(
        x.ndim == 3 and x.shape[2] == d and 0 not in x.shape,
        f"the inputs have shape {np.shape(inputs)}; this attention takes (sequence, time, {d}), at least one token.",
    )
    require(bool(np.isfinite(x).all()), "the inputs hold a NaN or an infinity; remove those tokens first.")
    return x
