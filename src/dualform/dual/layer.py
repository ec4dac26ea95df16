"""One stage of a model as an exact sum over source tokens plus a bias, in blocks: rows, channels and maps on demand.

A stage frozen at its input is a `maps.CausalMap`: what token s brings to every output is map(x_s alone) - map(0). Nothing of size
time * time * d is ever held: columns (what one token brings to all outputs) are worked on `block` at a time, and rows (what one
output takes from all tokens) come from the transpose of the same map, one backward pass each.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from dualform.arrays import State, relative_error
from dualform.dual.form import map_residual
from dualform.dual.frozen import check_module, freeze, taken
from dualform.dual.shares import lengths, share_functionals, shares_residual
from dualform.dual.views import as_html, plot
from dualform.errors import require
from dualform.maps import CausalMap, Frozen, attention_of, present
from dualform.maps.attention_map import MOST_HEADS, Over
from dualform.maps.frozen import Kind
from dualform.mixers import AbstractMixer
from dualform.models.chain import core, core_of
from dualform.models.walk import read_by_core

GROUPS = 8
"""Into so many groups of tokens the certificate cuts a sequence; up to so many tokens, it sums them one by one."""

Rows = Sequence[int] | np.ndarray | Array | slice | None


class Certificate(NamedTuple):
    """What a layer's form is at once: y and bias, (time, d_out), the residual, what was frozen, and whether shares are direct."""

    y: Float[Array, "time d_out"]
    bias: Float[Array, "time d_out"]
    residual: Any
    kind: Kind
    direct: bool


@dataclass(frozen=True, eq=False)
class LayerForm:
    """A stage's output as a sum over tokens: `contributions().sum(1) + bias == y`, with its residual.

    - name, kind: of the stage; see `Frozen`.
    - residual: ||sum of contributions + bias - y|| / ||y||, y being what the stage's own call gives, and the sum taken over
      min(time, 8) groups of tokens (s mod 8), which by linearity is the sum over tokens; `check()` sums them one by one.
    - weights, over, map_residual: the mixer's maps, what they are over, and their own residual, as of a `DualForm`.
    - x, y, bias: (time, d_in), or tokens by number, (time,); (time, d_out), (time, d_out).
    - module, state, start, mask: what was frozen, and how it was called.  block: source tokens worked on at once.
    """

    name: str
    module: Any = field(repr=False)
    x: Float[Array, "time d_in"] | Int[Array, " time"]
    state: State | None = field(default=None, repr=False)
    start: Any = field(default=None, repr=False)
    mask: Any = field(default=None, repr=False)
    block: int = 32

    @functools.cached_property
    def certificate(self) -> "Certificate":
        """Worked out at once when a part of it is first asked for."""
        found = _certificate(*self._call)
        return found._replace(residual=float(found.residual))

    @property
    def y(self) -> Float[Array, "time d_out"]:
        """The stage's output."""
        return self.certificate.y

    @property
    def bias(self) -> Float[Array, "time d_out"]:
        """What no token brought."""
        return self.certificate.bias

    @property
    def residual(self) -> float:
        """The relative error of the sum."""
        return self.certificate.residual

    @property
    def kind(self) -> Kind:
        """What was frozen."""
        return self.certificate.kind

    @functools.cached_property
    def _map(self) -> tuple[np.ndarray, Over, float]:
        """The maps, what they are over, and their residual."""
        inner = self.inner
        own = inner.own_map()
        if own is not None:
            return own
        shares, residual = inner.certified_shares()
        return shares, "tokens", residual

    @property
    def over(self) -> Over:
        """What a column of `weights` stands for."""
        return self._map[1]

    @property
    def map_residual(self) -> float:
        """The relative error of what `weights` claim."""
        return self._map[2]

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
        rows, (r, size) = self.chosen(rows), share_functionals(self.y, heads)
        size = np.asarray(size)[:, rows, None]
        if len(rows) * heads * (32 if self.certificate.direct else 2) < self.time:
            places = np.stack(np.meshgrid(np.arange(heads), rows, indexing="ij"), -1).reshape(-1, 2)
            found = [np.asarray(_rows(*self._call, r, jnp.asarray(part))) for part in padded(places, self.block)]
            return np.concatenate(found)[: len(places)].reshape(heads, len(rows), -1) / size
        return self.project(r)[:, rows] / size

    def project(self, r: Float[Array, "head time d_out"]) -> Float[np.ndarray, "head time source"]:
        """r[h, t] . what each token brings to the output at t: the whole map, `block` source tokens at a time."""
        return np.asarray(_project(*self._call, r, self.block))

    def certified_shares(self) -> tuple[Float[np.ndarray, "1 time source"], float]:
        """The shares of all outputs, and how far each row and the bias's share are from a sum of 1: the relative error."""
        shares = self.shares()
        return shares, float(_shares_residual(jnp.asarray(shares), self.bias, self.y))

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
        """The form of the part that carries, a block's mixer, at its own input: without residual stream, norms and MLP.

        The layer itself where several of its parts carry, or it is not made of layers.
        """
        way = core(self.module)
        if not way:
            return self
        name = ".".join((self.name, *(part.name for part in way)))
        x = _core_input(self.module, self.x, self.state, self.start, self.mask)
        given = {"start": self.start, "mask": self.mask, "name": name, "block": self.block}
        return layer_form(core_of(self.module), x, self.state, **given)

    @property
    def weights(self) -> Float[np.ndarray, "head time source"]:
        """The mixer's signed scalar maps: its closed form where it has one of at most 64 maps, else its `shares()`."""
        return self._map[0]

    def own_map(self) -> tuple[Float[np.ndarray, "head time source"], Over, float] | None:
        """A mixer's closed form, what it is over, and its residual; None where it has none, or more than 64 maps."""
        if not isinstance(self.module, AbstractMixer):
            return None
        own = _weights(*self._call)
        return None if own is None else (np.asarray(own[0]), own[1], float(own[2]))

    def plot(self, tokens: Sequence[str] | None = None, *, heads: int = 4) -> Any:
        """The signed maps as a matplotlib figure: see `views.plot`."""
        return plot([self], tokens, heads=heads)

    def _repr_html_(self) -> str:
        """The maps and the certificate, in a notebook."""
        return as_html([self], self.name, self.kind, self.residual, self.map_residual)

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
    x: Any,
    state: State | None = None,
    *,
    start=None,
    mask=None,
    name: str = "",
    block: int = 32,
) -> LayerForm:
    """Any module that `freeze` knows as an exact sum over source tokens plus a bias, its parts worked out on demand.

    **Arguments:** x: (time, d_in), the module's input, or a language model's tokens, (time,); state, start, mask: as of its call;
    name: to show; block: source tokens worked on at once.

    **Returns:** a `LayerForm`.

    **Raises:** `InputError` as `freeze` and the module's call do, and for a block of no token.
    """
    require(block >= 1, f"block is {block}; it must be at least 1 token.")
    check_module(module)
    form = LayerForm(name or type(module).__name__, module, x, state, start, mask, block)
    _ = form.certificate  # what cannot be frozen is refused here
    return form


