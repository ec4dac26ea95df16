"""Blocks one after the other: as they are written, as one loop over equal ones, and with less kept for the gradient."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, Float

from dualform.arrays import State
from dualform.errors import require
from dualform.layer import inside
from dualform.models.chain import in_turn
from dualform.models.model import AbstractModel
from dualform.segments import Segments

M = TypeVar("M", bound=eqx.Module)


class Depth(NamedTuple):
    """How a model's blocks are run.

    - scanned: equal blocks as one loop over their weights, laid one upon another in each call; the first may be of another kind.
      A program for many blocks is then hardly larger than one for two, and compiles sooner. A single token costs twice the memory
      traffic of its weights.
    - rematerialised: a gradient keeps what goes into each block alone, and computes the block anew.
    """

    scanned: bool = False
    rematerialised: bool = False


def with_depth(model: M, *, scanned: bool = False, rematerialised: bool = False) -> M:
    """The same model, its blocks run in another way: the same outputs and gradients, up to rounding.

    It is a matter of the program, not of the weights: a file of weights does not hold it, and states and sessions of the one go
    on in the other.

    **Arguments:** model: a `LanguageModel` or `SequenceModel`; scanned, rematerialised: see `Depth`.

    **Raises:** `InputError` for a model without blocks of this kind.
    """
    fields = [field.name for field in dataclasses.fields(model)] if dataclasses.is_dataclass(model) else []
    require(
        "depth" in fields,
        f"a {type(model).__name__} has no blocks that can be run in another way; a LanguageModel or SequenceModel has.",
    )
    return dataclasses.replace(model, depth=Depth(scanned, rematerialised))


def through(
    blocks: Sequence[Any], x: Float[Array, "time d"], state: Sequence[State], segments: Segments, depth: Depth
) -> tuple[Float[Array, "time d"], State]:
    """One block after the other, each with its own state."""
    run: Any = _run if not depth.rematerialised else eqx.filter_checkpoint(_run)
    first, period = _period(blocks, x, state, segments) if depth.scanned else (len(blocks), 0)
    after: list[State] = []
    for block, before in zip(blocks[:first], state[:first], strict=True):
        x, now = run(block, x, before, segments)
        after.append(now)
    blocks, state = blocks[first:], state[first:]
    whole = len(blocks) // period * period if period else 0
    if whole > period:
        stacked = [_stacked([(blocks[i], state[i]) for i in range(place, whole, period)]) for place in range(period)]
        arrays, static = eqx.partition(stacked, eqx.is_array)

        def one(x, own):
            left = []
            for block, before in eqx.combine(own, static):
                x, now = run(block, x, before, segments)
                left.append(now)
            return x, left

        x, left = jax.lax.scan(one, x, arrays)
        of = lambda turn, place: jtu.tree_map(lambda a: a[turn], left[place])
        after += [of(turn, place) for turn in range(whole // period) for place in range(period)]
    else:
        whole = 0
    for block, before in zip(blocks[whole:], state[whole:], strict=True):
        x, now = run(block, x, before, segments)
        after.append(now)
    return x, tuple(after)


class AbstractDeep(AbstractModel):
    """A model whose stages are some before its blocks, the blocks, and some behind; the blocks may be run as `depth` says.

    Its call is the frozen pass, unless they are: then the call runs them so, and the map is of the blocks as they are written.
    """

    blocks: eqx.AbstractVar[tuple[Any, ...]]
    depth: eqx.AbstractVar[Depth]

    @property
    def looped(self) -> bool:
        """Where its blocks are run in another way."""
        return self.depth != Depth()

    def in_loop(self, x, state, segments):
        """As `depth` says."""
        states = self.split(state)
        h, after = self.through(x, states, segments)
        y, behind = self.behind(h, states[len(after) :], segments)
        return y, self.joined([*after, *behind])

    def through(
        self, x: Float[Array, "time d_in"], states: Sequence[State], segments: Segments
    ) -> tuple[Float[Array, "time d"], list[State]]:
        """What the last block gives, and the states of all stages up to it."""
        names, stages = zip(*self.stages(), strict=True)
        first = names.index("block 1")
        last = first + len(self.blocks)
        before = in_turn(stages[:first], states[:first], x, segments)
        h = before[-1].y if before else x
        h, after = through(stages[first:last], h, states[first:last], segments, self.depth)
        return h, [*(each.state for each in before), *after]

    def behind(
        self, x: Float[Array, "time d"], states: Sequence[State], segments: Segments
    ) -> tuple[Float[Array, "*time d_out"], list[State]]:
        """What the stages behind the blocks make of it, and their states."""
        stages = [stage for _, stage in self.stages()][-len(states) :]
        passes = in_turn(stages, states, x, segments)
        return passes[-1].y, [each.state for each in passes]


def _run(block: Any, x, state, segments) -> tuple[Array, State]:
    return inside(block, x, state, segments)[:2]


def _stacked(alike: list[Any]) -> Any:
    """Trees that differ in their arrays' numbers alone, as one whose arrays have an axis in front."""
    arrays, static = zip(*(eqx.partition(each, eqx.is_array) for each in alike), strict=True)
    return eqx.combine(jtu.tree_map(lambda *each: jnp.stack(each), *arrays), static[0])


def _period(blocks: Sequence[Any], x, state: Sequence[State], segments: Segments) -> tuple[int, int]:
    """How many blocks stand before those that repeat, none or one, and after how many these do, of the shortest.

    All of them and 0 where they do not repeat, or change the dtype of what passes.
    """
    kinds = [_kind((block, before)) for block, before in zip(blocks, state, strict=True)]
    for first in (0, 1):
        own = kinds[first:]
        for period in range(1, len(own) // 2 + 1):
            whole = len(own) // period * period
            if all(own[i] == own[i % period] for i in range(whole)):
                passed = x
                for block, before in list(zip(blocks, state, strict=True))[: first + period]:
                    passed, _ = eqx.filter_eval_shape(_run, block, passed, before, segments)
                same = (passed.shape, passed.dtype) == (x.shape, x.dtype)
                return (first, period) if same else (len(blocks), 0)
    return len(blocks), 0


def _kind(tree: Any) -> Any:
    """What two trees share that differ in their arrays' numbers alone."""
    arrays, static = eqx.partition(tree, eqx.is_array)
    shapes = [(leaf.shape, leaf.dtype) for leaf in jtu.tree_leaves(arrays)]
    return jtu.tree_structure(arrays), shapes, jtu.tree_structure(static), jtu.tree_leaves(static)
