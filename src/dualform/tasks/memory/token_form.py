"""The memory tasks in tokens, for small models: a context of facts, then questions, each answered by one token."""

import math
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Int

from dualform.errors import require

NO_ANSWER = -1
FILLERS = 16
FORMS = ("kv", "prefix-suffix", "variable-tracking", "needle")


class MemorySample(NamedTuple):
    """Sequences of `TokenMemory`.

    - tokens: (batch, time), the context, then the questions with their answers.
    - targets: (batch, time), the answer at the last token of a question, -1 elsewhere.
    """

    tokens: Int[Array, "batch time"]
    targets: Int[Array, "batch time"]


class TokenMemory(eqx.Module):
    """A context of `length` tokens, and `turns` questions on it, by turns in one sequence.

    Token 0 asks; the others are values, names, and 16 fillers, in this order, each a number of its own. Facts are

    - kv: k v; asked is k, the answer is v.  needle: the same, at random places among fillers.
    - prefix-suffix: p m s, where others share p or s, but not both; asked is p s, the answer is m.
    - variable-tracking: x v, y x, z y, in this order and among those of other chains; asked is z, the answer is v. (The text
      form asks the other way, for all names of a value.)

    and a question is "0 k v", "0 p s m", "0 z v". Names are used once in a context, each asked for at most once. Values are drawn
    with replacement, so that a guess is right once in `values`. Where facts do not fill the context, fillers come first.

    **Arguments:** form: one of `FORMS`; items: facts, or chains; turns: questions, at most items; length: of the context;
    names, values: how many of them there are; hops: of a chain; batch: sequences of a sample.

    **Raises:** `InputError` where a number is out of range.

    **Source:** Arora et al. 2023 (arXiv 2312.04927, Sec. 3) for several questions on one context; others as of the text form.
    """

    form: str = eqx.field(static=True, default="kv")
    items: int = eqx.field(static=True, default=16)
    turns: int = eqx.field(static=True, default=5)
    length: int = eqx.field(static=True, default=64)
    names: int = eqx.field(static=True, default=64)
    values: int = eqx.field(static=True, default=16)
    hops: int = eqx.field(static=True, default=1)
    batch: int = eqx.field(static=True, default=64)

    def __check_init__(self):
        require(self.form in FORMS, f"form {self.form!r} is none of {', '.join(FORMS)}.")
        for name in ("items", "turns", "values", "hops", "batch"):
            require(getattr(self, name) >= 1, f"{name} is {getattr(self, name)}; it must be at least 1.")
        require(self.turns <= self.items, f"{self.turns} turns ask for {self.items} items; each is asked for once.")
        needed = self.facts * self.width
        require(
            needed <= self.length,
            f"{self.items} items are {needed} tokens, and the context has {self.length}. Give it more length, or fewer items.",
        )
        used = 2 * self.side if self.form == "prefix-suffix" else self.facts
        require(used <= self.names, f"{self.items} items need {used} names; there are {self.names}.")

    @property
    def width(self) -> int:
        """Tokens of a fact."""
        return 3 if self.form == "prefix-suffix" else 2

    @property
    def facts(self) -> int:
        """How many facts there are."""
        return self.items * (self.hops + 1 if self.form == "variable-tracking" else 1)

    @property
    def side(self) -> int:
        """How many different prefixes there are, and suffixes: about two thirds of the pairs are used."""
        return max(2, math.ceil((1.5 * self.items) ** 0.5))

    @property
    def vocabulary(self) -> int:
        """How many tokens there are."""
        return 1 + self.values + self.names + FILLERS

    @property
    def time(self) -> int:
        """Tokens of a sequence."""
        return self.length + self.turns * (self.width + 1)

    def sequences(self, key: Array) -> MemorySample:
        """Tokens and targets."""
        return MemorySample(*jax.vmap(self._sequence)(jr.split(key, self.batch)))

    def sample(self, key: Array) -> tuple[Int[Array, "batch time"], Int[Array, "batch time"]]:
        """Tokens and targets, for `training.fit`."""
        drawn = self.sequences(key)
        return drawn.tokens, drawn.targets

    def _sequence(self, key: Array) -> tuple[Array, Array]:
        for_facts, for_values, for_places, for_order, for_filler = jr.split(key, 5)
        values = 1 + jr.randint(for_values, (self.items,), 0, self.values, jnp.int32)
        facts, asked = getattr(self, "_" + self.form.replace("-", "_"))(for_facts, values)
        fillers = 1 + self.values + self.names + jr.randint(for_filler, (self.length,), 0, FILLERS, jnp.int32)
        context = self._placed(for_places, facts, fillers)
        order = jr.permutation(for_order, self.items)[: self.turns]
        ask = jnp.zeros((self.turns, 1), jnp.int32)
        questions = jnp.concatenate([ask, asked[order], values[order][:, None]], axis=1)
        nothing = jnp.full_like(questions, NO_ANSWER)
        targets = nothing.at[:, -2].set(values[order]).reshape(-1)
        before = jnp.full(self.length, NO_ANSWER, jnp.int32)
        return jnp.concatenate([context, questions.reshape(-1)]), jnp.concatenate([before, targets])

    def _placed(self, key: Array, facts: Array, fillers: Array) -> Array:
        """The facts, in their order, at random slots for needles, else at the end."""
        slots, count = self.length // self.width, len(facts)
        places = jnp.arange(slots - count, slots, dtype=jnp.int32)
        if self.form == "needle":
            places = jnp.sort(jr.permutation(key, slots)[:count].astype(jnp.int32))
        begin = self.length - slots * self.width
        at = begin + places[:, None] * self.width + jnp.arange(self.width, dtype=jnp.int32)[None]
        return fillers.at[at.reshape(-1)].set(facts.reshape(-1))

    def _drawn(self, key: Array, count: int) -> Array:
        """So many names, all different."""
        return 1 + self.values + jr.permutation(key, self.names)[:count].astype(jnp.int32)

    def _kv(self, key: Array, values: Array) -> tuple[Array, Array]:
        """The facts, (fact, width), and what each item's question says, (item, tokens)."""
        names = self._drawn(key, self.items)
        return jnp.stack([names, values], axis=1), names[:, None]

    _needle = _kv

    def _prefix_suffix(self, key: Array, values: Array) -> tuple[Array, Array]:
        for_names, for_pairs = jr.split(key)
        ends = self._drawn(for_names, 2 * self.side)
        pairs = jr.permutation(for_pairs, self.side**2)[: self.items].astype(jnp.int32)
        first, last = ends[pairs // self.side], ends[self.side + pairs % self.side]
        return jnp.stack([first, values, last], axis=1), jnp.stack([first, last], axis=1)

    def _variable_tracking(self, key: Array, values: Array) -> tuple[Array, Array]:
        for_names, for_order = jr.split(key)
        chains = self._drawn(for_names, self.facts).reshape(self.items, self.hops + 1)
        given = jnp.concatenate([values[:, None], chains[:, :-1]], axis=1)
        facts = jnp.stack([chains, given], axis=2).reshape(-1, 2)
        # Numbers that rise along each chain: sorted, they mix the chains and leave the order in each.
        places = jnp.sort(jr.uniform(for_order, chains.shape), axis=1).reshape(-1)
        return facts[jnp.argsort(places)], chains[:, -1:]
