"""Residual blocks: a mixer on the norm of what comes in, added to it; then, if there is one, an MLP in the same way."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from dualform.arrays import State
from dualform.compiled import compiled
from dualform.errors import require
from dualform.finite import token_by_token
from dualform.maps import LINEAR, Frozen, Identity, joint, masked, present
from dualform.mixers import AbstractMixer
from dualform.models.bidirectional import Bidirectional
from dualform.models.mlp import MLP, GatedMLP, JoinedMLP
from dualform.models.norm import LayerNorm, RMSNorm
from dualform.models.stepped import AbstractStepped
from dualform.models.tokenwise import AbstractTokenwise
from dualform.recurrences.flags import check_flags, check_time

NORMS = {"rms": RMSNorm, "layer": LayerNorm}
"""The norms of a block, by name."""

MLPS: dict[str, tuple[type[MLP] | type[GatedMLP], str]] = {
    "swiglu": (GatedMLP, "silu"),
    "geglu": (GatedMLP, "gelu_tanh"),
    "gelu": (MLP, "gelu"),
    "relu": (MLP, "relu"),
}
"""The MLPs of a block, by name: class and activation. The GELU of "geglu" is the tanh form, as in Griffin."""


class BlockParts(NamedTuple):
    """A block's parts, each frozen at its own input; `behind` is what follows the mixer, pointwise, on x + mixer(norm(x))."""

    norm: Frozen
    mixer: Frozen
    behind: Frozen


class Block(AbstractStepped):
    """h = x + mixer(norm(x)),  y = h + mlp(mlp_norm(h)); y = h without an MLP.

    A block is called, stepped and given its state as a mixer is.

    **Arguments:** norm: an `RMSNorm` or `LayerNorm`, or None; mixer: of one width in and out; mlp_norm, mlp: both None for a
    block without an MLP; mlp_norm alone may be None, too.

    **Raises:** `InputError` where widths do not fit.
    """

    norm: RMSNorm | LayerNorm | None
    mixer: AbstractMixer | Bidirectional
    mlp_norm: RMSNorm | LayerNorm | None = None
    mlp: MLP | GatedMLP | JoinedMLP | None = None

    def __check_init__(self):
        d = self.mixer.d_in
        require(
            self.mixer.d_out == d,
            f"the mixer takes tokens of width {d} and gives {self.mixer.d_out}; what is added to them must be as wide.",
        )
        require(
            self.mlp is not None or self.mlp_norm is None, "mlp_norm is given without an mlp; give both, or neither."
        )
        for name in ("norm", "mlp_norm", "mlp"):
            part = getattr(self, name)
            require(part is None or part.d == d, f"{name} is {None if part is None else part.d} wide; the mixer, {d}.")

    @classmethod
    def make(
        cls,
        mixer: AbstractMixer | Bidirectional,
        *,
        key: Array,
        norm: str | None = "rms",
        mlp: str | None = None,
        hidden: int | None = None,
        bias: bool | None = None,
        dtype=None,
        **options: Any,
    ) -> "Block":
        """A fresh norm, and an MLP with a norm of its own, around a mixer.

        **Arguments:** norm: "rms", "layer" or None; mlp: one of `MLPS`, or None; hidden, bias: of the MLP; options: of the
        norms (epsilon, plus_one).
        """
        require(norm is None or norm in NORMS, f"there is no norm {norm!r}; there are {', '.join(NORMS)}.")
        require(mlp is None or mlp in MLPS, f"there is no MLP {mlp!r}; there are {', '.join(MLPS)}.")
        d = mixer.d_in
        fresh = lambda: None if norm is None else NORMS[norm].make(d, dtype=dtype, **options)
        if mlp is None:
            return cls(fresh(), mixer)
        kind, activation = MLPS[mlp]
        given = {} if bias is None else {"bias": bias}
        return cls(
            fresh(), mixer, fresh(), kind.make(d, key=key, hidden=hidden, activation=activation, dtype=dtype, **given)
        )

    @property
    def d_in(self) -> int:
        """Width of a token."""
        return self.mixer.d_in

    @property
    def d_out(self) -> int:
        """Width of the output: that of a token."""
        return self.mixer.d_in

    def init_state(self) -> State:
        """The mixer's."""
        return self.mixer.init_state()

    @compiled
    def __call__(
        self,
        x: Float[Array, "time d"],
        state: State | None = None,
        *,
        start: Bool[Array, " time"] | None = None,
        mask: Bool[Array, " time"] | None = None,
    ) -> tuple[Float[Array, "time d"], State]:
        """The whole sequence at once; arguments, returns and errors as of a mixer's call."""
        x = present(x, mask)
        normed = x if self.norm is None else token_by_token(self.norm, x, start)
        y, state = self.mixer(normed, state, start=start, mask=mask)
        return present(token_by_token(self._behind, x + y, start), mask), state

    def frozen(
        self,
        x: Float[Array, "time d"],
        state: State | None = None,
        start: Bool[Array, " time"] | None = None,
        mask: Bool[Array, " time"] | None = None,
    ) -> Frozen:
        """The call, and the product of the parts' maps, each frozen at its own input."""
        y, after = self(x, state, start=start, mask=mask)
        norm, mixer, behind = self.parts(x, state, start, mask)
        whole = masked(behind.map @ (Identity() + mixer.map @ norm.map), mask)
        return Frozen(y, after, whole, joint((norm.kind, mixer.kind, behind.kind)))

    def parts(self, x: Float[Array, "time d"], state: Any = None, start: Any = None, mask: Any = None) -> BlockParts:
        """The norm, the mixer, and the rest of the block with its own residual stream, frozen in turn."""
        x = present(x, mask)
        norm = _optional(self.norm, x, mask)
        mixer = self.mixer.frozen(norm.y, state, start, mask)
        h = x + mixer.y
        if self.mlp is None:
            return BlockParts(norm, mixer, _optional(None, h, mask))
        mlp_norm = _optional(self.mlp_norm, h, mask)
        mlp = self.mlp.frozen(mlp_norm.y, mask=mask)
        whole = Identity() + mlp.map @ mlp_norm.map
        return BlockParts(norm, mixer, Frozen(h + mlp.y, (), whole, joint((mlp_norm.kind, mlp.kind))))

    def _behind(self, x: Float[Array, "time d"]) -> Float[Array, "time d"]:
        """What follows the mixer: the MLP on the norm of each token, added to it."""
        return x if self.mlp is None else x + self.mlp(x if self.mlp_norm is None else self.mlp_norm(x))


