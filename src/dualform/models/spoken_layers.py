"""Residual layers over a text and the frames that are spoken of it: of one of the two alone, and from the one to the other.

A token is (d + 1,): its channels, and whether it is a frame, above 0, or of the text, as mixers of cross-attention have it.
"""

from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from dualform.arrays import State
from dualform.errors import require
from dualform.layer import as_layer, inside
from dualform.maps import Beside, CausalMap, Frozen, Identity, Linear, joint, present
from dualform.mixers import AbstractMixer, CrossAttention, PositionAwareCrossAttention
from dualform.mixers.cross_attention import fresh_where
from dualform.models.bidirectional import Bidirectional
from dualform.models.chain import AbstractMade, chain
from dualform.models.mlp import MLP, GatedMLP
from dualform.models.norm import LayerNorm, RMSNorm
from dualform.models.tokenwise import AbstractTokenwise
from dualform.segments import Segments

TOKENS = ("text", "frames", "all")


class Among(AbstractMade):
    """y_t = x_t + layer(norm(x))_t at some tokens, which the layer sees alone; x_t at the others.

    **Arguments:** norm: or None; layer: a mixer, of one direction or both, or an MLP, of one width in and out; tokens: "text",
    "frames" or "all".

    **Raises:** `InputError` where widths do not fit, or for other tokens.
    """

    norm: RMSNorm | LayerNorm | None
    layer: AbstractMixer | Bidirectional | MLP | GatedMLP
    tokens: str = eqx.field(default="all", static=True)
    weight_decayed: ClassVar[tuple[str, ...]] = ()

    def __check_init__(self):
        require(self.tokens in TOKENS, f"there are no tokens {self.tokens!r}; there are {', '.join(TOKENS)}.")
        check_widths(self.norm, self.layer, self.layer.d_in)

    @property
    def d_in(self) -> int:
        """Width of a token, and which it is."""
        return self.layer.d_in + 1

    @property
    def d_out(self) -> int:
        """As wide."""
        return self.d_in

    @property
    def tokenwise(self) -> bool:
        """Where the layer is."""
        return as_layer(self.layer).tokenwise

    def init_state(self) -> State:
        """The layer's."""
        return as_layer(chain(self.norm, self.layer)).init_state()

    def at(self, x, state, segments):
        """The identity beside the layer's map among these tokens."""
        seen, ended = segments, None
        if self.tokens != "all":
            is_frame = x[:, -1] > 0
            seen, ended = segments.among(is_frame if self.tokens == "frames" else ~is_frame)
        found = inside(chain(self.norm, self.layer), present(x[:, :-1], seen.mask), state, seen)
        after = found.state if self.tokenwise else fresh_where(ended, self.init_state(), found.state)
        y = x + put_back(found.y.astype(x.dtype))
        return Frozen(y, after, Identity() + returned(x) @ found.map @ channels(x), found.kind)


class FromText(AbstractMade):
    """y_t = x_t + mixer(norm(x), whether t is a frame)_t: what frames read of the text.

    **Arguments:** norm: or None; mixer: a cross-attention of width d + 1 in and d out.

    **Raises:** `InputError` where widths do not fit.
    """

    norm: RMSNorm | LayerNorm | None
    mixer: CrossAttention | PositionAwareCrossAttention
    weight_decayed: ClassVar[tuple[str, ...]] = ()

    def __check_init__(self):
        check_widths(self.norm, self.mixer, self.mixer.d_in - 1)

    @property
    def d_in(self) -> int:
        """Width of a token, and which it is."""
        return self.mixer.d_in

    @property
    def d_out(self) -> int:
        """As wide."""
        return self.d_in

    def init_state(self) -> State:
        """The mixer's: the text."""
        return self.mixer.init_state()

    def at(self, x, state, segments):
        """The identity beside the cross-attention's map of what is normed."""
        normed, found = self.passes(x, state, segments)
        before = Beside(normed.map @ channels(x), Linear(jnp.eye(x.shape[1], dtype=x.dtype)[-1:]))
        map = Identity() + returned(x) @ found.map @ before
        return Frozen(x + put_back(found.y.astype(x.dtype)), found.state, map, joint((normed.kind, found.kind)))

    def passes(self, x: Float[Array, "time d"], state: State, segments: Segments) -> tuple[Frozen, Frozen]:
        """The norm, and the cross-attention on what it gives, frozen."""
        own = x[:, :-1]
        normed = Frozen(own, (), Identity()) if self.norm is None else inside(self.norm, own, (), segments)
        return normed, inside(self.mixer, jnp.concatenate([normed.y, x[:, -1:]], axis=1), state, segments)


class Channels(AbstractTokenwise):
    """y_t = x_t without its last channel, which says what a token is.

    **Arguments:** width: of x.
    """

    width: int = eqx.field(static=True)

    @property
    def d_in(self) -> int:
        """Width of a token."""
        return self.width

    @property
    def d_out(self) -> int:
        """One less."""
        return self.width - 1

    def at(self, x, state, segments):
        """A linear map."""
        return Frozen(x[:, :-1], state, channels(x))


def check_widths(norm: Any, layer: Any, d: int) -> None:
    """Raise `InputError` unless a layer gives d channels, and its norm takes as many."""
    require(layer.d_out == d, f"the layer gives a width of {layer.d_out}; {d} channels are added to.")
    require(
        norm is None or norm.d_in == d, f"norm is {None if norm is None else norm.d_in} wide; a token has {d} channels."
    )


def put_back(y: Float[Array, "time channels"]) -> Float[Array, "time d"]:
    """The channels, and 0 for what a token is."""
    return jnp.concatenate([y, jnp.zeros_like(y[:, :1])], axis=1)


def returned(x: Float[Array, "time d"]) -> CausalMap:
    """`put_back` as a map."""
    return Linear(jnp.eye(x.shape[1], x.shape[1] - 1, dtype=x.dtype))


def channels(x: Float[Array, "time d"]) -> CausalMap:
    """A token's channels, without what it is, as a map."""
    return Linear(jnp.eye(x.shape[1] - 1, x.shape[1], dtype=x.dtype))
