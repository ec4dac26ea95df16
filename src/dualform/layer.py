"""What every layer is, mixers, norms, MLPs, blocks and models alike: a map over time, chosen by its input.

    y, state, map = layer.at(x, state, segments)        map is affine, and map(x) is y

A layer writes `at`, and `init_state` where it remembers. The call, the step, the checks and the dual form (`dualform.dual_form`)
are written once, for all; the call is the first two of the three.
"""

import abc
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from dualform.arrays import Activations, State, count_parameters
from dualform.compiled import compiled
from dualform.errors import InputError, require
from dualform.finite import put_back, set_aside, spoiled, token_by_token
from dualform.growing import alike, shorter
from dualform.maps import LINEAR, Called, CausalMap, Frozen, joint, masked, present
from dualform.maps.frozen import Kind
from dualform.segments import Segments

MOST_TOLD = 300
"""Letters of a state's shapes in a message."""


class Layer(eqx.Module):
    """A layer: (time, d_in) -> (time, d_out), with a state.

    Every call takes two masks over time. `start`: a document begins at this token, all before it is forgotten, exactly.
    `mask`: False where there is no token: the state stays as it is, to the bit, and the output is 0 (a `start` at such a
    place is ignored, and whatever x holds there, NaN included, is not read).

    Where `start` is given, nothing crosses it that is not finite: a token that holds NaN or infinity makes NaN of its own
    output and of those behind it in its document, a carried state of all of its document; what comes before, later
    documents and their gradients are as if that document were not there.

    The state after a call has the structure, the shapes and the dtypes of the state before it, whatever those of x: those of
    `init_state()`, or, of a cache, of fewer places (`dualform.growing`).
    """

    causal: ClassVar[bool] = True
    """Whether no output depends on a later token."""

    composite: ClassVar[bool] = False
    """Whether `at` puts layers together, each `inside` it: they keep what is not finite in its document, and leave 0 where there
    is no token."""

    @property
    @abc.abstractmethod
    def d_in(self) -> int:
        """Width of a token."""

    @property
    def d_out(self) -> int:
        """Width of an output, found by tracing a call; a layer overrides it only to answer sooner."""
        token = jax.ShapeDtypeStruct((1, self.d_in), jnp.float32)
        return jax.eval_shape(lambda x: self(x)[0], token).shape[1]

    @property
    def tokenwise(self) -> bool:
        """Whether it looks at one token at a time, and remembers nothing."""
        return False

    @property
    def wide(self) -> bool:
        """Whether outputs stay in the dtype in which they were worked out, and are not brought to that of x."""
        return False

    @property
    def looped(self) -> bool:
        """Whether its call runs it in another way than it is frozen; a certificate then compares the two."""
        return False

    @property
    def kind(self) -> Kind:
        """What freezing it means, the layers that it is made of aside: a map of its own, or one exact decomposition."""
        return LINEAR

    def init_state(self) -> State:
        """What is remembered before the first token: nothing, unless a layer says more."""
        return ()

    @abc.abstractmethod
    def at(self, x: Activations, state: State, segments: Segments) -> Frozen:
        """The equations, written once: y, the state after the last token, and the map that the layer is with its choices at x.

        The map's value at x is y: what chooses (gates, keys, queries, decays) is data in it, what is carried passes through. A
        call throws the map away, which then costs nothing.

        **Arguments:** x (time, d_in), absent tokens zeros; state: as of `init_state()`; segments: documents and gaps.
        """

    def embed(self, tokens: Int[Array, " time"], mask: Bool[Array, " time"] | None = None) -> Float[Array, "time d_in"]:
        """What `at` takes of tokens by number, in a model that has an embedding.

        **Raises:** `InputError` in any other layer.
        """
        del mask
        raise InputError(
            f"{type(self).__name__} takes real floating-point activations; got {tokens.dtype}. Embed token ids first, or "
            "cast."
        )

    def given(self, x: Any, state: Any, start: Any, mask: Any) -> tuple[Any, Any, Any, Any]:
        """A call's arguments, looked at before a program takes them: a model of tokens checks their numbers."""
        return x, state, start, mask

    def __call__(
        self,
        x: Float[Array, "time d_in"] | Int[Array, " time"],
        state: State | None = None,
        *,
        start: Bool[Array, " time"] | None = None,
        mask: Bool[Array, " time"] | None = None,
    ) -> tuple[Float[Array, "*time d_out"], State]:
        """The whole sequence at once.

        **Arguments:**

        - x: (time, d_in); of a model with an embedding also tokens by number, (time,).
        - state: what an earlier call returned; `init_state()` if not given.
        - start, mask: (time,), see the class.

        **Returns:** y (time, d_out), in the dtype of x, and the state after the last token.

        **Raises:** `InputError` for a wrong shape or dtype, or no token at all.
        """
        return _called(self, *self.given(x, state, start, mask))

    @compiled
    def frozen(
        self,
        x: Float[Array, "time d_in"] | Int[Array, " time"],
        state: State | None = None,
        start: Bool[Array, " time"] | None = None,
        mask: Bool[Array, " time"] | None = None,
    ) -> Frozen:
        """The call, with the map that the layer is with its choices frozen at x; arguments and errors as of the call."""
        return self.as_part(*self.checked(x, state, start, mask))

    def as_part(self, x: Activations, state: State, segments: Segments) -> Frozen:
        """`at`, as a part of another layer: what is not finite stays in its document, and where there is no token is 0.

        **Arguments:** x: (time, d_in), zeros where there is no token; state, segments: as of `at`.
        """
        start, mask = segments.start, segments.mask
        if self.tokenwise:
            frozen = _token_by_token(self, x, state, segments)
        elif self.composite or start is None:
            frozen = self.at(x, state, segments)
        else:
            found = spoiled(x, state, start, mask)
            frozen = self.at(*set_aside(x, state, shorter(self.init_state(), state), found), segments)
            y, after = put_back(frozen.y, frozen.state, state, found)
            frozen = frozen._replace(y=y, state=after)
        y, after = frozen.y, frozen.state
        if frozen.rows is None and (self.tokenwise or not self.composite):
            y = present(y, mask)
        if not self.composite:
            after = jax.tree_util.tree_map(lambda leaf, like: leaf.astype(like.dtype), after, self.init_state())
        kind = joint((self.kind, frozen.kind))
        return Frozen(y if self.wide else y.astype(x.dtype), after, masked(frozen.map, mask), kind, frozen.rows)

    def called(self, x: Activations, state: State, segments: Segments) -> tuple[Float[Array, "*time d_out"], State]:
        """What a call gives: the frozen pass without its map, or, where it is `looped`, the layer run in its loop."""
        if self.looped:
            return self.in_loop(x, state, segments)
        y, after, *_ = self.as_part(x, state, segments)
        return y, after

    def in_loop(self, x: Activations, state: State, segments: Segments) -> tuple[Float[Array, "*time d_out"], State]:
        """The call of a layer that is `looped`, its arguments checked."""
        raise NotImplementedError(f"a {type(self).__name__} says that it is looped, and has no in_loop.")

    def step(
        self,
        x_t: Float[Array, " d_in"] | Int[Array, ""],
        state: State,
        *,
        start: Bool[Array, ""] | bool | None = None,
        mask: Bool[Array, ""] | bool | None = None,
    ) -> tuple[Float[Array, " d_out"], State]:
        """One token, (d_in,) -> (d_out,), in constant memory; start and mask are the token's own flags.

        A model with an embedding takes it by number, too.

        Of a model that pools it gives the output of all that was read so far.

        **Raises:** `InputError` for a layer that is not causal.
        """
        name = type(self).__name__
        require(self.causal, f"a {name} has no step: the output at a token needs those after it. Call it instead.")
        return one_step(self, x_t, state, flag_of(start), flag_of(mask))

    def parameters(self) -> int:
        """How many numbers it learns."""
        return count_parameters(self)

    def checked(self, x: Any, state: Any, start: Any, mask: Any) -> tuple[Float[Array, "time d_in"], State, Segments]:
        """The arguments of a call, checked and made uniform: absent tokens are zeros, and no document starts there."""
        name = type(self).__name__
        require(hasattr(x, "ndim"), f"{name} takes an array; got {type(x).__name__}. Wrap it in jnp.asarray.")
        tokens = x.ndim == 1 and jnp.issubdtype(x.dtype, jnp.integer)
        require(
            x.ndim == 2 or tokens,
            f"{name} takes one sequence, (time, {self.d_in}); got shape {x.shape}. For a batch use jax.vmap.",
        )
        require(
            tokens or x.shape[1] == self.d_in,
            f"{name} takes tokens of width {self.d_in}; got {x.shape[-1]}. Is the input from another model, or transposed?",
        )
        require(x.shape[0] >= 1, f"{name} got a sequence of length 0; it needs at least one token.")
        require(
            tokens or jnp.issubdtype(x.dtype, jnp.floating),
            f"{name} takes real floating-point activations; got {x.dtype}. Embed token ids first, or cast.",
        )
        for flag, flags in (("start", start), ("mask", mask)):
            shape, dtype = getattr(flags, "shape", None), getattr(flags, "dtype", type(flags).__name__)
            require(
                flags is None or (shape == x.shape[:1] and str(dtype) == "bool"),
                f"{flag} must be an array of one boolean for each of the {x.shape[0]} tokens; got shape {shape} of {dtype}.",
            )
        x = self.embed(x, mask) if tokens else x
        state = self.init_state() if state is None else self.checked_state(state)
        start = start if start is None or mask is None else start & mask
        return present(x, mask), state, Segments(start, mask)

    def checked_state(self, state: Any) -> State:
        """The state of a call, checked.

        **Raises:** `InputError` unless it has the structure and the shapes of `init_state()`, or fewer places.
        """
        initial = jax.eval_shape(self.init_state)
        fits = alike(state, initial)
        if fits:
            initial = jax.eval_shape(lambda: shorter(self.init_state(), state))
        shapes = lambda tree: jax.tree_util.tree_map(jnp.shape, tree)
        expected = jax.tree_util.tree_map(lambda leaf: leaf.shape, initial)
        told = [
            text if len(text) <= MOST_TOLD else f"{text[:MOST_TOLD]}..." for text in map(str, (shapes(state), expected))
        ]
        require(
            fits and shapes(state) == expected,
            f"the state does not belong to this {type(self).__name__}: shapes {told[0]}, expected {told[1]}. Start from "
            "init_state().",
        )
        return state


