"""Regressors and classifiers of sequences: a linear map in, residual blocks, and a linear map out."""

from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float

from dualform.arrays import State, accumulator, affine
from dualform.compiled import compiled
from dualform.described import HOW
from dualform.errors import require
from dualform.finite import token_by_token
from dualform.maps import present
from dualform.mixers.affine import check_affine
from dualform.mixers.declared import optional_array
from dualform.models.block import Block, check_blocks, check_call
from dualform.models.depth import Depth, through
from dualform.models.norm import LayerNorm, RMSNorm
from dualform.models.stages import Affine, Pool
from dualform.models.stepped import AbstractStepped, check_activations

POOLS = ("none", "mean", "last")


class SequenceModel(AbstractStepped):
    """y = W_out pool(norm(block_L(... block_1(W_in x + b_in) ...))) + b_out.

    With pool "none" there is an output for each token. With "mean" or "last" there is one for the last document: of the mean
    of what the blocks give over its tokens so far, or of its last token.

    **Arguments:** w_in (d, d_in), b_in (d,) or None; blocks: each d wide; w_out (d_out, d), b_out (d_out,) or None; norm: the
    final one, or None; pool: "none", "mean" or "last"; depth: how the blocks are run, see `with_depth`.

    **Raises:** `InputError` where widths do not fit, or for another pool.
    """

    w_in: Float[Array, "d d_in"] = eqx.field(converter=jnp.asarray)
    b_in: Float[Array, " d"] | None = eqx.field(converter=optional_array)
    blocks: tuple[Block, ...] = eqx.field(converter=tuple)
    w_out: Float[Array, "d_out d"] = eqx.field(converter=jnp.asarray)
    b_out: Float[Array, " d_out"] | None = eqx.field(converter=optional_array)
    norm: RMSNorm | LayerNorm | None = None
    pool: str = eqx.field(default="none", static=True)
    depth: Depth = eqx.field(default=Depth(), static=True, metadata={HOW: True}, kw_only=True)
    weight_decayed: ClassVar[tuple[str, ...]] = ("w_in", "w_out")

    def __check_init__(self):
        require(
            self.w_in.ndim == self.w_out.ndim == 2 and 0 not in (*self.w_in.shape, *self.w_out.shape),
            f"w_in {self.w_in.shape} and w_out {self.w_out.shape} must be (d, d_in) and (d_out, d), none of them 0.",
        )
        d = len(self.w_in)
        check_affine("in", self.w_in, self.b_in, *self.w_in.shape)
        check_affine("out", self.w_out, self.b_out, len(self.w_out), d)
        check_blocks(self.blocks, d, "map in")
        require(
            self.norm is None or self.norm.d == d,
            f"norm is {None if self.norm is None else self.norm.d} wide; the blocks give {d}.",
        )
        require(self.pool in POOLS, f"there is no pool {self.pool!r}; there are {', '.join(POOLS)}.")

    @classmethod
    def make(
        cls,
        blocks: tuple[Block, ...],
        d_in: int,
        d_out: int,
        *,
        key: Array,
        norm: RMSNorm | LayerNorm | None = None,
        pool: str = "none",
        dtype=None,
    ) -> "SequenceModel":
        """Maps of variance 1 / fan-in, biases of 0."""
        require(len(blocks) >= 1, "a model needs at least one block.")
        keys, d, dtype = jr.split(key), blocks[0].d_in, dtype or float
        draw = lambda key, rows, columns: jr.normal(key, (rows, columns), dtype) / columns**0.5
        zeros = lambda rows: jnp.zeros(rows, dtype)
        return cls(draw(keys[0], d, d_in), zeros(d), blocks, draw(keys[1], d_out, d), zeros(d_out), norm, pool)

    @property
    def d_in(self) -> int:
        """Width of a token."""
        return self.w_in.shape[1]

    @property
    def d_out(self) -> int:
        """Width of the output."""
        return len(self.w_out)

    def stages(self) -> tuple[tuple[str, Any], ...]:
        """The chain from the tokens to the outputs, (time, d_in) -> (time, d_out): each stage with its name.

        Where the model pools, the chain gives at each token the output of all that was read so far, as a step does; the
        model's own output is that at the last token that is there.
        """
        blocks = tuple((f"block {i + 1}", block) for i, block in enumerate(self.blocks))
        norm = () if self.norm is None else (("norm", self.norm),)
        pool = () if self.pool == "none" else (("pool", Pool(len(self.w_in), self.pool, self.w_in.dtype)),)
        return (
            ("embed", Affine(self.w_in, self.b_in)),
            *blocks,
            *norm,
            *pool,
            ("readout", Affine(self.w_out, self.b_out)),
        )

    def init_state(self) -> State:
        """One state for each block; where it pools, also the sum (or the last) of what was read, and of how many tokens."""
        states = tuple(block.init_state() for block in self.blocks)
        if self.pool == "none":
            return states
        return states, (jnp.zeros(len(self.w_in), accumulator(self.w_in.dtype)), jnp.zeros((), jnp.int32))

    @compiled
    def __call__(
        self,
        x: Float[Array, "time d_in"],
        state: State | None = None,
        *,
        start: Bool[Array, " time"] | None = None,
        mask: Bool[Array, " time"] | None = None,
    ) -> tuple[Float[Array, "*time d_out"], State]:
        """The whole sequence at once.

        **Arguments:** as of a mixer's call.

        **Returns:** y, (time, d_out), or (d_out,) where it pools, in the dtype of x, and the state after the last token.

        **Raises:** `InputError`, as of a mixer's call.
        """
        check_activations(x, self.d_in, "this model")
        state = self.init_state() if state is None else state
        check_call(len(x), start, mask, self, state, "model")
        before, pooled = (state, None) if self.pool == "none" else state
        h = token_by_token(lambda x: affine(x, self.w_in, self.b_in).astype(x.dtype), present(x, mask), start)
        h, after = through(self.blocks, present(h, mask), before, start, mask, self.depth)
        h = h if self.norm is None else token_by_token(self.norm, h, start)
        if pooled is None:
            return present(
                token_by_token(lambda h: affine(h, self.w_out, self.b_out), h, start).astype(x.dtype), mask
            ), after
        total, count = self._pooled(h, pooled, start, mask)
        one = jnp.maximum(count, 1).astype(total.dtype)
        mean = total / one if self.pool == "mean" else total
        return affine(mean[None], self.w_out, self.b_out)[0].astype(x.dtype), (after, (total, count))

    def _pooled(self, h: Float[Array, "time d"], before: Any, start, mask) -> tuple[Array, Array]:
        """The sum of the last document's tokens so far, or the last of them, and how many there were."""
        total, count = before
        here = jnp.ones(len(h), bool) if mask is None else mask
        begun = jnp.zeros(len(h), bool) if start is None else start & here
        document = jnp.cumsum(begun.astype(jnp.int32))
        own = here & (document == document[-1])
        fresh = document[-1] > 0
        total = jnp.where(fresh, jnp.zeros_like(total), total)
        count = jnp.where(fresh, jnp.zeros_like(count), count) + jnp.sum(own, dtype=jnp.int32)
        h = h.astype(total.dtype)
        if self.pool == "mean":
            return total + jnp.sum(jnp.where(own[:, None], h, jnp.zeros_like(h)), axis=0), count
        last = len(h) - 1 - jnp.argmax(own[::-1])
        return jnp.where(jnp.any(own), h[last], total), count
