"""One stage of a model as an exact sum over source tokens plus a bias, in blocks: rows, channels and maps on demand.

A stage frozen at its input is affine, so what token s brings to every output is affine(x_s alone) - affine(0). Nothing of size
time * time * d is ever held: columns (what one token brings to all outputs) are worked on `block` at a time, and rows (what one
output takes from all tokens) come from the transpose of the same map, one backward pass each.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dualform.arrays import State, relative_error
from dualform.dual.form import Kind
from dualform.dual.frozen import freeze
from dualform.dual.projected import closed_form, projected_map, projected_rows
from dualform.dual.views import plot
from dualform.errors import require
from dualform.mixers import AbstractMixer
from dualform.models.block import Block, present

GROUPS = 8
"""Into so many groups of tokens the certificate cuts a sequence; up to so many tokens, it sums them one by one."""

MOST_HEADS = 64
"""Up to so many maps of a mixer's own are shown as they are; of more (channel by channel), one aggregate is."""

Rows = Sequence[int] | np.ndarray | Array | slice | None


@dataclass(frozen=True, eq=False)
class LayerForm:
    """A stage's output as a sum over tokens: `contributions().sum(1) + bias == y`, with its residual.

    - name, kind: of the stage; see `Frozen`.
    - residual: ||sum of contributions + bias - y|| / ||y||, the sum taken over min(time, 8) groups of tokens (s mod 8),
      which by linearity is the sum over tokens; `check()` sums them one by one.
    - x, y, bias: (time, d_in), (time, d_out), (time, d_out).
    - module, state, start, mask: what was frozen, and how it was called.  block: source tokens worked on at once.
    """

    name: str
    module: Any = field(repr=False)
    x: Float[Array, "time d_in"]
    state: State | None = field(default=None, repr=False)
    start: Any = field(default=None, repr=False)
    mask: Any = field(default=None, repr=False)
    block: int = 32

    @functools.cached_property
    def certificate(self) -> tuple[Array, Array, float, Kind]:
        """y, bias, residual and kind, worked out at once when one of them is first asked for."""
        y, bias, residual, kind = _certificate(*self._call)
        return y, bias, float(residual), kind

    @property
    def y(self) -> Float[Array, "time d_out"]:
        """The stage's output."""
        return self.certificate[0]

    @property
    def bias(self) -> Float[Array, "time d_out"]:
        """What no token brought."""
        return self.certificate[1]

    @property
    def residual(self) -> float:
        """The relative error of the sum."""
        return self.certificate[2]

    @property
    def kind(self) -> Kind:
        """What was frozen."""
        return self.certificate[3]

    @property
    def time(self) -> int:
        """Tokens."""
        return len(self.x)

    def contributions(self, rows: Rows = None, channels: Rows = None) -> Float[np.ndarray, "row source channel"]:
        """What the outputs at `rows` take from each token, in the chosen channels (all if not given).

        A few rows cost one backward pass for each row and channel; many, one forward pass for each source token.
        """
        rows, channels = self.chosen(rows), chosen(channels, self.y.shape[1], "channel")
        if len(rows) * len(channels) <= self.time:
            return self._by_rows(rows, channels)
        out = np.zeros((len(rows), self.time, len(channels)), self.y.dtype)
        for sources in blocks_of(self.time, self.block):
            found = _columns(*self._call, jnp.asarray(sources), jnp.asarray(rows), jnp.asarray(channels))
            out[:, sources] = np.asarray(found)
        return out

    def shares(self, rows: Rows = None, heads: int = 1) -> Float[np.ndarray, "head row source"]:
        """The share of each output that each token brings, signed: `DualForm.aggregate`, in blocks.

        The output's channels are cut into `heads` groups; in each, entry [t, s] is (contribution . y_t) / (y_t . y_t).

        **Raises:** `InputError` where `heads` does not divide d_out.
        """
        rows, r = self.chosen(rows), share_functionals(self.y, heads)
        if len(rows) * heads * (32 if self.mask is None and closed_form(self.module) else 2) < self.time:
            found = [np.asarray(projected_rows(*self._call, r, jnp.asarray(part))) for part in padded(rows, self.block)]
            return np.concatenate(found, axis=1)[:, : len(rows)]
        return projected_map(*self._call, r, self.block)[:, rows]

    def norms(self, rows: Rows = None) -> Float[np.ndarray, "row source"]:
        """The length of each contribution, ||contributions[t, s]||: what a signed map may hide by cancelling."""
        rows = self.chosen(rows)
        out = np.zeros((len(rows), self.time), self.y.dtype)
        for sources in blocks_of(self.time, self.block):
            found = _column_norms(*self._call, jnp.asarray(sources), jnp.asarray(rows))
            out[:, sources] = np.asarray(found)
        return out

    @functools.cached_property
    def inner(self) -> "LayerForm":
        """The form of a block's mixer at its own input: without the residual stream, norms and MLP. Else the layer itself."""
        if not isinstance(self.module, Block):
            return self
        x = _mixer_input(self.module, self.x, self.mask)
        given = {"start": self.start, "mask": self.mask, "name": f"{self.name}.mixer", "block": self.block}
        return layer_form(self.module.mixer, x, self.state, **given)

    @functools.cached_property
    def weights(self) -> Float[np.ndarray, "head time source"]:
        """The mixer's signed scalar maps: its closed form where it has one of at most 64 maps, else its `shares()`."""
        own = self.inner.own_weights()
        return self.inner.shares() if own is None else own

    def own_weights(self) -> Float[np.ndarray, "head time source"] | None:
        """A mixer's closed form, or None where it has none, or more than 64 maps."""
        own = _weights(*self._call) if isinstance(self.module, AbstractMixer) else None
        return None if own is None else np.asarray(own)

    def plot(self, tokens: Sequence[str] | None = None, *, heads: int = 4) -> Any:
        """The signed maps as a matplotlib figure: see `views.plot`."""
        return plot([self], tokens, heads=heads)

    def check(self) -> float:
        """The residual with every token's contribution summed by itself: as many passes as there are tokens."""
        total, done = np.asarray(self.bias, np.float64), 0
        for sources in blocks_of(self.time, self.block):
            total = total + np.asarray(_summed(*self._call, jnp.asarray(sources), jnp.asarray(sources >= done)))
            done = int(sources[-1]) + 1
        y = np.asarray(self.y, np.float64)
        return float(np.linalg.norm(total - y) / (np.linalg.norm(y) or 1.0))

    def chosen(self, rows: Rows) -> np.ndarray:
        """Rows as numbers from 0; all of them if none are given."""
        return chosen(rows, self.time, "row")

    @property
    def _call(self):
        return self.module, self.x, self.state, self.start, self.mask

    def _by_rows(self, rows, channels) -> np.ndarray:
        """One backward pass for each row and channel."""
        places = np.stack(np.meshgrid(rows, channels, indexing="ij"), -1).reshape(-1, 2)
        found = [np.asarray(_row_passes(*self._call, jnp.asarray(part))) for part in padded(places, self.block)]
        found = np.concatenate(found)[: len(places)].reshape(len(rows), len(channels), self.time)
        return found.transpose(0, 2, 1)


