"""Regressors and classifiers of sequences: a linear map in, residual blocks, and a linear map out."""

from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float

from dualform.arrays import State, affine
from dualform.described import HOW
from dualform.errors import require
from dualform.layer import Layer
from dualform.maps import Frozen, Linear
from dualform.mixers.declared import optional_array
from dualform.models.affine import check_affine
from dualform.models.block import check_blocks
from dualform.models.chain import in_turn, product
from dualform.models.depth import AbstractDeep, Depth
from dualform.models.model import Stages
from dualform.models.norm import LayerNorm, RMSNorm
from dualform.models.stages import Affine, Pool
from dualform.segments import Segments

POOLS = ("none", "mean", "last")


class SequenceModel(AbstractDeep):
    """y = W_out pool(norm(block_L(... block_1(W_in x + b_in) ...))) + b_out.

    With pool "none" there is an output for each token. With "mean" or "last" there is one for the last document: of the mean
    of what the blocks give over its tokens so far, or of its last token.

    **Arguments:** w_in (d, d_in), b_in (d,) or None; blocks: each d wide; w_out (d_out, d), b_out (d_out,) or None; norm: the
    final one, or None; pool: "none", "mean" or "last"; depth: how the blocks are run, see `with_depth`.

    **Raises:** `InputError` where widths do not fit, or for another pool.
    """

    w_in: Float[Array, "d d_in"] = eqx.field(converter=jnp.asarray)
    b_in: Float[Array, " d"] | None = eqx.field(converter=optional_array)
    blocks: tuple[Any, ...] = eqx.field(converter=tuple)
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
            self.norm is None or self.norm.d_in == d,
            f"norm is {None if self.norm is None else self.norm.d_in} wide; the blocks give {d}.",
        )
        require(self.pool in POOLS, f"there is no pool {self.pool!r}; there are {', '.join(POOLS)}.")

    @classmethod
    def make(
        cls,
        blocks: tuple[Layer, ...],
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

    def stages(self) -> Stages:
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

    def split(self, state):
        """The blocks' states, then the pool's."""
        return super().split(state if self.pool == "none" else (*state[0], state[1]))

    def joined(self, states):
        """One state for each block; where it pools, also the sum (or the last) of what was read, and of how many tokens."""
        own = super().joined(states)
        return own if self.pool == "none" else (own[:-1], own[-1])

    def at(self, x, state, segments):
        """As its stages; where it pools, the output at the last token that is there."""
        if self.pool == "none":
            return super().at(x, state, segments)
        stages, states = [stage for _, stage in self.stages()], self.split(state)
        *below, pool, readout = stages
        passes = in_turn(below, states[:-2], x, segments)
        y, after = self._pooled(passes[-1].y, states[-2], segments)
        whole, kind = product(passes)
        whole = Linear(readout.w, readout.b) @ pool.map_at(len(x), states[-2], segments) @ whole
        here = jnp.ones(len(x), bool) if segments.mask is None else segments.mask
        rows = here & (jnp.cumsum(here[::-1])[::-1] == 1)
        return Frozen(y, self.joined([*(each.state for each in passes), after, ()]), whole, kind, rows)

    def behind(self, x, states, segments):
        """As its stages; where it pools, the output at the last token that is there."""
        if self.pool == "none":
            return super().behind(x, states, segments)
        norm = () if self.norm is None else (self.norm,)
        passes = in_turn(norm, [()] * len(norm), x, segments)
        y, after = self._pooled(passes[-1].y if passes else x, states[-2], segments)
        return y.astype(x.dtype), [*([()] * len(norm)), after, ()]

    def _pooled(
        self, h: Float[Array, "time d"], state: State, segments: Segments
    ) -> tuple[Float[Array, " d_out"], State]:
        """What is read of all that was pooled, in float32 or wider, and what the pool remembers."""
        stages = dict(self.stages())
        last, after = stages["pool"].last(h, state, segments)
        return affine(last[None], self.w_out, self.b_out)[0], after
