"""A GRU that reads and a GRU that goes on from where it ended: as one layer over what is read and what is written."""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jax.core import Tracer
from jax.tree_util import Partial
from jaxtyping import Array, Bool, Float

from dualform.arrays import State, accumulator, project
from dualform.errors import require
from dualform.layer import Layer, inside
from dualform.maps import NONLINEAR, Called, Frozen, present
from dualform.maps.frozen import Kind
from dualform.mixers import GRU
from dualform.mixers.freezing import tanh_slope
from dualform.recurrences.cells import cell
from dualform.segments import Segments


class EncoderDecoder(Layer):
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
    composite: ClassVar[bool] = True

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

    @property
    def d_in(self) -> int:
        """Width of a token, and whether it is written."""
        return self.encoder.d_in + 1

    @property
    def d_out(self) -> int:
        """Width of h."""
        return self.encoder.d_out

    @property
    def kind(self) -> Kind:
        """Gates and slopes are frozen."""
        return NONLINEAR

    def given(self, x, state, start, mask):
        """What is read comes before what is written.

        **Raises:** `InputError` where it does not, which is seen where the tokens are known.
        """
        if not isinstance(x, Tracer) and getattr(x, "ndim", 0) == 2 and start is None and not isinstance(mask, Tracer):
            _, writes, reads = _parts(x, mask)
            last, first = max(_places(reads), default=-1), min(_places(writes), default=len(x))
            require(
                last < first, f"token {last} is to be read after token {first} was written; what is read comes first."
            )
        return x, state, start, mask

    def at(self, x, state, segments):
        """See the class."""
        require(
            segments.start is None,
            "an encoder and a decoder take one sequence; packed ones (`start`) are for calls of their own.",
        )
        tokens, writes, reads = _parts(x, segments.mask)
        read = inside(self.encoder, present(tokens, reads), state, Segments(None, reads))
        written = inside(self.decoder, present(tokens, writes), read.state, Segments(None, writes))
        y = read.y + written.y
        here, wide = writes | reads, accumulator(tokens.dtype, y.dtype)
        h = _before(y.astype(wide), state.astype(wide), here)
        choose = lambda a, b: jnp.where(writes[:, None], a, b)
        gates = jtu.tree_map(choose, _gates(self.decoder, tokens, h), _gates(self.encoder, tokens, h))
        return Frozen(y, written.state, Called(Partial(_with_gates, self, gates, state.astype(wide), writes, here)))


def _with_gates(
    layers: EncoderDecoder,
    gates: Any,
    before: Float[Array, " n"],
    writes: Any,
    here: Any,
    x: Float[Array, "time width"],
) -> Float[Array, "time n"]:
    """h with these gates and slopes, of other tokens."""
    x, wide = x[:, :-1], before.dtype
    choose = lambda a, b: jnp.where(writes[:, None], a, b)
    driven = jtu.tree_map(choose, _driven(layers.decoder, x), _driven(layers.encoder, x))

    def step(h, inputs):
        (r, z, slope), driven_t, writes_t = inputs
        through = [r * (project(h, gru.v[2]) + _b_h(gru)).astype(wide) for gru in (layers.decoder, layers.encoder)]
        h = z * h + (1 - z) * slope * (driven_t.astype(wide) + jnp.where(writes_t, *through))
        return h, h

    h, _ = cell(step, (gates, driven, writes), before, mask=here)
    return present(h, here)


def _parts(x: Float[Array, "time width"], mask: Any) -> tuple[Array, Bool[Array, " time"], Bool[Array, " time"]]:
    """The tokens, which of them are written, and which are read."""
    writes = x[:, -1] > 0
    here = jnp.ones(len(x), bool) if mask is None else mask
    return present(x, mask)[:, :-1], here & writes, here & ~writes


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
