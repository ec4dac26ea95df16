"""Softmax attention as a bounded multi-state RNN: its state is a set of at most k keys and values; a policy drops the rest."""

from typing import ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Inexact, Int

from dualform.arrays import State, accumulator, affine
from dualform.compiled import compiled
from dualform.errors import require
from dualform.generation.kept_map import held_in_places, weights_over_sources
from dualform.generation.policy_table import Policy, Seen, dropped_first
from dualform.maps import AttentionMap, Frozen, Linear, Memory, Written
from dualform.maps.memory import each_token
from dualform.mixers import AbstractMixer, SoftmaxAttention
from dualform.mixers.heads import IntoHeads, into_heads
from dualform.mixers.rotary import positions, rotate
from dualform.recurrences.attention import attend
from dualform.room import check_fits
from dualform.segments import Segments

DENSE = 1024
"""Up to so many tokens of a call, its frozen map is held whole: a matrix for each head."""


class MultiState(NamedTuple):
    """At most `states` keys and values, in any order.

    - keys: (kv_head, states, d_k), turned by their places unless places are counted anew.  values: (kv_head, states, d_v).
    - positions: (kv_head, states), each one's place in its document, -1 where there is none yet.
    - scores: (kv_head, states), the policy's own.
    - place: the next token's place.
    """

    keys: Float[Array, "kv_head states d_k"]
    values: Float[Array, "kv_head states d_v"]
    positions: Int[Array, "kv_head states"]
    scores: Float[Array, "kv_head states"]
    place: Int[Array, ""]