@compiled
def _called(layer: Layer, x: Any, state: Any, start: Any, mask: Any) -> tuple[Array, State]:
    """What the layer gives, its arguments checked."""
    return layer.called(*layer.checked(x, state, start, mask))


def _token_by_token(layer: Layer, x: Activations, state: State, segments: Segments) -> Frozen:
    """`at` of a layer that looks at one token at a time; a token that is not finite reaches no gradient of it."""
    passes: list[Frozen] = []

    def run(x: Array) -> Array:
        passes.append(layer.at(x, state, Segments()))
        return passes[0].y

    y = token_by_token(run, x, segments.start)
    return passes[0]._replace(y=y)


@compiled
def one_step(model: Any, x_t: Any, state: State, start: Any, mask: Any) -> tuple[Array, State]:
    """A call of one token, whose own flags are start and mask: its output, of a model that pools all of it, and the state."""
    flag = lambda value: None if value is None else jnp.asarray(value)[None]
    y, state = model(jnp.asarray(x_t)[None], state, start=flag(start), mask=flag(mask))
    return (y[0] if y.ndim == 2 else y), state


def flag_of(value: Bool[Array, ""] | bool | None) -> Any:
    """A step's own flag as an array: a Python boolean would be a part of the program."""
    return value if value is None or isinstance(value, jax.Array) else np.asarray(value, bool)