def _optional(part: AbstractTokenwise | None, x: Float[Array, "time d"], mask: Any) -> Frozen:
    """A part that may not be there: then it is the identity."""
    return Frozen(x, (), Identity(), LINEAR) if part is None else part.frozen(x, mask=mask)


def check_blocks(blocks: tuple[Block, ...], d: int, below: str) -> None:
    """Raise `InputError` unless there are blocks and all are `d` wide, as what is below them gives."""
    require(len(blocks) >= 1, "a model needs at least one block.")
    for i, block in enumerate(blocks):
        require(block.d_in == d, f"block {i + 1} takes tokens of width {block.d_in}; the {below} gives {d}.")


def check_call(time: int, start, mask, model: Any, state: Any, what: str) -> None:
    """Raise `InputError` unless flags and state belong to a call of `model`, called `what`, on `time` tokens."""
    check_time(time)
    check_flags(time, start, mask)
    check_state(model, state, what)


def check_state(model: Any, state: Any, what: str) -> None:
    """Raise `InputError` unless the state has the structure and the shapes of the model's own."""
    initial = jax.eval_shape(model.init_state)
    shapes = lambda tree: [jnp.shape(leaf) for leaf in jax.tree_util.tree_leaves(tree)]
    require(
        jax.tree_util.tree_structure(state) == jax.tree_util.tree_structure(initial)
        and shapes(state) == shapes(initial),
        f"the state does not belong to this {what}: one state for each block is needed, of the shapes that init_state() "
        "gives. Start from it.",
    )
