"""How good a linearised construction is at each scale, in each dtype, and the scale that is best."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, Float

from dualform.construct.certificate import difference
from dualform.construct.gated_weights import TOKENS, checked_target, exact_outputs
from dualform.construct.linearised import with_bias
from dualform.errors import require
from dualform.mixers import AbstractMixer, GatedRNN, LinearAttention
from dualform.models import Stack

SCALES = tuple(2.0**-k for k in range(-1, 25))
"""Powers of two: a scale then costs no rounding of its own."""

Parts: TypeAlias = tuple[Array, tuple[AbstractMixer, ...], Array]
"""Embedding, layers and readout of a stack."""

DTYPES = ("float32", "float64")


@dataclass(frozen=True)
class Curve:
    """The error of a construction against its linearisation scale.

    - scales: as asked for.  errors: for each dtype, ||stack(x) - target(x)|| / ||target(x)|| at each scale.
    - best: for each dtype, the scale of the smallest error.
    """

    scales: tuple[float, ...]
    errors: dict[str, tuple[float, ...]]
    best: dict[str, float]

    def floor(self, dtype: str) -> float:
        """The smallest error in a dtype: where the linearisation's error and rounding meet."""
        return min(self.errors[dtype])


def linearisation_curve(
    make: Callable[[float, Any], Stack],
    target: LinearAttention | GatedRNN | Any,
    scales: Sequence[float] = SCALES,
    dtypes: Sequence[str] = DTYPES,
    *,
    key: Array | None = None,
) -> Curve:
    """The error of `make(scale, dtype)` against the float64 target, x ~ N(0, 1), 4 sequences of 64 tokens.

    Compiled once for each dtype: the scales change numbers, not shapes.

    **Arguments:** make: the construction as a `Stack`; target: what it is a construction of; key: of the tokens,
    `jr.key(0)` if not given.

    **Returns:** a `Curve`; an error that is not finite is infinite.

    **Raises:** `InputError` for another target, no scale, or a dtype that is not float32 or float64.

        >>> import jax.random as jr
        >>> from dualform import construct, mixers
        >>> rnn = mixers.GatedRNN.make(2, key=jr.key(0))
        >>> make = lambda scale, dtype: construct.lru(rnn, "in_out", scale=scale, dtype=dtype)
        >>> curve = construct.linearisation_curve(make, rnn, scales=(2**-4, 2**-5), dtypes=("float64",))
        >>> coarse, fine = curve.errors["float64"]
        >>> 3.9 < coarse / fine < 4.1
        True
    """
    checked_target(target)
    require(len(scales) > 0, "there is no scale to measure; give at least one.")
    for scale in scales:
        require(0 < scale < np.inf, f"the linearisation scale is {scale!r}; it must be a positive number.")
    names = [dtype_name(dtype) for dtype in dtypes]
    x = random_tokens(target.d_in, jr.key(0) if key is None else key)
    expected = exact_outputs(target, x)
    errors = {
        name: tuple(error_on(lambda dtype, s=s: make(s, dtype), name, x, expected) for s in scales) for name in names
    }
    best = {name: float(scales[int(np.argmin(found))]) for name, found in errors.items()}
    return Curve(tuple(float(s) for s in scales), errors, best)


def best_scale(make: Callable[[float, Any], Stack], target: LinearAttention | GatedRNN, dtype: Any) -> float:
    """The power of two with the smallest error in this dtype: first among those of `SCALES` 16 apart, then around it.

    The error falls with the scale until rounding wins, and rises from there: there is one valley to find.
    """
    name = dtype_name(dtype)
    search = lambda scales: linearisation_curve(make, target, scales, (name,)).best[name]
    near = search(SCALES[1::4])
    return search([near * 2.0**k for k in range(-3, 4)])


def stack_error(
    make: Callable[[Any], Stack], target: LinearAttention | GatedRNN, dtype: str, *, key: Array | None = None
) -> float:
    """The relative error of one construction, `make(dtype)`, on random tokens: a point of the curve."""
    x = random_tokens(target.d_in, jr.key(0) if key is None else key)
    return error_on(make, dtype_name(dtype), x, exact_outputs(target, x))


def random_tokens(d: int, key: Array) -> Float[np.ndarray, "sequence time d"]:
    """4 sequences of 64 tokens N(0, 1), float64 numbers that float32 holds too, so that no error is the input's."""
    return np.asarray(jr.normal(key, (4, TOKENS, d), jnp.float32)).astype(np.float64)


def dtype_name(dtype: Any) -> str:
    """The dtype's name, of JAX's default for None; `InputError` but for float32 and float64: fewer bits leave too little."""
    name = jnp.zeros((), float).dtype.name if dtype is None else np.dtype(dtype).name
    require(name in DTYPES, f"the weights are asked for in {name}; a linearised sigmoid needs float32 or float64.")
    return name


def check_dtype(dtype: Any) -> None:
    """`InputError` unless weights can be had in this dtype here and now."""
    require(
        dtype_name(dtype) == "float32" or bool(jax.config.read("jax_enable_x64")),
        "the weights are asked for in float64 and JAX is set to float32; enable it: with jax.enable_x64(True): ...",
    )


def error_on(make: Callable[[Any], Stack], dtype: str, x: np.ndarray, expected: np.ndarray) -> float:
    """The relative error of `make(dtype)` on given tokens, run in that dtype; infinite where it is not finite."""
    with jax.enable_x64(dtype == "float64"):
        found = np.asarray(_run(make(dtype), jnp.asarray(x, dtype))).astype(np.float64)
    error = difference(found, expected)
    return error if np.isfinite(error) else float("inf")


def caster(dtype: Any) -> Callable[[Any], Array]:
    """What makes a JAX array of this dtype, of JAX's default for None."""
    return lambda w: jnp.asarray(w, dtype or float)


def behind_identity(layers: tuple[AbstractMixer, ...], readout: np.ndarray, cast: Callable[[Any], Array]) -> Parts:
    """The layers behind an embedding that changes nothing."""
    return cast(with_bias(np.eye(layers[0].d_in))), layers, cast(with_bias(readout))


def checked_once(parts: Callable[[float, Any], Parts]) -> Callable[[float, Any], Stack]:
    """The stacks of one construction at any scale, from embedding, layers and readout.

    A `Stack` finds its layers' widths by tracing them, much slower than writing their weights. A scale changes numbers, not
    shapes: the first stack is checked, the others take its structure.
    """
    structure: list[Any] = []

    def make(scale: float, dtype: Any) -> Stack:
        embedding, layers, readout = parts(scale, dtype)
        if not structure:
            structure.append(jtu.tree_structure(Stack(embedding, layers, readout)))
        return jtu.tree_unflatten(structure[0], jtu.tree_leaves((embedding, layers, readout)))

    return make


@eqx.filter_jit
def _run(stack: Stack, x: Float[Array, "sequence time d"]) -> Float[Array, "sequence time d_out"]:
    return jax.vmap(lambda x: stack(x)[0])(x)