class Foreign(Layer):
    """A module whose call is its own: what it gives when it is called, with the map that its parts say it is.

    So where the two differ, every certificate shows it. It is a layer whose class has a `__call__` of its own, or any object with
    a call and a method `frozen(x, state, start, mask)` that gives (y, state, map, kind), whose map may be a function.

    **Raises:** `InputError` for a module that cannot be called.
    """

    module: Any
    composite: ClassVar[bool] = True
    causal: ClassVar[bool] = False

    def __check_init__(self):
        require(
            callable(self.module),
            f"a {type(self.module).__name__} cannot be called, and a certificate compares with the module's own call. Give it "
            "__call__(x), or, where it has init_state, __call__(x, state, *, start, mask) that returns (y, state).",
        )

    @property
    def d_in(self) -> int:
        """Width of a token; 0 where the module does not say."""
        return getattr(self.module, "d_in", 0)

    @property
    def tokenwise(self) -> bool:
        """As the module says; where it does not, whether it has no `init_state`."""
        return self.module.tokenwise if isinstance(self.module, Layer) else not hasattr(self.module, "init_state")

    def init_state(self) -> State:
        """The module's."""
        return self.module.init_state() if hasattr(self.module, "init_state") else ()

    def checked(self, x: Any, state: Any, start: Any, mask: Any) -> tuple[Float[Array, "time d_in"], State, Segments]:
        """As the module's; where it is no layer, x must be one sequence."""
        if isinstance(self.module, Layer):
            return self.module.checked(x, state, start, mask)
        name, shape, dtype = (
            type(self.module).__name__,
            getattr(x, "shape", None),
            getattr(x, "dtype", type(x).__name__),
        )
        require(
            shape is not None and len(shape) == 2 and shape[0] >= 1 and jnp.issubdtype(dtype, jnp.floating),
            f"{name} takes one sequence of real activations, (time, d), of at least one token; got shape {shape} of {dtype}. "
            "For a batch use jax.vmap.",
        )
        return present(x, mask), state, Segments(start, mask)

    def frozen(self, x: Any, state: Any = None, start: Any = None, mask: Any = None) -> Frozen:
        """The module's own call, of tokens by number where they are given, and its map."""
        taken, before, segments = self.checked(x, state, start, mask)
        y, after = self._call(x, state, start, mask)
        map, kind, rows = self._map(taken, before, segments)
        return Frozen(y, after, map, kind, rows)

    def at(self, x: Activations, state: State, segments: Segments) -> Frozen:
        """The module's own call and its map."""
        found = self.frozen(x, state, segments.start, segments.mask)
        return found if found.rows is not None else found._replace(y=present(found.y, segments.mask))

    def as_part(self, x: Activations, state: State, segments: Segments) -> Frozen:
        """As it is called: nothing is put right."""
        frozen = self.at(x, state, segments)
        return frozen._replace(y=frozen.y.astype(x.dtype))

    def _call(self, x: Any, state: Any, start: Any, mask: Any) -> tuple[Array, State]:
        """What the module gives when it is called: with state and flags where it has `init_state`, else token by token."""
        if hasattr(self.module, "init_state"):
            return self.module(x, state, start=start, mask=mask)
        return present(self.module(present(x, mask)), mask), ()

    def _map(self, x: Activations, state: State, segments: Segments) -> tuple[CausalMap, Kind, Any]:
        if isinstance(self.module, Layer):
            frozen = self.module.as_part(x, state, segments)
            return frozen.map, frozen.kind, frozen.rows
        _, _, map, kind, *_ = self.module.frozen(x, state, segments.start, segments.mask)
        return (map if isinstance(map, CausalMap) else Called(map)), kind, None


FINAL = ("__call__", "called", "frozen")
"""Methods that are written once, for all layers: one whose class has any of its own gives what its frozen pass need not."""


def as_layer(module: Any) -> Layer:
    """The module itself where its call is that of layers, by all ways to it; else its own call with its map, see `Foreign`."""
    if isinstance(module, Foreign):
        return module
    written_once = lambda name: getattr(type(module), name) is getattr(Layer, name)
    own = isinstance(module, Layer) and not module.looped and all(map(written_once, FINAL))
    return module if own else Foreign(module)


def inside(module: Any, x: Activations, state: State, segments: Segments) -> Frozen:
    """What a module gives as a part of a layer: see `Layer.as_part`."""
    return as_layer(module).as_part(x, state, segments)


def is_causal(module: Any) -> bool:
    """Whether a module is a layer no part of which depends on later tokens; of a module of another kind it is not known."""
    turned = lambda node: isinstance(node, Layer) and not node.causal
    return isinstance(module, Layer) and not any(map(turned, jax.tree_util.tree_leaves(module, is_leaf=turned)))