class MultiStateAttention(AbstractMixer):
    """o_t = softmax over the kept states and token t; then the policy drops one of them where there are more than `states`.

    One call on a whole sequence is the same as token by token. Without a drop it is the attention itself.

    **Arguments:** attention: whose weights and window it has; policy: see `dualform.generation.policies`; states: k, how many
    keys and values are kept between tokens; rerotate: queries and keys are turned by their rank among the kept states, so that
    no distance is ever beyond k, rather than by their places in the document.

    **Raises:** `InputError` for fewer than 1 state, or a policy that keeps more first tokens than that.

    **Source:** Oren et al. 2024 (arXiv 2401.06104); ranks for places: Xiao et al. 2023 (arXiv 2309.17453, Sec. 3.2).
    """

    attention: SoftmaxAttention
    policy: Policy = eqx.field(static=True)
    states: int = eqx.field(static=True)
    rerotate: bool = eqx.field(default=False, static=True)
    linear_given_gates: ClassVar[bool] = True

    def __check_init__(self):
        require(self.states >= 1, f"states is {self.states}; at least 1 key and value must be kept.")
        sinks = self.policy.sinks or 0
        require(
            sinks < self.states or sinks == 0,
            f"{self.policy.name} keeps the first {sinks} tokens; {self.states} states leave no place for others.",
        )

    @property
    def d_in(self) -> int:
        """Width of a token."""
        return self.attention.d_in

    @property
    def d_out(self) -> int:
        """Width of the output."""
        return self.attention.d_out

    def init_state(self) -> MultiState:
        """No state yet.

        **Raises:** `InputError` where there is no memory for so many.
        """
        (kv_heads, d_k, _), d_v = self.attention.w_k.shape, self.attention.w_v.shape[1]
        wide = accumulator(self.attention.w_k.dtype)
        check_fits(
            self.states * kv_heads * (d_k + d_v + 2) * wide.itemsize,
            f"a layer with {self.states:,} states",
            "Keep fewer.",
        )
        zeros = lambda *shape: jnp.zeros((kv_heads, self.states, *shape), wide)
        empty = jnp.full((kv_heads, self.states), -1, jnp.int32)
        return MultiState(zeros(d_k), zeros(d_v), empty, zeros(), jnp.zeros((), jnp.int32))

    def at(self, x, state, segments):
        """One loop over time; none where what is kept does not depend on the weights."""
        return self.at_heads(self._heads(x), x, state, segments)

    def at_heads(self, heads, x, state, segments):
        """The same, of queries, keys and values that are there already: each (time, head, width), nothing turned."""
        a = self.attention
        y, after = self.read(heads, state, **segments.flags)
        write, read = Written(IntoHeads(a.w_v, a.b_v), x), Linear(a.w_o, a.b_o)
        return Frozen(y, after, AttentionMap(read, Kept(self, heads[:2], state, segments), write))

    def decisions(self, heads, state, start, mask):
        """The softmax weights at each token, where each is put, and the state but for its values."""
        inputs, following = self._inputs(heads, state, start, mask)

        def step(state, inputs):
            weights, slot, state = self._decide(state, *inputs)
            return state, (weights, slot)

        state, (weights, slot) = jax.lax.scan(step, state, inputs)
        return weights, slot, state._replace(place=following)

    def read(self, heads, state, start, mask):
        """As a call, of queries, keys and values that are there already: each (time, head, width), nothing turned."""
        if self.policy.sinks is not None and not self.rerotate and len(heads[0]) > 1:
            return self._parallel(heads, state, start, mask)
        inputs, following = self._inputs(heads, state, start, mask)

        def step(state, inputs):
            (*inputs, value) = inputs
            weights, slot, after = self._decide(state, *inputs)
            o = _read(weights, state.values, value)
            return after._replace(values=_put(state.values, _behind(slot, o), value)), o

        inputs = (*inputs, heads[2].astype(state.values.dtype))
        if len(heads[0]) == 1:
            state, o = step(state, jax.tree_util.tree_map(lambda a: a[0], inputs))
            o = o[None]
        else:
            state, o = jax.lax.scan(step, state, inputs)
        state = state._replace(place=following)
        return self._out(o), state if start is None else _forgotten(state)

    def _heads(self, x):
        """Queries, keys and values of each token."""
        a = self.attention
        return tuple(into_heads(x, w, b) for w, b in ((a.w_q, a.b_q), (a.w_k, a.b_k), (a.w_v, a.b_v)))

    def _inputs(self, heads, state, start, mask):
        """For each token: q (kv_head, group, d_k), k (kv_head, d_k), its place, and whether it begins, and is there."""
        a, wide, (q, k, *_), time = self.attention, state.keys.dtype, heads, len(heads[0])
        places, following = positions(time, state.place, start, mask)
        turn = lambda h: rotate(h, places, a.base, width=a.rotary) if a.rotary and not self.rerotate else h
        q, k = turn(q) * a.w_q.shape[1] ** -0.5, turn(k).astype(wide)
        flags = lambda given, default: jnp.full(time, default) if given is None else given
        q = q.reshape(time, len(a.w_k), -1, q.shape[2]).astype(wide)
        return (q, k, places, flags(start, False), flags(mask, True)), following

    def _decide(
        self,
        state: MultiState,
        q: Float[Array, "kv_head group d_k"],
        k: Float[Array, "kv_head d_k"],
        place: Int[Array, ""],
        start: Bool[Array, ""],
        mask: Bool[Array, ""],
    ) -> tuple[Float[Array, "kv_head group source"], Int[Array, " kv_head"], MultiState]:
        """The softmax weights of states and new token, where it is put (at `states`: nowhere), the state but for its values."""
        held = jnp.where(start, jnp.full_like(state.positions, -1), state.positions)
        kept = jnp.where(start, jnp.zeros_like(state.scores), state.scores)
        there = (held >= 0) & (held > place - self.attention.reach)
        keys, newest = state.keys, k
        if self.rerotate and self.attention.rotary:
            q, keys, newest = self._by_rank(q, keys, k, held)
        # Keys come first: a product of many rows and few columns is done several times sooner than its transpose.
        scores = jnp.einsum("hsd,hgd->hsg", keys, q)
        scores = jnp.where(there[:, :, None], scores, jnp.full_like(scores, -jnp.inf)).swapaxes(1, 2)
        scores = jnp.concatenate([scores, jnp.einsum("hgd,hd->hg", q, newest)[:, :, None]], axis=2)
        weights = jax.nn.softmax(scores, axis=2)
        if self.policy.whole:
            weights = jnp.where(place > self.states, jnp.full_like(weights, jnp.nan), weights)
        behind = lambda a, last: jnp.concatenate([a, jnp.full_like(a[:, :1], last)], axis=1)
        seen = Seen(weights, behind(kept, 0), behind(held, place), place, self.states, False)
        priority, scores = self.policy.step(seen)
        slot = dropped_first(priority, seen.positions)
        slot = _behind(jnp.where(mask, slot, jnp.full_like(slot, self.states)), weights)
        moved = _put(jnp.where(mask, scores[:, :-1], state.scores), slot, scores[:, -1])
        held = _put(jnp.where(mask, held, state.positions), slot, seen.positions[:, -1])
        return weights, slot, MultiState(_put(state.keys, slot, k), state.values, held, moved, state.place)

    def _by_rank(self, q, keys, k, held):
        """All turned by their rank among the kept states of their head: the newest token comes last."""
        a, d_k = self.attention, keys.shape[2]
        order = jnp.where(held < 0, jnp.full_like(held, jnp.iinfo(held.dtype).max), held)
        rank = jnp.argsort(jnp.argsort(order, axis=1), axis=1).astype(jnp.int32)
        last = jnp.sum(held >= 0, axis=1, dtype=jnp.int32)
        turn = lambda h, places: rotate(h.reshape(-1, 1, d_k), places.reshape(-1), a.base, width=a.rotary).reshape(
            h.shape
        )
        return turn(q, jnp.repeat(last, q.shape[1])), turn(keys, rank), turn(k, last)

    def _parallel(self, heads, state, start, mask):
        """The first tokens and the newest: by blocks of queries, and the states that are left at the end."""
        (q, k, places, start, mask), following = self._inputs(heads, state, start, mask)
        value, sinks = heads[2].astype(state.values.dtype), self.policy.sinks or 0
        document = jnp.cumsum(start.astype(jnp.int32))
        # Heads of one layer keep the same tokens here.
        held = jnp.concatenate([state.positions[0], jnp.where(mask, places, jnp.full_like(places, -1))])
        of = jnp.concatenate([jnp.zeros_like(state.positions[0]), document])
        row = jnp.concatenate([jnp.full_like(state.positions[0], -1), jnp.arange(len(q), dtype=jnp.int32)])
        keys = jnp.concatenate([state.keys, jnp.moveaxis(k, 0, 1)], axis=1)
        values = jnp.concatenate([state.values, jnp.moveaxis(value, 0, 1)], axis=1)

        def one(inputs):
            q, place, own, number = inputs
            seen = (held >= 0) & (of == own) & (row <= number) & (held > place - self.attention.reach)
            seen = seen & ((held < sinks) | (held >= place - (self.states - sinks)))
            scores = jnp.where(seen[None, None], jnp.einsum("hgd,hsd->hgs", q, keys), -jnp.inf)
            # Where there is no token nothing is seen, and the output is not read.
            scores = jnp.where(jnp.any(seen), scores, jnp.zeros_like(scores))
            o = jnp.einsum("hgs,hsv->hgv", jax.nn.softmax(scores, axis=2), values)
            return jnp.where(place > self.states, jnp.full_like(o, jnp.nan), o) if self.policy.whole else o

        rows = jnp.arange(len(q), dtype=jnp.int32)
        o = jax.lax.map(one, (q, places, document, rows), batch_size=min(128, len(q)))
        last = document == document[-1]
        before = jnp.where(document[-1] > 0, jnp.full_like(state.positions[0], -1), state.positions[0])
        token = _taken_by(before, places, mask & last, sinks)
        own = jnp.where(token < 0, jnp.arange(self.states, dtype=jnp.int32), self.states + token)
        left = jnp.where(token < 0, before, places[token])
        after = MultiState(
            keys[:, own],
            values[:, own],
            jnp.broadcast_to(left[None], state.positions.shape),
            jnp.zeros_like(state.scores),
            following,
        )
        return self._out(o), _forgotten(after)

    def _out(self, o: Float[Array, "time *heads d_v"]) -> Float[Array, "time d_out"]:
        return affine(o.reshape(len(o), -1), self.attention.w_o, self.attention.b_o)


