"""Residual blocks: a mixer on the norm of what comes in, added to it; then, if there is one, an MLP in the same way."""

from typing import Any

from jaxtyping import Array

from dualform.errors import require
from dualform.layer import Layer
from dualform.mixers import AbstractMixer
from dualform.models.bidirectional import Bidirectional
from dualform.models.chain import Chain, Composition, Residual, chain
from dualform.models.mlp import MLP, GatedMLP, JoinedMLP
from dualform.models.norm import LayerNorm, RMSNorm

NORMS = {"rms": RMSNorm, "layer": LayerNorm}
"""The norms of a block, by name."""

MLPS: dict[str, tuple[type[MLP] | type[GatedMLP], str]] = {
    "swiglu": (GatedMLP, "silu"),
    "geglu": (GatedMLP, "gelu_tanh"),
    "gelu": (MLP, "gelu"),
    "relu": (MLP, "relu"),
}
"""The MLPs of a block, by name: class and activation. The GELU of "geglu" is the tanh form, as in Griffin."""


class Block(Composition):
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
            width = d if part is None else part.d_in
            require(width == d, f"{name} is {width} wide; the mixer, {d}.")

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
    def whole(self) -> Layer:
        """Two residual streams, one after the other; the second where there is an MLP."""
        mixed = Residual(chain(self.norm, self.mixer))
        return mixed if self.mlp is None else Chain((mixed, Residual(chain(self.mlp_norm, self.mlp))))


def check_blocks(blocks: tuple[Layer, ...], d: int, below: str) -> None:
    """Raise `InputError` unless there are blocks and all are `d` wide, as what is below them gives."""
    require(len(blocks) >= 1, "a model needs at least one block.")
    for i, block in enumerate(blocks):
        require(block.d_in == d, f"block {i + 1} takes tokens of width {block.d_in}; the {below} gives {d}.")
