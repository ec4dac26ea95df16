"""What every mixer is: a linear map over the past, chosen by its input.

    y, state = mix(context(x, state), value(x), state)        mix is affine in value

A mixer writes `init_state`, `context`, `value` and `mix`. The call, the step, the checks and the dual form
(`dualform.dual_form`) are written once, for all.
"""

import abc
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Inexact

from dualform.arrays import Activations, State, TimeMask
from dualform.compiled import compiled
from dualform.errors import InputError, require
from dualform.finite import put_back, set_aside, spoiled
from dualform.maps import LINEAR, NONLINEAR, Frozen
from dualform.mixers.frozen_mixer import MixerMap

Over: TypeAlias = Literal["tokens", "convolved tokens", "values"]
"""What column s of a map stands for: what is linear in token s alone; what a convolution made of it and of tokens before it; or
a nonlinear function of token s alone."""


def visible(time: int, start: TimeMask | None, mask: TimeMask | None) -> Bool[Array, "time source"]:
    """Which tokens each one may take from: itself and those before it in its document, where there are tokens at all."""
    present = jnp.ones(time, bool) if mask is None else mask
    document = jnp.cumsum(jnp.zeros(time, int) if start is None else (start & present).astype(int))
    return jnp.tril(document[:, None] == document[None]) & present[:, None] & present[None]


class AbstractMixer(eqx.Module):
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
    """True where freezing the context leaves the layer's own linear map; False where a nonlinearity is frozen with it."""

    weight_decayed: ClassVar[tuple[str, ...] | None] = None
    """The fields that weight decay acts on, its matrices; None where a class does not say: then all with two axes or more."""

    @property
    @abc.abstractmethod
    def d_in(self) -> int:
        """Width of a token."""

    @abc.abstractmethod
    def init_state(self) -> State:
        """What is remembered before the first token."""

    @abc.abstractmethod
    def context(self, x: Activations, state: State, start: TimeMask | None, mask: TimeMask | None) -> Any:
        """Everything that chooses the map: gates, keys, queries, decays. May be nonlinear and may run a recurrence."""

    @abc.abstractmethod
    def value(self, x: Activations) -> Any:
        """What is carried from the past to the present: pointwise in time, a pytree with time as the leading axis."""

    @abc.abstractmethod
    def mix(
        self, context: Any, value: Any, state: State, start: TimeMask | None, mask: TimeMask | None
    ) -> tuple[Float[Array, "time d_out"], State]:
        """The map itself, affine in `value`; what it gives for a value of zero is the bias."""

    @property
    def d_out(self) -> int:
        """Width of an output, found by tracing a call; a mixer overrides it only to answer sooner."""
        token = jax.ShapeDtypeStruct((1, self.d_in), jnp.float32)
        return jax.eval_shape(lambda x: self(x)[0], token).shape[1]

    def forward(
        self, x: Activations, state: State, start: TimeMask | None, mask: TimeMask | None
    ) -> tuple[Float[Array, "time d_out"], State]:
        """`mix(context, value)`; a mixer overrides it only for speed, and the laws hold the two together."""
        return self.mix(self.context(x, state, start, mask), self.value(x), state, start, mask)

    def weights(
        self, x: Activations, state: State, start: TimeMask | None, mask: TimeMask | None
    ) -> Float[Array, "head time time"] | None:
        """The scalar attention maps in closed form, or None where the mixer has none.

        They claim that y = read_out(context, o) + what no token brought, with o[t, head] = sum_s weights[head, t, s]
        carried[s, head]; the dual form holds them to it.
        """
        del x, state, start, mask
        return None

    @property
    def over(self) -> Over:
        """What the closed-form maps are over."""
        return "tokens"

    def carried(
        self, context: Any, value: Any, start: TimeMask | None, mask: TimeMask | None
    ) -> Float[Array, "source head width"]:
        """What the closed-form maps multiply, linear in `value`: each head's or channel's value unless a mixer says otherwise."""
        del context, start, mask
        return value if value.ndim == 3 else value[:, :, None]

    def read_out(self, context: Any, o: Float[Array, "time head width"]) -> Float[Array, "time d_out"]:
        """The output made of what the closed-form maps read, linear, without biases; a mixer that has maps writes it.

        **Raises:** `InputError` where it does not.
        """
        del context, o
        raise InputError(
            f"a {type(self).__name__} gives weights in closed form, and no read_out(context, o) that says how its output is made "
            "of what they read: they cannot be held to the output. Write it, or leave weights out."
        )

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
        initial = self.init_state()
        given = x, initial if state is None else state
        x, before, start, mask = self.checked(x, state, start, mask)
        y, after = self.forward(x, before, start, mask)
        if start is not None:
            y, after = put_back(y, after, given[1], spoiled(*given, start, mask))
        if mask is not None:
            y = jnp.where(mask[:, None], y, jnp.zeros_like(y))
        return y.astype(x.dtype), jax.tree_util.tree_map(lambda leaf, like: leaf.astype(like.dtype), after, initial)

    def frozen(
        self,
        x: Float[Array, "time d_in"],
        state: State | None = None,
        start: Bool[Array, " time"] | None = None,
        mask: Bool[Array, " time"] | None = None,
    ) -> Frozen:
        """The call, and the map that the mixer is with its context frozen at x; arguments and errors as of the call."""
        y, after = self(x, state, start=start, mask=mask)
        kind = LINEAR if self.linear_given_gates else NONLINEAR
        return Frozen(y, after, self.map_at(x, state, start, mask), kind)

    def map_at(self, x: Any, state: Any, start: Any, mask: Any) -> MixerMap:
        """The map alone; a mixer overrides it where its map has a shortcut that no weights give."""
        return MixerMap.of(self, x, state, start, mask)

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
