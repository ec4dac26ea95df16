"""A whole model's output as an exact sum over its input tokens: every layer, and their product, with certificates.

A model is a chain of stages (`model.stages()`). Frozen at what it reads, every stage is affine, and so is the chain: what an
input token brings to an output through all layers is one number vector, found by no heuristic. Rollout is one, kept beside it to
be compared.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dualform.arrays import State, accumulator
from dualform.dual.frozen import check_module, freeze, look_at, taken
from dualform.dual.layer import LayerForm, Rows, certified, chosen, padded
from dualform.dual.shares import scaled
from dualform.dual.views import MOST_SHOWN, as_html, plot
from dualform.errors import require
from dualform.layer import as_layer
from dualform.maps import CausalMap, Frozen, joint
from dualform.models.chain import product
from dualform.models.language_model import LanguageModel
from dualform.models.model import AbstractModel

LONG = 256
"""From so many tokens on, rows of a causal model are read in programs of four lengths rather than one."""


class LogitForm(NamedTuple):
    """A logit, or the difference of two, as a sum over input tokens.

    - contributions: (time,), what each token brings.  bias: what no token brought.  value: the logit itself.
    - residual: |sum of contributions + bias - value| / (sum of |contributions| + |bias|); nan where the value is not the model's
      own, which a model that pools has at its last token alone (`attribute` reads it up to another).
    """

    contributions: Float[np.ndarray, " time"]
    bias: float
    value: float
    residual: float


class Agreement(NamedTuple):
    """How near a heuristic map comes to the exact one: Pearson's correlation over what can be seen, and the relative error."""

    correlation: float
    relative_error: float