def layer_form(
    module: Any,
    x: Float[Array, "time d_in"],
    state: State | None = None,
    *,
    start=None,
    mask=None,
    name: str = "",
    block: int = 32,
) -> LayerForm:
    """Any module that `freeze` knows as an exact sum over source tokens plus a bias, its parts worked out on demand.

    **Arguments:** x: (time, d_in), the module's input; state, start, mask: as of its call; name: to show; block: source tokens
    worked on at once.

    **Returns:** a `LayerForm`.

    **Raises:** `InputError` as `freeze` and the module's call do, and for a block of no token.
    """
    require(block >= 1, f"block is {block}; it must be at least 1 token.")
    form = LayerForm(name or type(module).__name__, module, x, state, start, mask, block)
    _ = form.certificate  # what cannot be frozen is refused here
    return form


@eqx.filter_jit
def _certificate(module, x, state, start, mask):
    frozen = freeze(module, x, state, start=start, mask=mask)
    return *certified(frozen.affine, x, frozen.y), frozen.kind


def certified(affine: Any, x: Float[Array, "time d_in"], y: Float[Array, "time d_out"]):
    """y in the map's dtype, the bias, and the residual of the sum over groups of tokens."""
    bias = affine(jnp.zeros_like(x))
    group = jnp.arange(len(x)) % GROUPS
    part = lambda g: affine(present(x, group == g)) - bias
    total = bias + jax.lax.map(part, jnp.arange(min(GROUPS, len(x)))).sum(0)
    y = y.astype(bias.dtype)
    return y, bias, relative_error(total, y)


