"""What every mixer is: a linear map over the past, chosen by its input.

    y, state, map = mixer.at(x, state, segments)        map is affine and causal, and map(x) is y

A mixer writes `init_state` and `at`. The call, the step, the checks and the dual form (`dualform.dual_form`) are written once,
for all; the call is the first two of the three.
"""

import abc
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Inexact

from dualform.arrays import Activations, State
from dualform.compiled import compiled
from dualform.errors import require
from dualform.finite import put_back, set_aside, spoiled
from dualform.maps import LINEAR, NONLINEAR, Frozen, masked
from dualform.mixers.declared import Declared, axes_of, declared
from dualform.mixers.fresh import fan_in
from dualform.segments import Segments


class AbstractMixer(Declared):
    """A causal sequence mixer: (time, d_in) -> (time, d_out), with a state.

    Every call takes two masks over time. `start`: a document begins at this token, all before it is forgotten, exactly.
    `mask`: False where there is no token: the state stays as it is, to the bit, and the output is 0 (a `start` at such a
    place is ignored, and whatever x holds there, NaN included, is not read).

    Where `start` is given, nothing crosses it that is not finite: a token that holds NaN or infinity makes NaN of its own
    output and of those behind it in its document, a carried state of all of its document; what comes before, later
    documents and their gradients are as if that document were not there.

    The state after a call has the structure, the shapes and the dtypes of `init_state()`, whatever those of x.
    """

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

    @abc.abstractmethod
    def at(self, x: Activations, state: State, segments: Segments) -> Frozen:
        """The equations, written once: y, the state after the last token, and the map that the mixer is with its choices at x.

        The map's value at x is y: what chooses (gates, keys, queries, decays) is data in it, what is carried passes through. A
        call throws the map away, which then costs nothing.

        **Arguments:** x (time, d_in), absent tokens zeros; state: as of `init_state()`; segments: documents and gaps.
        """

    @property
    def d_out(self) -> int:
        """Width of an output: the d_out of the fields' shapes, or found by tracing a call."""
        if any("d_out" in axes for annotation in declared(type(self)).values() for axes in axes_of(annotation)):
            return self.dim("d_out")
        token = jax.ShapeDtypeStruct((1, self.d_in), jnp.float32)
        return jax.eval_shape(lambda x: self(x)[0], token).shape[1]

    @compiled
    def __call__(
        self,
        x: Float[Array, "time d_in"],
        state: State | None = None,
        *,
        start: Bool[Array, " time"] | None = None,
        mask: Bool[Array, " time"] | None = None,
    ) -> tuple[Float[Array, "time d_out"], State]:
        """The whole sequence at once.

        **Arguments:**

        - x: (time, d_in).
        - state: what an earlier call returned; `init_state()` if not given.
        - start, mask: (time,), see the class.

        **Returns:** y (time, d_out), in the dtype of x, and the state after the last token.

        **Raises:** `InputError` for a wrong shape or dtype, or no token at all.
        """
        y, after, *_ = self.frozen(x, state, start, mask)
        return y, after

    @compiled
    def frozen(
        self,
        x: Float[Array, "time d_in"],
        state: State | None = None,
        start: Bool[Array, " time"] | None = None,
        mask: Bool[Array, " time"] | None = None,
    ) -> Frozen:
        """The call, with the map that the mixer is with its choices frozen at x; arguments and errors as of the call."""
        initial = self.init_state()
        given = x, initial if state is None else state
        x, before, start, mask = self.checked(x, state, start, mask)
        y, after, map, *_ = self.at(x, before, Segments(start, mask))
        if start is not None:
            y, after = put_back(y, after, given[1], spoiled(*given, start, mask))
        if mask is not None:
            y = jnp.where(mask[:, None], y, jnp.zeros_like(y))
        after = jax.tree_util.tree_map(lambda leaf, like: leaf.astype(like.dtype), after, initial)
        kind = LINEAR if self.linear_given_gates else NONLINEAR
        return Frozen(y.astype(x.dtype), after, masked(map, mask), kind)

    def step(
        self,
        x_t: Float[Array, " d_in"],
        state: State,
        *,
        start: Bool[Array, ""] | bool | None = None,
        mask: Bool[Array, ""] | bool | None = None,
    ) -> tuple[Float[Array, " d_out"], State]:
        """One token, (d_in,) -> (d_out,), in constant memory; start and mask are the token's own flags."""
        return one_step(self, x_t, state, flag_of(start), flag_of(mask))

    def checked(self, x: Any, state: Any, start: Any, mask: Any) -> tuple[Inexact[Array, "time d_in"], State, Any, Any]:
        """The arguments of a call, checked and made uniform: absent tokens are zeros, and no document starts there.

        Where `start` is given, a token or a state that is not finite is set aside: see the class.
        """
        name = type(self).__name__
        require(hasattr(x, "ndim"), f"{name} takes an array; got {type(x).__name__}. Wrap it in jnp.asarray.")
        require(
            x.ndim == 2,
            f"{name} takes one sequence, (time, {self.d_in}); got shape {x.shape}. For a batch use jax.vmap(mixer).",
        )
        require(
            x.shape[1] == self.d_in,
            f"{name} takes tokens of width {self.d_in}; got {x.shape[1]}. Is the input from another model, or transposed?",
        )
        require(x.shape[0] >= 1, f"{name} got a sequence of length 0; it needs at least one token.")
        require(
            jnp.issubdtype(x.dtype, jnp.floating),
            f"{name} takes real floating-point activations; got {x.dtype}. Embed token ids first, or cast.",
        )
        for flag, flags in (("start", start), ("mask", mask)):
            shape, dtype = getattr(flags, "shape", None), getattr(flags, "dtype", type(flags).__name__)
            require(
                flags is None or (shape == x.shape[:1] and str(dtype) == "bool"),
                f"{flag} must be an array of one boolean for each of the {x.shape[0]} tokens; got shape {shape} of {dtype}.",
            )
        initial = jax.eval_shape(self.init_state)
        if state is None:
            state = self.init_state()
        else:
            shapes = lambda tree: jax.tree_util.tree_map(jnp.shape, tree)
            require(
                jax.tree_util.tree_structure(state) == jax.tree_util.tree_structure(initial)
                and shapes(state) == jax.tree_util.tree_map(lambda leaf: leaf.shape, initial),
                f"the state does not belong to this {name}: shapes {shapes(state)}, expected "
                f"{jax.tree_util.tree_map(lambda leaf: leaf.shape, initial)}. Start from init_state().",
            )
        if mask is not None:
            x = jnp.where(mask[:, None], x, jnp.zeros_like(x))
            start = None if start is None else start & mask
        if start is not None:
            x, state = set_aside(x, state, self.init_state(), spoiled(x, state, start, mask))
        return x, state, start, mask


@compiled
def one_step(model: Any, x_t: Any, state: State, start: Any, mask: Any) -> tuple[Array, State]:
    """A call of one token, whose own flags are start and mask: its output, of a model that pools all of it, and the state."""
    flag = lambda value: None if value is None else jnp.asarray(value)[None]
    y, state = model(jnp.asarray(x_t)[None], state, start=flag(start), mask=flag(mask))
    return (y[0] if y.ndim == 2 else y), state


def flag_of(value: Bool[Array, ""] | bool | None) -> Any:
    """A step's own flag as an array: a Python boolean would be a part of the program."""
    return value if value is None or isinstance(value, jax.Array) else np.asarray(value, bool)
