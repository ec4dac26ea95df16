"""TPGN: a forecaster that folds a series into rows of one period, and reads columns and rows apart."""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float

from dualform.arrays import accumulator, affine, count_parameters
from dualform.compiled import compiled
from dualform.errors import require
from dualform.mixers.fresh import uniform_affine
from dualform.mixers.pgn import PGN
from dualform.models.affine import check_affine


class TPGN(eqx.Module):
    """future[r', p] = w_o[r'] (short, long_p) + b_o[r'], of a past folded into rows r of one period, places p within it.

    long_p = w_long [PGN over the rows at place p, all rows] + b_long: a `PGN` along each column, whose rows one affine map
    reads. short = w_column [w_row [row r] + b_row, all rows] + b_column: each row, then all rows, mapped to one vector that
    every place shares. A token is the series's value with the marks of its time beside it.

    It is no causal mixer: it maps a whole past of fixed length to a whole future. Its recurrent part, the `PGN`, is one. The
    series may be brought to mean 0 and variance 1 first, and the forecast back.

    Several series, as published, have each their own weights: `eqx.filter_vmap` over models, `eqx.filter_vmap(TPGN.make)`
    over keys.

    **Arguments:** core: `PGN` of tokens of width 1 + marks, n wide; w_long, w_column (n, n rows): the columns belonging to one
    of the n numbers lie together; w_row (n, (1 + marks) period): those of one entry of a token lie together; b_long, b_row,
    b_column (n,); w_o (rows of the future, 2 n); b_o; normalise: whether to.

    **Raises:** `InputError` where the shapes do not fit.

    **Source:** Jia et al. 2024 (arXiv 2409.17703), the TPGN. Oracle: TPGN's `Model`.
    """

    core: PGN
    w_long: Float[Array, "n columns"] = eqx.field(converter=jnp.asarray)
    b_long: Float[Array, " n"] = eqx.field(converter=jnp.asarray)
    w_row: Float[Array, "n entries"] = eqx.field(converter=jnp.asarray)
    b_row: Float[Array, " n"] = eqx.field(converter=jnp.asarray)
    w_column: Float[Array, "n columns"] = eqx.field(converter=jnp.asarray)
    b_column: Float[Array, " n"] = eqx.field(converter=jnp.asarray)
    w_o: Float[Array, "future_rows both"] = eqx.field(converter=jnp.asarray)
    b_o: Float[Array, " future_rows"] = eqx.field(converter=jnp.asarray)
    normalise: bool = eqx.field(default=True, static=True)
    weight_decayed: ClassVar[tuple[str, ...]] = ("w_long", "w_row", "w_column", "w_o")

    def __check_init__(self):
        n, width = self.core.d_out, self.core.d_in
        for name, rows, of in (("long", self.w_long, n), ("column", self.w_column, n), ("row", self.w_row, width)):
            require(
                rows.ndim == 2 and rows.shape[1] >= of and rows.shape[1] % of == 0,
                f"w_{name} has shape {rows.shape}; its columns must be some of each of {of} numbers.",
            )
        check_affine("long", self.w_long, self.b_long, n, self.w_long.shape[1])
        check_affine("column", self.w_column, self.b_column, n, self.w_long.shape[1])
        check_affine("row", self.w_row, self.b_row, n, self.w_row.shape[1])
        check_affine("o", self.w_o, self.b_o, len(self.w_o) if self.w_o.ndim else 0, 2 * n)

    @classmethod
    def make(
        cls,
        past: int = 168,
        future: int = 168,
        *,
        key: Array,
        period: int = 24,
        n: int = 2,
        marks: int = 4,
        normalise: bool = True,
        dtype=None,
    ) -> "TPGN":
        """As published for ETTh1, 168 hours to 168: 431 numbers. The PGN's window is all rows but the last.

        Weights and biases are uniform, PyTorch's own, as in the public code. The paper's settings n and normalise: ETTh1 2
        and True (n = 8 for 1,440 hours), ETTh2 8, Weather 4, ECL 32, all three False, Traffic 128 and True (256 from 720
        hours on); the period is 24 for all. marks: 3 for daily, 4 for hourly, 5 for finer times.

        **Raises:** `InputError` where past or future are not whole periods, or the past is not two periods at least.
        """
        require(period >= 1, f"period is {period}; it must be at least 1 step.")
        for name, steps, least in (("past", past, 2), ("future", future, 1)):
            require(
                steps % period == 0 and steps >= least * period,
                f"{name} is {steps} steps; it must be whole periods of {period}, at least {least}.",
            )
        require(n >= 1 and marks >= 0, f"n is {n} and marks {marks}; n must be at least 1, marks at least 0.")
        rows, keys = past // period, jr.split(key, 5)
        return cls(
            PGN.make(1 + marks, key=keys[0], n=n, window=rows - 1, dtype=dtype),
            *uniform_affine(keys[1], n, n * rows, dtype),
            *uniform_affine(keys[2], n, (1 + marks) * period, dtype),
            *uniform_affine(keys[3], n, n * rows, dtype),
            *uniform_affine(keys[4], future // period, 2 * n, dtype),
            normalise,
        )

    @property
    def marks(self) -> int:
        """How many numbers mark a time."""
        return self.core.d_in - 1

    @property
    def period(self) -> int:
        """Steps in a row."""
        return self.w_row.shape[1] // self.core.d_in

    @property
    def past(self) -> int:
        """Steps that it reads."""
        return self.w_long.shape[1] // self.core.d_out * self.period

    @property
    def future(self) -> int:
        """Steps that it forecasts."""
        return len(self.w_o) * self.period

    @compiled
    def __call__(self, x: Float[Array, " past"], marks: Float[Array, "past marks"] | None = None) -> Array:
        """The future of one series, (future,), in the dtype of x.

        **Arguments:** x: (past,).  marks: (past, marks), such as hour and day scaled to +-0.5; not needed where there are none.

        **Raises:** `InputError` for other shapes, and for integers.
        """
        tokens, mean, scale = self.tokens(x, marks)
        n, rows = self.core.d_out, self.past // self.period
        walk = jax.vmap(lambda column: self.core(column)[0], in_axes=1, out_axes=1)
        walked = walk(tokens)  # rows, period, n
        long = affine(walked.transpose(1, 2, 0).reshape(self.period, n * rows), self.w_long, self.b_long)
        by_row = affine(tokens.transpose(0, 2, 1).reshape(rows, -1), self.w_row, self.b_row)
        short = affine(by_row.T.reshape(1, -1), self.w_column, self.b_column)
        read = affine(jnp.concatenate([jnp.broadcast_to(short, long.shape), long], axis=1), self.w_o, self.b_o)
        return (read.T.reshape(-1) * scale + mean).astype(x.dtype)

    def tokens(self, x, marks):
        """The past as (rows, period, 1 + marks), in float32 or wider, and the mean and scale that were taken out of it."""
        shape = getattr(x, "shape", None)
        require(shape == (self.past,), f"this TPGN reads one series of {self.past} steps; got shape {shape}.")
        require(
            jnp.issubdtype(x.dtype, jnp.floating), f"a TPGN takes real floating-point series; got {x.dtype}. Cast it."
        )
        if marks is None:
            marks = jnp.zeros((self.past, 0), x.dtype)
        shape, kind = getattr(marks, "shape", None), getattr(marks, "dtype", None)
        require(
            shape == (self.past, self.marks) and kind is not None and jnp.issubdtype(kind, jnp.floating),
            f"marks must be real numbers, ({self.past}, {self.marks}); got shape {shape} of {kind}.",
        )
        wide = accumulator(x.dtype, self.core.w_h.dtype)
        x, marks = x.astype(wide), marks.astype(wide)
        mean, scale = jnp.zeros((), wide), jnp.ones((), wide)
        if self.normalise:
            mean, scale = jnp.mean(x), jnp.sqrt(jnp.var(x) + 1e-5)
        seen = jnp.concatenate([((x - mean) / scale)[:, None], marks], axis=1)
        return seen.reshape(-1, self.period, self.core.d_in), mean, scale

    def parameters(self) -> int:
        """How many numbers it learns."""
        return count_parameters(self)