def alone(frozen_affine: Any, x: Float[Array, "time d_in"], bias: Array):
    """What a token brings to every output, (time, d_out), as a function of its number."""
    return lambda s: frozen_affine(jnp.zeros_like(x).at[s].set(x[s])) - bias


def share_functionals(y: Float[Array, "time d_out"], heads: int) -> Float[Array, "head time d_out"]:
    """What a contribution is multiplied with to give its share of the output, in each group of channels; 0 where y is 0."""
    time, d_out = y.shape
    require(heads >= 1 and d_out % heads == 0, f"{heads} heads do not divide the output width of {d_out}.")
    parts = y.reshape(time, heads, -1)
    power = jnp.sum(parts * parts, axis=-1, keepdims=True)
    parts = jnp.where(power == 0, jnp.zeros_like(parts), parts / jnp.where(power == 0, jnp.ones_like(power), power))
    spread = parts[:, :, None] * jnp.eye(heads, dtype=y.dtype)[None, :, :, None]
    return spread.reshape(time, heads, d_out).swapaxes(0, 1)


def chosen(places: Rows, size: int, what: str) -> np.ndarray:
    """Places as numbers from 0 to size - 1; all of them where None.

    **Raises:** `InputError` for a place that there is not.
    """
    if places is None or isinstance(places, slice):
        return np.arange(size)[places or slice(None)]
    numbers = np.atleast_1d(np.asarray(places))
    require(
        numbers.ndim == 1 and np.issubdtype(numbers.dtype, np.integer),
        f"{what}s must be whole numbers in one list; got {numbers.dtype} of shape {numbers.shape}.",
    )
    outside = [int(number) for number in numbers if not -size <= number < size]
    require(
        not outside, f"{what} {outside[0] if outside else 0} does not exist; there are {size}, from 0 to {size - 1}."
    )
    return numbers % size


def blocks_of(time: int, block: int) -> list[np.ndarray]:
    """Source tokens, `block` at a time; the last block begins earlier, so that one program serves all."""
    size = min(block, time)
    return [np.arange(size) + min(first, time - size) for first in range(0, time, size)]


def padded(places: np.ndarray, block: int) -> list[np.ndarray]:
    """Parts of one size, `block` at most, so that one program serves them all; the last repeats its last entry."""
    size = min(block, max(len(places), 1))
    parts = [places[first : first + size] for first in range(0, len(places), size)]
    return [np.concatenate([part, np.repeat(part[-1:], size - len(part), axis=0)]) for part in parts]


@eqx.filter_jit
def _columns(module, x, state, start, mask, sources, rows, channels):
    affine = freeze(module, x, state, start=start, mask=mask).affine
    column = alone(affine, x, affine(jnp.zeros_like(x)))
    return jax.lax.map(lambda s: column(s)[rows][:, channels], sources, batch_size=len(sources)).swapaxes(0, 1)


@eqx.filter_jit
def _column_norms(module, x, state, start, mask, sources, rows):
    affine = freeze(module, x, state, start=start, mask=mask).affine
    column = alone(affine, x, affine(jnp.zeros_like(x)))
    length = lambda s: jnp.linalg.norm(column(s)[rows], axis=1)
    return jax.lax.map(length, sources, batch_size=len(sources)).T


@eqx.filter_jit
def _summed(module, x, state, start, mask, sources, fresh):
    affine = freeze(module, x, state, start=start, mask=mask).affine
    found = jax.lax.map(alone(affine, x, affine(jnp.zeros_like(x))), sources, batch_size=len(sources))
    return jnp.where(fresh[:, None, None], found, jnp.zeros_like(found)).sum(0)


@eqx.filter_jit
def _row_passes(module, x, state, start, mask, places):
    y, back = jax.vjp(freeze(module, x, state, start=start, mask=mask).affine, x)

    def one(place):
        (gradient,) = back(jnp.zeros_like(y).at[place[0], place[1]].set(jnp.ones((), y.dtype)))
        return jnp.sum(gradient * x, axis=1)

    return jax.lax.map(one, places, batch_size=len(places))


@eqx.filter_jit
def _weights(mixer, x, state, start, mask):
    own = mixer.weights(*mixer.checked(x, state, start, mask))
    # Maps of all channels are not made where they are not to be shown: what is not returned is not computed.
    return own if own is not None and len(own) <= MOST_HEADS else None


@eqx.filter_jit
def _mixer_input(block, x, mask):
    x = present(x, mask)
    return x if block.norm is None else block.norm(x)
