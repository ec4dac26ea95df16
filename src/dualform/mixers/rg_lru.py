"""The real-gated linear recurrent unit of Hawk and Griffin."""

from dataclasses import KW_ONLY
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, Int

from dualform.arrays import TimeMask, accumulator, project
from dualform.maps import AttentionMap, Diagonal, Frozen, Identity
from dualform.mixers.declared import array
from dualform.mixers.heads import split_width
from dualform.mixers.mixer import AbstractMixer
from dualform.mixers.registration import register
from dualform.segments import Segments

EXPONENT = 8.0
"""c: the gate r moves the decay between 1 and sigma(-lam)^c."""

STEEPEST = 1000.0
"""The largest gradient that the square root passes on, as published: that of sqrt(1 - a^2) is unbounded as a nears 1."""


@register("rg_lru")
class RGLRU(AbstractMixer):
    """h_t = a_t * h_{t-1} + sqrt(1 - a_t^2) * (i_t * x_t),  a_t = exp(-8 softplus(lam) * r_t),  y_t = h_t.

    r = sigma(W_a x + b_a) and i = sigma(W_x x + b_x), W_a and W_x block-diagonal, one block for each head. The first token
    of a document has nothing before it and is not scaled down: sqrt(1 - a^2) is 1 there, at a `start` and at the first
    token that a fresh state meets; so the state is h and a flag, 1 once a token has been seen. The gradient of the square
    root is bounded by 1,000; its value is exact.

    **Arguments:** w_a, w_x (head, block, block): rows give, columns read; b_a, b_x (head, block); lam (head * block,).

    **Raises:** `InputError` where the shapes do not fit.

    **Source:** De et al. 2024 (arXiv 2402.19427), Sec. 2.4. Oracle: recurrentgemma's `torch.layers.RGLRU`.
    """

    _: KW_ONLY
    w_a: Float[Array, "head block block"] = eqx.field(converter=array)
    w_x: Float[Array, "head block block"] = eqx.field(converter=array)
    b_a: Float[Array, "head block"] = eqx.field(converter=array)
    b_x: Float[Array, "head block"] = eqx.field(converter=array)
    lam: Float[Array, " head*block"] = eqx.field(converter=array)
    linear_given_gates: ClassVar[bool] = True
    weight_decayed = ("w_a", "w_x")

    @classmethod
    def make(cls, d: int, *, key: Array, heads: int = 2, dtype=None) -> "RGLRU":
        """Blocks of variance 1 / block, biases of 0, and sigma(-lam)^2 uniform in (0.9^2, 0.999^2).

        That is recurrentgemma's code; the paper's text has sigma(-lam)^8 between 0.9 and 0.999.
        """
        keys, dtype, block = jr.split(key, 3), dtype or float, split_width(d, heads)
        log_decay = 0.5 * jnp.log(jr.uniform(keys[2], (d,), float, 0.9**2, 0.999**2))
        lam = jnp.log(jnp.expm1(-log_decay)).astype(dtype)
        zeros = jnp.zeros((heads, block), dtype)
        return cls(**cls.matrices(keys[:2], dtype, head=heads, block=block), b_a=zeros, b_x=zeros, lam=lam)

    @property
    def d_in(self) -> int:
        """Width of a token."""
        return self.dim("head*block")

    @property
    def d_out(self) -> int:
        """Width of the output: that of a token."""
        return self.d_in

    def init_state(self):
        """h = 0, (n,), and 0: no token has been seen."""
        return jnp.zeros(len(self.lam), accumulator(self.lam.dtype)), jnp.zeros((), jnp.int32)

    def at(self, x, state, segments):
        """h_t = a_t * h_{t-1} + (sqrt(1 - a_t^2) * i_t) * x_t, from the first token that there is with a = 0."""
        h, seen = state
        logits = _blocks(x, self.w_a, self.b_a), _blocks(x, self.w_x, self.b_x)
        # The barrier, or a CPU's compiler takes all that follows in the order of the products: twice as slow.
        r, i = (jax.nn.sigmoid(each) for each in jax.lax.optimization_barrier(logits))
        log_a = -EXPONENT * jax.nn.softplus(self.lam.astype(r.dtype))[None] * r
        first = _first_tokens(len(x), seen, **segments.flags)
        scale = bounded_sqrt(-jnp.expm1(2 * log_a))
        write = jnp.where(first[:, None], jnp.ones_like(scale), scale) * i
        memory = Diagonal(jnp.exp(log_a), h, Segments(first, segments.mask), write)
        y, h = memory.run(x)
        seen = (
            jnp.ones_like(seen)
            if segments.mask is None
            else jnp.where(jnp.any(segments.mask), jnp.ones_like(seen), seen)
        )
        return Frozen(y, (h, seen), AttentionMap(Identity(), memory, Identity()))


@jax.custom_jvp
def bounded_sqrt(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """sqrt(x), whose derivative is 1 / (2 sqrt(x)) where that is below `STEEPEST`, and `STEEPEST` where it is not."""
    return jnp.sqrt(x)


@bounded_sqrt.defjvp
def _bounded_sqrt_jvp(primals, tangents):
    (x,), (dx,) = primals, tangents
    return bounded_sqrt(x), dx * jax.lax.rsqrt(jnp.maximum(4 * x, STEEPEST**-2))


def _blocks(x: Float[Array, "time n"], w: Float[Array, "head block block"], b: Float[Array, "head block"]):
    """W x_t + b for each token, W block-diagonal, (time, n)."""
    y = jax.vmap(project, in_axes=(1, 0), out_axes=1)(x.reshape(len(x), *b.shape), w)
    y = jax.lax.optimization_barrier(y.reshape(len(x), -1))  # the same, for the gradient
    return y + b.astype(y.dtype).reshape(1, -1)


def _first_tokens(
    time: int, seen: Int[Array, ""], start: TimeMask | None, mask: TimeMask | None
) -> Bool[Array, " time"]:
    """Where a document begins: at a start, and at the first token that is there if the state has seen none."""
    present = jnp.ones(time, bool) if mask is None else mask
    first = present & (jnp.cumsum(present.astype(jnp.int32)) == 1) & (seen == 0)
    return first if start is None else first | (start & present)
