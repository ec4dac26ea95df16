"""A GRU that reads and a GRU that goes on from where it ended: as one layer over what is read and what is written."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float

from dualform.arrays import State, project
from dualform.errors import require
from dualform.maps import NONLINEAR, Called, Frozen, present
from dualform.mixers import GRU
from dualform.mixers.freezing import tanh_slope
from dualform.models.chain import wide_of
from dualform.recurrences.cell import cell


class EncoderDecoder(eqx.Module):
    """y_t = encoder(x)_t while the last channel of x_t is 0, then decoder(x)_t, which starts from the encoder's last state.

    A sequence is what is read, then what is written: a token that is read after one that is written is refused where that
    can be seen. Frozen, each step keeps its gates r and z and the slope of its tanh, s = tanh(v) / v, and h stays a variable:

        h_t = z h_{t-1} + (1 - z) s (U x_t + b + r (V h_{t-1} + b_h))

    which is affine in all tokens through the whole matrix V, so that what a token does to what is written later through the
    candidates is in its contribution; what it does to later gates is frozen.

    **Arguments:** encoder, decoder: in torch's form (b_h given), of one width in and one width out.

    **Raises:** `InputError` where they are not.
    """

    encoder: GRU
    decoder: GRU

    def __check_init__(self):
        widths = [(gru.d_in, gru.d_out) for gru in (self.encoder, self.decoder)]
        require(
            widths[0] == widths[1],
            f"encoder and decoder are of widths {widths[0]} and {widths[1]}; they must be one's.",
        )
        require(
            self.encoder.b_h is not None and self.decoder.b_h is not None,
            "both GRUs must be of torch's form, with the bias b_h.",
        )

    def init_state(self) -> State:
        """h = 0, (n,)."""
        return self.encoder.init_state()

    def __call__(
        self, x: Float[Array, "time width"], state: State | None = None, *, start: Any = None, mask: Any = None
    ) -> tuple[Float[Array, "time n"], State]:
        """Every h, and the last one."""
        x, writes, reads = _parts(x, start, mask)
        read, h = self.encoder(x, self.init_state() if state is None else state, mask=reads)
        written, h = self.decoder(x, h, mask=writes)
        return read + written, h

    def frozen(
        self, x: Float[Array, "time width"], state: State | None = None, start: Any = None, mask: Any = None
    ) -> Frozen:
        """The call and its map, see the class."""
        before = self.init_state() if state is None else state
        y, after = self(x, before, start=start, mask=mask)
        tokens, writes, reads = _parts(x, start, mask)
        here, wide = writes | reads, wide_of(tokens, y)
        h = _before(y.astype(wide), before.astype(wide), here)
        choose = lambda a, b: jnp.where(writes[:, None], a, b)
        gates = jtu.tree_map(choose, _gates(self.decoder, tokens, h), _gates(self.encoder, tokens, h))

        def affine(other):
            other = present(other, mask)[:, :-1]
            driven = jtu.tree_map(choose, _driven(self.decoder, other), _driven(self.encoder, other))

            def step(h, inputs):
                (r, z, slope), driven_t, writes_t = inputs
                through = [r * (project(h, gru.v[2]) + _b_h(gru)).astype(wide) for gru in (self.decoder, self.encoder)]
                h = z * h + (1 - z) * slope * (driven_t.astype(wide) + jnp.where(writes_t, *through))
                return h, h

            h, _ = cell(step, (gates, driven, writes), before.astype(wide), mask=here)
            return present(h, here)

        return Frozen(y, after, Called(affine), NONLINEAR)


def _parts(
    x: Float[Array, "time width"], start: Any, mask: Any
) -> tuple[Array, Bool[Array, " time"], Bool[Array, " time"]]:
    """The tokens, which of them are written, and which are read."""
    require(
        start is None, "an encoder and a decoder take one sequence; packed ones (`start`) are for calls of their own."
    )
    writes = x[:, -1] > 0
    here = jnp.ones(len(x), bool) if mask is None else mask
    writes, reads = here & writes, here & ~writes
    if not isinstance(writes, Tracer):
        last, first = max(_places(reads), default=-1), min(_places(writes), default=len(x))
        require(last < first, f"token {last} is to be read after token {first} was written; what is read comes first.")
    return present(x, mask)[:, :-1], writes, reads


def _places(flags: Bool[Array, " time"]) -> list[int]:
    return np.flatnonzero(flags).tolist()


def _before(y: Float[Array, "time n"], first: Float[Array, " n"], here: Bool[Array, " time"]) -> Float[Array, "time n"]:
    """The state before each token: what the last token that was there gave, `first` before all of them."""
    known = jnp.concatenate([jnp.ones(1, bool), here[:-1]])
    place = jax.lax.cummax(jnp.where(known, jnp.arange(len(y)), jnp.zeros(len(y), int)))
    return jnp.concatenate([first[None], y[:-1]])[place]


def _b_h(gru: GRU) -> Float[Array, " n"]:
    assert gru.b_h is not None  # checked when the layer was made
    return gru.b_h


def _driven(gru: GRU, x: Float[Array, "time d"]) -> Float[Array, "time n"]:
    """What the candidate takes of each token."""
    driven = project(x, gru.u[2])
    return driven + gru.b[2].astype(driven.dtype)[None]


def _gates(gru: GRU, x: Float[Array, "time d"], h: Float[Array, "time n"]) -> tuple[Array, Array, Array]:
    """r, z and tanh(v) / v of each step, (time, n) each, where h is the state before it."""
    wide = h.dtype
    both = lambda i: project(x, gru.u[i]).astype(wide) + project(h, gru.v[i]).astype(wide)
    r, z = (jax.nn.sigmoid(both(i) + gru.b[i].astype(wide)[None]) for i in range(2))
    v = _driven(gru, x).astype(wide) + r * (project(h, gru.v[2]).astype(wide) + _b_h(gru).astype(wide)[None])
    return r, z, tanh_slope(v)
