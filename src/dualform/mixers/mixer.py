"""What every mixer is: a linear map over the past, chosen by its input.

    y, state, map = mixer.at(x, state, segments)        map is affine and causal, and map(x) is y

A mixer is a `Layer` that carries something from token to token: it writes `init_state` and `at`, and says what its map is.
"""

import abc
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import equinox as eqx
from jaxtyping import Array

from dualform.arrays import State
from dualform.layer import Layer
from dualform.maps import LINEAR, NONLINEAR
from dualform.maps.frozen import Kind
from dualform.mixers.declared import Declared, axes_of, declared
from dualform.mixers.fresh import fan_in


class AbstractMixer(Declared, Layer):
    """A causal sequence mixer: (time, d_in) -> (time, d_out), with a state; what it keeps to stands with `Layer`."""

    if TYPE_CHECKING:
        linear_given_gates: ClassVar[bool]
    else:
        linear_given_gates: eqx.AbstractClassVar[bool]
    """True where freezing the choices leaves the layer's own linear map; False where a nonlinearity is frozen with it."""

    weight_decayed: ClassVar[tuple[str, ...] | None] = None
    """The fields that weight decay acts on, its matrices; None where a class does not say: then all with two axes or more."""

    @property
    def d_in(self) -> int:
        """Width of a token: the d of the fields' shapes, where a mixer does not say it otherwise."""
        return self.dim("d")

    @property
    def d_out(self) -> int:
        """Width of an output: the d_out of the fields' shapes, or found by tracing a call."""
        if any("d_out" in axes for annotation in declared(type(self)).values() for axes in axes_of(annotation)):
            return self.dim("d_out")
        return super().d_out

    @property
    def kind(self) -> Kind:
        """As `linear_given_gates` says."""
        return LINEAR if self.linear_given_gates else NONLINEAR

    @classmethod
    def matrices(cls, keys: Sequence[Array] | Array, dtype: Any = None, **sizes: int) -> dict[str, Any]:
        """Fresh numbers for the fields of `weight_decayed`, by name: of variance 1 / fan-in, in the shapes that the fields say.

        **Arguments:** keys: one for each; sizes: of the dimensions, by name.
        """
        names = cls.weight_decayed or ()
        return {
            name: fan_in(key, *cls.shape_of(name, **sizes), dtype=dtype) for name, key in zip(names, keys, strict=True)
        }

    @abc.abstractmethod
    def init_state(self) -> State:
        """What is remembered before the first token."""
