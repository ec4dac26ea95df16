"""A model by its sizes: an embedding, equal blocks, and a readout."""

import inspect
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from numbers import Real
from typing import Any

import jax.random as jr
from jaxtyping import Array

from dualform.counts import counted
from dualform.errors import InputError, require
from dualform.mixers import AbstractMixer
from dualform.mixers.registration import registry
from dualform.models.block import MLPS, NORMS, Block
from dualform.models.language_model import LanguageModel
from dualform.models.recurrent import Recurrent
from dualform.models.sequence_model import SequenceModel


@dataclass(frozen=True)
class Architecture:
    """Residual blocks of named mixers between an embedding (or a linear map) and a readout.

    - mixers: as in the registry; block i has the i-th one, and behind the last one begins again: ("rg_lru", "rg_lru",
      "softmax_attention") is Griffin's pattern.
    - width, layers: of the model.  mlp: of each block, one of `models.block.MLPS`, or "none".  norm: "rms", "layer" or "none", in
      front of each mixer and MLP, and behind the last block.
    - options: of the mixers' `make`, such as {"heads": 4}; each is given to every mixer that has it.
    - tied: whether a language model reads out by its embedding.
    - plain: whether the mixers read the inputs themselves, one above the other, and an affine map reads them, with no embedding,
      norm, residual or MLP (`models.Recurrent`). The width is then that of the input, and units are the mixers' option
      {"n": 46}. Of a task of vectors with an output for each token.

    **Raises:** `InputError` for a number below 1, a name that is none, an option that no mixer has, or a value of
    another type than its.
    """

    mixers: tuple[str, ...] = ("gla",)
    width: int = 64
    layers: int = 2
    mlp: str = "swiglu"
    norm: str = "rms"
    options: Mapping[str, Any] = field(default_factory=dict)
    tied: bool = False
    plain: bool = False

    def __post_init__(self):
        for name in ("width", "layers"):
            require(getattr(self, name) >= 1, f"{name} is {getattr(self, name)}; it must be at least 1.")
        require(len(self.mixers) >= 1, "there are no mixers; give the name of at least one.")
        known = registry()
        for name in self.mixers:
            require(name in known, f"there is no mixer {name!r}; there are {', '.join(known)}.")
        require(self.mlp in (*MLPS, "none"), f"there is no MLP {self.mlp!r}; there are none, {', '.join(MLPS)}.")
        require(self.norm in (*NORMS, "none"), f"there is no norm {self.norm!r}; there are none, {', '.join(NORMS)}.")
        has = {name: _options(name) for name in self.mixers}
        for name in self.options:
            there = "; ".join(f"{mixer} has {', '.join(options) or 'none'}" for mixer, options in has.items())
            require(any(name in options for options in has.values()), f"no mixer here has an option {name!r}: {there}.")
            for options in has.values():
                _check_kind(name, self.options[name], options.get(name))

    def blocks(self, key: Array, dtype: Any = None) -> tuple[Block, ...]:
        """Fresh blocks.

        **Raises:** `InputError` where a mixer does not take an option's value, or the width.
        """
        return tuple(self._block(i, key, dtype) for i, key in enumerate(jr.split(key, self.layers)))

    def _recurrent(self, d_in: int, d_out: int, keys: Array, pool: str, dtype: Any) -> Recurrent:
        require(pool == "none", "a plain model gives an output for each token; this task asks for one of a sequence.")
        layers, width = [], d_in
        for i, key in enumerate(jr.split(keys[0], self.layers)):
            layers.append(replace(self, width=width)._mixer(i, key, dtype))
            width = layers[-1].d_out
        return Recurrent.make(tuple(layers), d_out, key=keys[1], dtype=dtype)

    def _block(self, i: int, key: Array, dtype: Any) -> Block:
        keys, mlp, norm = jr.split(key), *(None if name == "none" else name for name in (self.mlp, self.norm))
        return Block.make(self._mixer(i, keys[0], dtype), key=keys[1], mlp=mlp, norm=norm, dtype=dtype)

    def _mixer(self, i: int, key: Array, dtype: Any) -> AbstractMixer:
        name = self.mixers[i % len(self.mixers)]
        given = {option: value for option, value in self.options.items() if option in _options(name)}
        try:
            return registry()[name](self.width, key=key, dtype=dtype, **given)
        except (TypeError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{name} of width {self.width} cannot be made with {given}: {error}.") from error

    def language_model(self, vocabulary: int, *, key: Array, dtype: Any = None) -> LanguageModel:
        """Tokens by number in, and logits of so many out."""
        require(not self.plain, "a plain model reads vectors; leave plain out for a task of tokens.")
        keys = jr.split(key)
        return LanguageModel.make(
            self.blocks(keys[0], dtype), vocabulary, key=keys[1], norm=self._last(dtype), tied=self.tied, dtype=dtype
        )

    def sequence_model(
        self, d_in: int, d_out: int, *, key: Array, pool: str = "none", dtype: Any = None
    ) -> SequenceModel | Recurrent:
        """Vectors in and out; pool: as of `SequenceModel`."""
        keys = jr.split(key)
        if self.plain:
            return self._recurrent(d_in, d_out, keys, pool, dtype)
        blocks = self.blocks(keys[0], dtype)
        return SequenceModel.make(blocks, d_in, d_out, key=keys[1], norm=self._last(dtype), pool=pool, dtype=dtype)

    def _last(self, dtype: Any) -> Any:
        return None if self.norm == "none" else NORMS[self.norm].make(self.width, dtype=dtype)


def _options(mixer: str) -> dict[str, Any]:
    """What a mixer's `make` may be told beside its width, by name, and of what type it is."""
    parameters = inspect.signature(registry()[mixer]).parameters
    return {name: each.annotation for name, each in parameters.items() if name not in ("d", "key", "dtype")}


def _check_kind(name: str, value: Any, hint: Any) -> None:
    """Raise where an option's value is not of its type: the word "False" would be true."""
    hints = (hint, *typing.get_args(hint))
    kinds = [] if value is None and type(None) in hints else [_KINDS[each] for each in _KINDS if each in hints]
    said = " or ".join(said for said, _ in kinds)
    fits = not kinds or any(holds(value) for _, holds in kinds)
    require(fits, f"the mixers' option {name} is {value!r}; it must be {said}.")


_KINDS: dict[type, tuple[str, Callable[[Any], bool]]] = {
    bool: ("true or false", lambda value: isinstance(value, bool)),
    int: ("a whole number", lambda value: counted(value) is not None),
    float: ("a number", lambda value: isinstance(value, Real) and not isinstance(value, bool)),
    str: ("a text in quotes", lambda value: isinstance(value, str)),
}