def frozen_map(module: Any, x, state, start, mask) -> tuple[Frozen, Array]:
    """A module frozen at x, and what its map takes for x: (time, d), in float32 or wider."""
    return freeze(module, x, state, start=start, mask=mask), taken(module, x, state, start, mask)


@eqx.filter_jit
def _certificate(module, x, state, start, mask):
    frozen, x = frozen_map(module, x, state, start, mask)
    return Certificate(*certified(frozen.map, x, frozen.y, frozen.rows), frozen.kind, frozen.map.direct)


def certified(map: CausalMap, x: Float[Array, "time d_in"], y: Float[Array, "time d_out"], rows=None):
    """y in the map's dtype, the bias, and the residual of the sum over groups of tokens, in the rows that the call gave."""
    bias = map(jnp.zeros_like(x))
    require(
        bias.shape == y.shape,
        f"the call gives an output of shape {y.shape}, and the frozen map one of {bias.shape}: they are not of one module.",
    )
    group = jnp.arange(len(x)) % GROUPS
    part = lambda g: map(present(x, group == g)) - bias
    total = bias + jax.lax.map(part, jnp.arange(min(GROUPS, len(x)))).sum(0)
    y = y.astype(bias.dtype)
    return y, bias, relative_error(present(total, rows), present(y, rows))


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
    frozen, x = frozen_map(module, x, state, start, mask)
    return frozen.map.columns(x, sources)[:, rows][:, :, channels].swapaxes(0, 1)


@eqx.filter_jit
def _column_norms(module, x, state, start, mask, sources, rows):
    frozen, x = frozen_map(module, x, state, start, mask)
    return lengths(frozen.map.columns(x, sources)[:, rows]).T


@eqx.filter_jit
def _summed(module, x, state, start, mask, sources, fresh):
    frozen, x = frozen_map(module, x, state, start, mask)
    found = frozen.map.columns(x, sources)
    return jnp.where(fresh[:, None, None], found, jnp.zeros_like(found)).sum(0)


@eqx.filter_jit
def _row_passes(module, x, state, start, mask, places):
    frozen, x = frozen_map(module, x, state, start, mask)
    d_out = frozen.y.shape[1]
    return frozen.map.rows(x, places[:, 0], jax.nn.one_hot(places[:, 1], d_out, dtype=x.dtype))


@eqx.filter_jit
def _rows(module, x, state, start, mask, r, places):
    frozen, x = frozen_map(module, x, state, start, mask)
    return frozen.map.rows(x, places[:, 1], r[places[:, 0], places[:, 1]])


@eqx.filter_jit
def _project(module, x, state, start, mask, r, block):
    frozen, x = frozen_map(module, x, state, start, mask)
    return frozen.map.project(x, r, block)


@eqx.filter_jit
def _weights(mixer, x, state, start, mask):
    frozen, x = frozen_map(mixer, x, state, start, mask)
    attention = attention_of(frozen.map)
    # Maps of all channels are not made where they are not to be shown: what is not returned is not computed.
    if attention is None or len(jax.eval_shape(attention.weights)) > MOST_HEADS:
        return None
    own, bias = attention.weights(), frozen.map(jnp.zeros_like(x))
    return own, attention.over, map_residual(attention, own, x, bias, frozen.y.astype(bias.dtype), mask)


_shares_residual = eqx.filter_jit(shares_residual)


@eqx.filter_jit
def _core_input(layer, x, state, start, mask):
    return read_by_core(layer, *layer.checked(x, state, start, mask))
