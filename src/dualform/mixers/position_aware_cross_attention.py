"""Cross-attention that reads where it is: two attentions over the text's positions, with a recurrence between them."""

from dataclasses import KW_ONLY
from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Int

from dualform.arrays import accumulator
from dualform.errors import require
from dualform.layer import inside
from dualform.maps import AttentionMap, Frozen, Linear, Written
from dualform.mixers.cache import init_cache
from dualform.mixers.cross_attention import ReadText, Spoken, check_window, fresh_where
from dualform.mixers.declared import array
from dualform.mixers.heads import IntoHeads, into_heads, split_width
from dualform.mixers.mixer import AbstractMixer
from dualform.mixers.registration import register, registry
from dualform.mixers.rotary import angles


@register("position_aware_cross_attention")
class PositionAwareCrossAttention(AbstractMixer):
    """p_t = softmax(q_t k^T / sqrt(d_k)) P,  p'_t = recurrence(p)_t,  o_t = softmax(p'_t P^T) v,  y_t = W_o o_t, at each frame t.

    Row s of P says where token s stands in the text. What a frame looks for chooses a mean position p_t; a recurrence over the
    frames makes of those so far the position that is read, p'_t; and only that position, no key, chooses what is read. Text and
    frames are told apart, and a text is kept, as by `CrossAttention`: by the last channel of a token, for each head q, k, v =
    W_q x, W_k x, W_v x. P_s = (cos(s f_0), ..., sin(s f_0), ...), f_j = base^(-2 j / d_p): sinusoids, so that no table of
    positions ends, where s counts the tokens of the document's text. All heads' p are side by side in the recurrence, which
    runs over the frames alone.

    The dual form freezes p', and with it the second softmax, which is its map: decoder time by place in the text, each row of a
    sum of 1. The recurrence is a mixer with a map of its own, over decoder time: `dual_form(mixer.recurrence, p, mask=frames)` of
    p, frames = `mixer.positions_read(x)`.

    **Arguments:** w_q, w_k (head, d_k, d); w_v (head, d_v, d); w_o (d_out, head * d_v); recurrence: a mixer of width head * d_p
    in and out, d_p even; window: how many tokens of the text are kept, older ones leave; base: of the sinusoids.

    **Raises:** `InputError` where the shapes do not fit, the recurrence's widths are not one even number for each head, or a
    number is out of range.

    **Source:** Lemerle et al. 2024 (arXiv 2406.04467), whose recurrence is GLA; sinusoids, the scale of the first scores and
    several heads are of this package. Oracle: torch's `scaled_dot_product_attention` twice, under the mask of frames over
    the text before them, with its `GRU` between (float64).
    """

    _: KW_ONLY
    w_q: Float[Array, "head d_k d"] = eqx.field(converter=array)
    w_k: Float[Array, "head d_k d"] = eqx.field(converter=array)
    w_v: Float[Array, "head d_v d"] = eqx.field(converter=array)
    w_o: Float[Array, "d_out head*d_v"] = eqx.field(converter=array)
    recurrence: AbstractMixer
    window: int = eqx.field(default=64, static=True)
    base: float = eqx.field(default=10000.0, static=True)
    linear_given_gates: ClassVar[bool] = True
    weight_decayed = ("w_q", "w_k", "w_v", "w_o")

    def __check_init__(self):
        check_window(self.window)
        heads, d_in, d_out = self.dim("head"), self.recurrence.d_in, self.recurrence.d_out
        require(
            d_in == d_out and d_in % (2 * heads) == 0,
            f"the recurrence is of width {d_in} in and {d_out} out; it must be of one, a position of an even width for each of "
            f"{heads} heads.",
        )
        require(self.base > 1, f"base is {self.base}; it must be above 1.")

    @classmethod
    def make(
        cls,
        d: int,
        *,
        key: Array,
        heads: int = 1,
        window: int = 64,
        position_width: int = 16,
        recurrence: str = "gla",
        dtype=None,
    ) -> "PositionAwareCrossAttention":
        """Weights of variance 1 / fan-in, and a recurrence by its name in the registry; position_width: of each head.

        **Raises:** `InputError` where there is no such mixer.
        """
        d_v, keys = split_width(d, heads), jr.split(key, 5)
        require(position_width >= 2, f"position_width is {position_width}; a position is made of pairs of sinusoids.")
        require(
            recurrence in registry(),
            f"there is no mixer {recurrence!r} to be the recurrence; there are {', '.join(registry())}.",
        )
        made = registry()[recurrence](heads * position_width, key=keys[0], dtype=dtype)
        w = cls.matrices(keys[1:], dtype, head=heads, d_k=d_v, d_v=d_v, d=d, d_out=d)
        return cls(**w, recurrence=made, window=window)

    @property
    def position_width(self) -> int:
        """Width of a position, d_p."""
        return self.recurrence.d_in // self.dim("head")

    def init_state(self):
        """No text: empty caches, of keys and positions and of positions and values; its length, and the recurrence's state."""
        (heads, d_k, d_v), d_p, wide = self.dims("head d_k d_v"), self.position_width, accumulator(self.w_k.dtype)
        caches = init_cache(self.window, heads, d_k, d_p, wide), init_cache(self.window, heads, d_p, d_v, wide)
        return *caches, jnp.zeros((), jnp.int32), self.recurrence.init_state()

    def at(self, x, state, segments):
        """The recurrence makes of the positions that q and k find the one whose neighbours' values are read."""
        _, cache, place, remembered = state
        spoken = Spoken.of(x, place, segments)
        positions = self.positions(spoken.places)
        p, found = self._find(x, state, spoken).run(positions)
        expected = inside(self.recurrence, p.reshape(len(x), -1), remembered, spoken.frames)
        after = fresh_where(spoken.frames_ended, self.recurrence.init_state(), expected.state)
        memory = ReadText(expected.y.reshape(p.shape), positions, cache, spoken, self.window)
        write, read = Written(IntoHeads(self.w_v), x), Linear(self.w_o)
        o, cache = memory.run(write.own)
        return Frozen(read(o), (found, cache, spoken.following, after), AttentionMap(read, memory, write))

    def positions_read(
        self, x: Float[Array, "time d"], state=None, *, start=None, mask=None
    ) -> tuple[Float[Array, "time d_p"], Array]:
        """p, what the recurrence takes of each frame, all heads side by side, and which tokens are frames.

        **Arguments:** as of a call.
        """
        x, state, segments = self.checked(x, state, start, mask)
        spoken = Spoken.of(x, state[2], segments)
        p, _ = self._find(x, state, spoken).run(self.positions(spoken.places))
        assert spoken.frames.mask is not None
        return p.reshape(len(x), -1), spoken.frames.mask

    def positions(self, places: Int[Array, " time"]) -> Float[Array, "time head d_p"]:
        """Rows of P, the same for each head."""
        width = self.position_width
        frequency = self.base ** (np.arange(width // 2) * (-2 / width))
        angle = angles(places, frequency, accumulator(self.w_k.dtype))
        rows = jnp.concatenate([jnp.cos(angle), jnp.sin(angle)], axis=-1)[:, None]
        return jnp.broadcast_to(rows, (len(places), self.dim("head"), width))

    def _find(self, x, state, spoken: Spoken) -> ReadText:
        """The first attention: the positions of what a frame looks for."""
        q = into_heads(x, self.w_q) * self.dim("d_k") ** -0.5
        q = spoken.known(q, state[0], self.window)
        return ReadText(q, into_heads(x, self.w_k), state[0], spoken, self.window)