@dataclass(frozen=True, eq=False)
class ModelForm:
    """A model's output as a sum over its input tokens, exactly, and every layer's own map.

    - layers: a `LayerForm` for each stage that carries something from token to token.
    - names: of all stages.  y: (time, d_out), the model's output.  x: (time, d), what the first stage takes.
    - residual: ||sum over tokens + bias - y|| / ||y|| of the whole chain, where y is what the model's own call gives for what
      `model_form` was handed: its logits, for the tokens of a language model; of a model that pools, its one output.
    - bias: (time, d_out), what no input token brought to the output.
    - rows: the places whose output the model's own call gives, None for all: of a model that pools, the last.
    - after: what the model remembers after the last token, as its call returns it; state, start, mask: as of the call.
    """

    layers: tuple[LayerForm, ...]
    names: tuple[str, ...]
    x: Float[Array, "time d"]
    y: Float[Array, "time d_out"]
    bias: Float[Array, "time d_out"]
    residual: float
    model: Any = field(repr=False)
    state: State | None = field(default=None, repr=False)
    start: Any = field(default=None, repr=False)
    mask: Any = field(default=None, repr=False)
    block: int = 32
    after: State | None = field(default=None, repr=False)
    rows: Any = field(default=None, repr=False)

    @property
    def time(self) -> int:
        """Tokens."""
        return len(self.x)

    def layer(self, name: str) -> LayerForm:
        """The layer of that name.

        **Raises:** `InputError` where there is none.
        """
        named = {layer.name: layer for layer in self.layers}
        require(name in named, f"there is no layer {name!r}; there are {', '.join(named)}.")
        return named[name]

    def rollout(self, kind: Literal["shares", "norms"] = "shares") -> Float[np.ndarray, "time source"]:
        """The product of the layers' maps: a heuristic for `shares`, which is exact.

        "shares": signed, each block's own with its residual stream in it. "norms": the lengths of contributions, each row
        brought to a sum of 1, as attention rollout does (Abnar & Zuidema 2020, arXiv 2005.00928).
        """
        require(kind in ("shares", "norms"), f"there is no rollout of {kind!r}; there are shares and norms.")
        return functools.reduce(lambda below, layer: self._map(layer, kind) @ below, self.layers, np.eye(self.time))

    def total(self, rows: Rows = None, *, to: str | None = None) -> Float[np.ndarray, "row source d_out"]:
        """What the outputs at `rows` take from each input token, through all stages up to `to` (the last if not given).

        rows * time * d_out numbers, from one pass of the frozen model for each source token.

        **Raises:** `InputError` for a row or stage that there is not.
        """
        rows, last = chosen(rows, self.time, "row"), self._stage(to)
        parts = padded(np.arange(self.time), self.block)
        found = [np.asarray(_total(*self._call, last, jnp.asarray(part), jnp.asarray(rows))) for part in parts]
        return np.concatenate(found, axis=1)[:, : self.time]

    def shares(self, rows: Rows = None, *, to: str | None = None) -> Float[np.ndarray, "row source"]:
        """The share of each output that each input token brings, signed and exact: one backward pass for each row.

        Entry [t, s] is (total[t, s] . y_t) / (y_t . y_t), of the output of stage `to`: of the last layer if not given.
        """
        rows, last = chosen(rows, self.time, "row"), self._stage(to or self.layers[-1].name)
        found = [self._read_up_to(part, _shares, last, part) for part in padded(rows, self.block)]
        return np.concatenate(found)[: len(rows)]

    def logits(self, rows: Rows, tokens: Sequence[int] | np.ndarray) -> Float[np.ndarray, "row source"]:
        """What each input token brings to output `tokens[i]` at place `rows[i]`: one backward pass for each row.

        **Raises:** `InputError` for a place or an output that there is not, or a token too few or too many.
        """
        rows, tokens = chosen(rows, self.time, "place"), chosen(tokens, self.y.shape[1], "output")
        require(len(rows) == len(tokens), f"there are {len(rows)} places and {len(tokens)} tokens; each needs one.")
        parts = zip(padded(rows, self.block), padded(tokens, self.block), strict=True)
        found = [self._read_up_to(row, _logits, row, token) for row, token in parts]
        return np.concatenate(found)[: len(rows)]

    def _read_up_to(self, rows: np.ndarray, read: Any, *asked: Any) -> Float[np.ndarray, "row source"]:
        """`read` at these rows; of a long causal model not on all tokens, but on the quarters of them that the rows need."""
        time = self.time
        if isinstance(self.model, LanguageModel) and time >= LONG:
            step = -(-time // 4)
            time = min(self.time, -(-(int(rows.max()) + 1) // step) * step)
        part = lambda a: None if a is None else a[:time]
        asked = tuple(jnp.asarray(a) if isinstance(a, np.ndarray) else a for a in asked)
        found = read(self.model, self.x[:time], self.state, part(self.start), part(self.mask), *asked)
        return np.pad(np.asarray(found), ((0, 0), (0, self.time - time)))

    def logit(self, t: int, token: int, against: int | None = None) -> LogitForm:
        """What each input token brings to output `token` at place t (less output `against`): one backward pass.

        **Raises:** `InputError` for a place or an output that there is not.
        """
        (place,) = chosen([t], self.time, "place")
        direction = logit_direction(self.y.shape[1], token, against)
        brought, bias = _logit(
            *self._call, len(self.names) - 1, jnp.asarray(place), jnp.asarray(direction, self.y.dtype)
        )
        brought, bias = np.asarray(brought), float(bias)
        value = float(np.asarray(self.y[place]) @ direction)
        size = float(np.abs(brought).sum()) + abs(bias)
        residual = abs(float(brought.sum(dtype=np.float64)) + bias - value) / (size or 1.0)
        return LogitForm(brought, bias, value, residual if self.rows is None or self.rows[place] else float("nan"))

    def agreement(self, found: Float[np.ndarray, "row source"], rows: Rows = None) -> Agreement:
        """How near a heuristic map, such as `rollout()[rows]`, comes to the exact `shares(rows)`."""
        rows = chosen(rows, self.time, "row")
        exact = self.shares(rows)
        require(
            found.shape == exact.shape, f"the map has shape {found.shape}; for these rows it must be {exact.shape}."
        )
        seen = (exact != 0) | (found != 0)
        a, b = found[seen], exact[seen]
        spread = np.std(a) * np.std(b)
        correlation = float(np.mean((a - a.mean()) * (b - b.mean())) / spread) if spread else float("nan")
        return Agreement(correlation, float(np.linalg.norm(found - exact) / np.linalg.norm(exact)))

    def plot(self, tokens: Sequence[str] | None = None, *, heads: int = 4) -> Any:
        """Every layer's signed maps as a matplotlib figure: see `views.plot`."""
        return plot(self.layers, tokens, heads=heads)

    def _repr_html_(self) -> str:
        """The first layers' maps, and the certificate of the whole model, in a notebook."""
        kinds = joint(layer.kind for layer in self.layers[:MOST_SHOWN])
        return as_html(
            self.layers, f"a model of {len(self.names)} stages over {self.time} tokens", kinds, self.residual
        )

    def _map(self, layer: LayerForm, kind: str) -> np.ndarray:
        if kind == "shares":
            return layer.shares()[0]
        lengths = layer.norms()
        total = lengths.sum(axis=1, keepdims=True)
        return lengths / np.where(total == 0, 1, total)

    def _stage(self, name: str | None) -> int:
        require(name is None or name in self.names, f"there is no stage {name!r}; there are {', '.join(self.names)}.")
        return len(self.names) - 1 if name is None else self.names.index(name)

    @property
    def _call(self):
        return self.model, self.x, self.state, self.start, self.mask


def model_form(model: Any, x: Any, state: State | None = None, *, start=None, mask=None, block: int = 32) -> ModelForm:
    """Every layer of a model as an exact sum over source tokens plus a bias, and the whole model over its input tokens.

    **Arguments:** model: with `stages()`: a `LanguageModel`, `Stack`, `SequenceModel` or an imported one; x: its tokens,
    (time,), or what its first stage takes, (time, d); state, start, mask: as of its call; block: source tokens worked on at
    once.

    **Returns:** a `ModelForm`. The whole model's certificate is there at once; those of layers, and all maps, are worked out
    when they are asked for.

    **Raises:** `InputError` as the model's call does, and for a model without stages.

        >>> import jax, jax.random as jr
        >>> from dualform import mixers, models
        >>> from dualform.dual import model_form
        >>> blocks = [models.Block.make(mixers.HGRN.make(8, key=k), key=k) for k in jr.split(jr.key(0))]
        >>> form = model_form(models.LanguageModel.make(tuple(blocks), 16, key=jr.key(1)), jax.numpy.arange(6))
        >>> [layer.name for layer in form.layers], form.logit(5, 3).contributions.shape, form.residual < 1e-5
        (['block 1', 'block 2'], (6,), True)
    """
    require(block >= 1, f"block is {block}; it must be at least 1 token.")
    given = x
    x, start, mask = first_activations(model, x, start, mask)
    before = model.split(model.init_state() if state is None else model.checked_state(state))
    named = [(name, stage, own) for (name, stage), own in zip(model.stages(), before, strict=True)]
    require(
        any(carries(stage) for _, stage, _ in named),
        "no stage of this model carries anything from token to token; there is nothing to map.",
    )
    inputs, y, rows, after, bias, residual = _chain(model, jnp.asarray(given), state, start, mask)
    layers = tuple(
        LayerForm(name, stage, read, before, start, mask, block)
        for (name, stage, before), read in zip(named, inputs, strict=True)
        if carries(stage)
    )
    names = tuple(name for name, _, _ in named)
    return ModelForm(layers, names, x, y, bias, float(residual), model, state, start, mask, block, after, rows)


def carries(stage: Any) -> bool:
    """Whether a stage carries anything from token to token; a norm, an MLP or a linear map looks at one token at a time."""
    return not as_layer(stage).tokenwise


def first_activations(model: Any, x: Any, start, mask) -> tuple[Array, Any, Any]:
    """What a model's first stage takes: its embedded tokens, or x itself; and the flags as arrays."""
    check_stages(model)
    start, mask = (None if flag is None else jnp.asarray(flag, bool) for flag in (start, mask))
    x = look_at(model, x if hasattr(x, "ndim") else np.asarray(x), start, mask)
    checked, *_ = model.checked(x, None, start, mask)
    return (checked if x.ndim == 1 else jnp.asarray(x)), start, mask


def check_stages(model: Any) -> None:
    """Raise `InputError` unless it is a model, a chain of named stages."""
    check_module(model)
    require(
        isinstance(model, AbstractModel),
        f"a {type(model).__name__} has no stages(); for a single mixer or block use layer_form or dual_form.",
    )


def logit_direction(d_out: int, token: int, against: int | None) -> np.ndarray:
    """What an output row is multiplied with to give a logit, or the difference of two."""
    direction = np.zeros(d_out)
    for number, sign in ((token, 1.0), (against, -1.0)):
        if number is not None:
            require(0 <= number < d_out, f"there is no output {number}; there are {d_out}, from 0 to {d_out - 1}.")
            direction[number] += sign
    return direction


def chain(
    model: AbstractModel, x, state, start, mask, last: int | None = None
) -> tuple[list[Frozen], CausalMap, Array]:
    """The stages up to number `last`, frozen at what they read; the map that they are together; and what it takes of x.

    **Arguments:** x: what the first stage takes, or tokens by number.
    """
    frozen = [stage for _, stage in model.passes(*model.checked(x, state, start, mask))]
    frozen = frozen if last is None else frozen[: last + 1]
    return frozen, product(frozen)[0], taken(model, x, state, start, mask)


@eqx.filter_jit
def _chain(model, given, state, start, mask):
    frozen, map, wide = chain(model, given, state, start, mask)
    own = freeze(model, given, state, start=start, mask=mask)
    y, bias, residual = certified(map, wide, own.y, own.rows)
    x = model.checked(given, state, start, mask)[0]
    return [x, *(stage.y.astype(x.dtype) for stage in frozen[:-1])], y, own.rows, own.state, bias, residual


@eqx.filter_jit
def _total(model, x, state, start, mask, last, sources, rows):
    _, map, x = chain(model, x, state, start, mask, last)
    return map.columns(x, sources)[:, rows].swapaxes(0, 1)


@eqx.filter_jit
def _shares(model, x, state, start, mask, last, rows):
    frozen, map, x = chain(model, x, state, start, mask, last)
    y = frozen[-1].y
    unit, size = scaled(y.astype(accumulator(y.dtype, x.dtype)), 1)
    return map.rows(x, rows, unit[rows, 0]) / size[rows]


@eqx.filter_jit
def _logits(model, x, state, start, mask, rows, tokens):
    frozen, map, x = chain(model, x, state, start, mask)
    return map.rows(x, rows, jax.nn.one_hot(tokens, frozen[-1].y.shape[1], dtype=x.dtype))


@eqx.filter_jit
def _logit(model, x, state, start, mask, last, t, direction):
    _, map, x = chain(model, x, state, start, mask, last)
    return map.rows(x, t[None], direction[None])[0], map(jnp.zeros_like(x))[t] @ direction
