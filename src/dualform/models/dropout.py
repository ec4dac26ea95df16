"""Dropout: in a step of training, numbers on their way through a model are set to 0 at random, and the others made larger."""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array

from dualform.errors import InputError, require
from dualform.layer import Layer, as_layer
from dualform.maps import LINEAR, Frozen
from dualform.maps.frozen import Kind
from dualform.maps.pointwise import Scale
from dualform.models.chain import Chain, Composition, Part, Residual, Sum
from dualform.models.depth import AbstractDeep
from dualform.models.recurrent import Recurrent
from dualform.models.stack import Stack
from dualform.models.tokenwise import AbstractTokenwise

M = TypeVar("M", bound=eqx.Module)


def with_dropout(model: M, rate: float, *, key: Array) -> M:
    """The model for one step of training: of each number that a place of dropout is given, a share `rate` is set to 0.

    Places are those of the field: in a model of blocks what the first block reads (the embedding) and what each residual branch
    adds; of a block without residual branches what it gives; in a `Recurrent` or a `Stack` what each of its layers gives. States
    are passed on whole. Under a `jax.vmap` each sequence draws for itself, and devices that share a batch draw what one would.

    **Arguments:** model: a `LanguageModel`, `SequenceModel`, `Recurrent` or `Stack`; rate: from 0, which gives the model itself,
    to below 1; key: of the step.

    **Raises:** `InputError` for another rate, or a model that has no such places.

    **Source:** Srivastava et al. 2014; residual branches and the embedding as of Vaswani et al. 2017 (arXiv 1706.03762, 5.4);
    what recurrent layers give, and not what they carry, as of Zaremba et al. 2014 (arXiv 1409.2329).
    """
    check_rate(rate)
    if rate == 0:
        return model
    keys = iter(jr.split(key, 1 + len(_layers(model))))
    if isinstance(model, AbstractDeep):
        first, *others = (_Dropped(block, next(keys), rate) for block in model.blocks)
        embedded = Dropout(first.d_in, next(keys), rate)
        return dataclasses.replace(model, blocks=(Chain((embedded, first)), *others))
    for i, layer in enumerate(_layers(model)):
        place = Part(f"layer {i + 1}", "layers", i)
        model = place.put(model, Chain((layer, Dropout(layer.d_out, next(keys), rate))))
    return model


def check_rate(rate: float) -> None:
    """Raise `InputError` unless it is a rate of dropout."""
    require(0 <= rate < 1, f"dropout is {rate}; it must be at least 0, and below 1.")


def _layers(model: Any) -> tuple[Any, ...]:
    if isinstance(model, AbstractDeep):
        return model.blocks
    if isinstance(model, Recurrent | Stack):
        return model.layers
    raise InputError(
        f"a {type(model).__name__} has no places for dropout; a LanguageModel, SequenceModel, Recurrent or Stack has."
    )


class Dropout(AbstractTokenwise):
    """y = kept * x / (1 - rate), each number of kept 1 with probability 1 - rate, else 0.

    **Arguments:** width: of a token; key: of what is drawn, for each sequence of a `jax.vmap` apart; rate: in [0, 1).
    """

    width: int = eqx.field(static=True)
    key: Array
    rate: float = eqx.field(static=True)

    def __check_init__(self):
        check_rate(self.rate)

    @property
    def d_in(self) -> int:
        """Width of a token."""
        return self.width

    @property
    def d_out(self) -> int:
        """As wide."""
        return self.width

    @property
    def kind(self) -> Kind:
        """What is drawn does not depend on x."""
        return LINEAR

    def at(self, x, state, segments):
        """Each number by 0 or by 1 / (1 - rate)."""
        kept = jr.bernoulli(_of_sequence(self.key, jax.lax.stop_gradient(x)), 1 - self.rate, x.shape)
        scale = Scale(jnp.where(kept, 1 / (1 - self.rate), 0.0).astype(x.dtype))
        return Frozen(scale(x), state, scale)


@jax.custom_batching.custom_vmap
def _of_sequence(key: Array, x: Array) -> Array:
    """The key of one sequence: where several are batched by `jax.vmap`, one of its own for each."""
    del x
    return key


@_of_sequence.def_vmap
def _of_sequences(size: int, batched: Sequence[bool], key: Array, x: Array) -> tuple[Array, bool]:
    if batched[0]:  # of models with a key each
        return key, True
    return jr.split(_of_sequence(key, x[0]), size), True  # another vmap around this one has its own, too


class _Dropped(Composition):
    """A block with dropout on what each of its residual branches adds; one without any, on what it gives."""

    block: Any
    key: Array
    rate: float = eqx.field(static=True)

    @property
    def d_in(self) -> int:
        """Width of a token."""
        return self.block.d_in

    @property
    def tokenwise(self) -> bool:
        """Where the block is."""
        return as_layer(self.block).tokenwise

    def init_state(self):
        """The block's."""
        return as_layer(self.block).init_state()

    @property
    def whole(self) -> Layer:
        """As the block, with a place of dropout at the end of each branch."""
        numbers = itertools.count()
        drop = lambda layer: Chain((layer, Dropout(layer.d_in, jr.fold_in(self.key, next(numbers)), self.rate)))
        dropped = _on_branches(self.block, drop)
        return dropped if next(numbers) else Chain((self.block, Dropout(self.block.d_out, self.key, self.rate)))


def _on_branches(layer: Any, drop: Any) -> Any:
    """A layer whose residual branches are `drop` of what they were."""
    if isinstance(layer, Composition):
        return _on_branches(layer.whole, drop)
    if isinstance(layer, Residual):
        return Residual(drop(layer.layer))
    if isinstance(layer, Chain | Sum):
        return type(layer)(tuple(_on_branches(each, drop) for each in layer.layers))
    return layer