class Kept(Memory):
    """What each head reads of the values that are kept, at weights that its queries and keys decided.

    **Arguments:** mixer: whose policy decides; heads: q (time, head, d_k) and k (time, kv_head, d_k), nothing turned.
    """

    mixer: MultiStateAttention
    heads: tuple[Float[Array, "time head d_k"], Float[Array, "time kv_head d_k"]]
    state: MultiState
    segments: Segments

    @compiled
    def run(self, v: Float[Array, "time kv_head d_v"]) -> tuple[Float[Array, "time head d_v"], State]:
        """The weighted values at each token, and the state afterwards."""
        weights, slots, after = self._decisions()
        values = self.state.values.astype(v.dtype)
        if len(v) <= DENSE:
            # Frozen, it is one matrix over all sources: many values pass in one product, as the dual form asks for.
            both = jnp.concatenate([values, jnp.moveaxis(v, 0, 1)], axis=1)
            o = jnp.einsum("thgs,hsv->thgv", weights_over_sources(weights, slots), both.astype(weights.dtype))
            last = held_in_places(slots, self.mixer.states)[-1]
            values = jnp.take_along_axis(both, last[:, :, None], axis=1)
        else:

            def step(values, inputs):
                weights, slot, new = inputs
                return _put(values, slot, new), _read(weights, values, new)

            values, o = jax.lax.scan(step, values, (weights, slots, v))
        after = after._replace(values=values)
        return o.reshape(len(o), -1, v.shape[2]), after if self.segments.start is None else _forgotten(after)

    def weights(self) -> Float[Array, "head time source"]:
        """The softmax weights over the tokens of this call; 0 where one was dropped."""
        time = len(self.heads[0])
        weights, slots, _ = self._decisions()
        weights = weights_over_sources(weights, slots)[..., self.mixer.states :]
        weights = jnp.moveaxis(weights.reshape(time, -1, time), 1, 0)
        return jnp.where(self.segments.visible(time)[None], weights, jnp.zeros_like(weights))

    def spread(self, v: Float[Array, "time kv_head d_v"]) -> Float[Array, "source head d_v"]:
        """v of each head: each key-value head's for as many heads as it serves."""
        return jnp.repeat(v, self.heads[0].shape[1] // v.shape[1], axis=1)

    def _decisions(self):
        return self.mixer.decisions(self.heads, self.state, **self.segments.flags)


def _taken_by(
    held: Int[Array, " states"], places: Int[Array, " time"], present: Bool[Array, " time"], sinks: int
) -> Int[Array, " states"]:
    """The token that is in each place in the end, -1 where it is the one that was there: what the steps do, at once.

    A token takes an empty place, then that of the oldest but the first `sinks`: the places are taken in turn, in one order.
    """
    states, count = len(held), jnp.sum(present, dtype=jnp.int32)
    fixed = (held >= 0) & (held < sinks)
    order = jnp.argsort(jnp.where(fixed, jnp.iinfo(jnp.int32).max, held), stable=True)
    turn = jnp.argsort(order).astype(jnp.int32)  # of each place
    firsts = jnp.sum(present & (places < sinks), dtype=jnp.int32)  # they take the first turns, and stay
    cycle = jnp.maximum(states - jnp.sum(fixed, dtype=jnp.int32) - firsts, 1)
    token = jnp.where(turn < firsts, turn, turn + (count - 1 - turn) // cycle * cycle)
    rows = jnp.argsort(~present, stable=True).astype(jnp.int32)
    return jnp.where(~fixed & (turn < count), rows[jnp.clip(token, 0, len(rows) - 1)], -1).astype(jnp.int32)


def _forgotten(state: MultiState) -> MultiState:
    """The state with zeros where there is none: what an earlier document left there is gone."""
    clear = lambda a: jnp.where((state.positions < 0)[:, :, None], jnp.zeros_like(a), a)
    return state._replace(keys=clear(state.keys), values=clear(state.values))


def _put(a: Array, slot: Int[Array, " kv_head"], new: Array) -> Array:
    """a with `new` at each head's slot; nowhere where the slot is behind the end."""
    return a.at[jnp.arange(len(a)), slot].set(new.astype(a.dtype), mode="drop")


def _behind(slot: Int[Array, " kv_head"], found: Array) -> Int[Array, " kv_head"]:
    """The slot, which a compiler cannot know before `found` is: what is read for it is read before the slot is written.

    Without this order all states would be copied at every token, so that they can be read while one of them is overwritten.
    """
    return slot + (jnp.sum(found) > jnp.inf).astype(slot.dtype)  # nothing is above infinity


def _read(weights: Array, values: Array, new: Array) -> Float[Array, "kv_head group d_v"]:
    """The weighted sum of the kept values and the new one."""
    new = weights[:, :, -1:] * new[:, None].astype(weights.dtype)
    return jnp.einsum("hgs,hsv->hgv", weights[:, :, :-1], values.astype(weights.dtype)) + new


class PromptAttention(AbstractMixer):
    """A prompt read at once: attention without a bound over its tokens, of which the policy then keeps `states`.

    It begins a document: the state that it is given is not read, and no document may begin within. The state that it leaves is
    `bounded`'s, which goes on from there.

    **Arguments:** bounded: what reads on.
    """

    bounded: MultiStateAttention
    linear_given_gates: ClassVar[bool] = True

    @property
    def d_in(self) -> int:
        """Width of a token."""
        return self.bounded.d_in

    @property
    def d_out(self) -> int:
        """Width of the output."""
        return self.bounded.d_out

    def init_state(self) -> MultiState:
        """As of `bounded`."""
        return self.bounded.init_state()

    def at(self, x, state, segments):
        """Attention without a bound, and what the policy keeps of it: see the class."""
        require(
            segments.start is None and segments.mask is None,
            "a prompt that is read at once is one document, every token of it there.",
        )
        one, time = self.bounded, len(x)
        a = one.attention
        (q, k, places, _, _), _ = one._inputs(one._heads(x), one.init_state(), None, None)
        turned_q, turned_k = q, k
        if one.rerotate and a.rotary:
            turn = lambda h: rotate(h, places, a.base, width=a.rotary)
            turned_q, turned_k = turn(q.reshape(time, -1, q.shape[3])).reshape(q.shape), turn(k)
        mass, last = _observed(turned_q, turned_k, one.policy.observed, a.reach)
        held = jnp.broadcast_to(places[None], (k.shape[1], time))
        priority, scores = one.policy.step(Seen(last, mass, held, places[-1], one.states, True))
        memory = Prompt(one, turned_q, turned_k, k, priority, scores)
        write, read = Written(IntoHeads(a.w_v, a.b_v), x), Linear(a.w_o, a.b_o)
        o, after = memory.run(write.own)
        return Frozen(read(o), after, AttentionMap(read, memory, write))


class Prompt(Memory):
    """The attention of a prompt's queries, and the states that a policy leaves of it.

    **Arguments:** mixer: what reads on; q (time, kv_head, group, d_k), k (time, kv_head, d_k): as they are compared; kept: keys
    as they are kept; priority, scores (kv_head, time): the policy's.
    """

    mixer: MultiStateAttention
    q: Float[Array, "time kv_head group d_k"]
    k: Float[Array, "time kv_head d_k"]
    kept: Float[Array, "time kv_head d_k"]
    priority: Inexact[Array, "kv_head time"] | Int[Array, "kv_head time"]
    scores: Float[Array, "kv_head time"]

    def run(self, v: Float[Array, "time kv_head d_v"]) -> tuple[Float[Array, "time head d_v"], State]:
        """What each head reads, and the states that are left."""
        one, time = self.mixer, len(v)
        o = self._read(v)
        # A stable sort from the newest on: of equal priorities the oldest goes.
        order = time - 1 - jnp.argsort(-self.priority[:, ::-1], axis=1, stable=True).astype(jnp.int32)
        kept = order[:, : one.states]
        pick = lambda a: jnp.take_along_axis(jnp.moveaxis(a, 0, 1), kept[:, :, None], axis=1)
        fill = lambda a, value: jnp.pad(
            a, [(0, 0), (0, one.states - kept.shape[1])] + [(0, 0)] * (a.ndim - 2), constant_values=value
        )
        after = MultiState(
            fill(pick(self.kept), 0),
            fill(pick(v), 0),
            fill(kept, -1),
            fill(jnp.take_along_axis(self.scores, kept, axis=1), 0),
            jnp.full((), time, jnp.int32),
        )
        overflow = one.policy.whole and time > one.states + 1
        return jnp.full_like(o, jnp.nan) if overflow else o, after

    def weights(self) -> Float[Array, "head time source"]:
        """The softmax weights."""
        return jnp.moveaxis(self._read(each_token(len(self.k), self.k.shape[1], self.q.dtype)), 1, 0)

    def spread(self, v: Float[Array, "time kv_head d_v"]) -> Float[Array, "source head d_v"]:
        """v of each head: each key-value head's for as many heads as it serves."""
        return jnp.repeat(v, self.q.shape[2], axis=1)

    def _read(self, v):
        time, reach = len(v), self.mixer.attention.reach
        rows = jnp.arange(time, dtype=jnp.int32)
        first = jnp.maximum(rows - reach + 1, 0)
        return attend(self.q.reshape(time, -1, self.q.shape[3]), self.k, v, first, rows, span=min(time, reach))


def _observed(
    q: Float[Array, "time kv_head group d_k"], k: Float[Array, "time kv_head d_k"], count: int | None, window: int
) -> tuple[Float[Array, "kv_head time"], Float[Array, "kv_head group time"]]:
    """The sum of the softmax weights of the last `count` queries but the newest, and over the group; the newest one's weights."""
    time = len(q)
    count = time if count is None else min(count, time)

    def one(inputs):
        q, row = inputs
        source = jnp.arange(time, dtype=jnp.int32)
        seen = (source <= row) & (source > row - window)
        return jax.nn.softmax(jnp.where(seen[None, None], jnp.einsum("hgd,shd->hgs", q, k), -jnp.inf), axis=2)

    def add(total, inputs):
        return total + jnp.sum(one(inputs), axis=1), None

    rows = jnp.arange(time, dtype=jnp.int32)
    before = slice(time - count, time - 1)
    total, _ = jax.lax.scan(add, jnp.zeros((k.shape[1], time), q.dtype), (q[before], rows[before]))
    return total, one((q[-1], rows[-1]))
