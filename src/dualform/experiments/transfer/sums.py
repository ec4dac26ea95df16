"""A small language of sums: who says of a sum that it is right, Alice who knows, and Bob who is wrong by a rule.

A statement is written column by column, from the last digit on, as sums are done by hand: a digit of each addend and one of what
is claimed of the sum; then the sum's first digit, "is" or "is not", a name, a colon, and what that person says, true or false:

    7 8 5   2 1 4   0   is   Alice   :   true            27 + 18 = 045

For Alice a sum is right where it is. For Bob it is right where its first digit is one more than it should be, and the other
digits are as they should be.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from dualform.errors import require
from dualform.tasks.scores import NO_TARGET

BASE = 10
IS, IS_NOT, ALICE, BOB, COLON, FALSE, TRUE = range(BASE, BASE + 7)
VOCABULARY = BASE + 7
SHARES = (0.4, 0.4, 0.2)
"""Of statements: the right sum, Bob's, and neither, which is either of them with another digit that is not the first."""
RIGHT, BOBS, NEITHER = range(len(SHARES))
PARTS = {"training": 0.8, "fitted": 0.1, "validation": 0.05, "test": 0.05}
"""Of all pairs of addends: what networks are trained on, what probes are fitted on, what choices are made by, and the rest."""


def parts(digits: int, seed: int = 0) -> dict[str, Int[np.ndarray, "sum 2"]]:
    """Pairs of addends of so many digits, in parts that share none.

    **Raises:** `InputError` for addends of no digit.
    """
    require(digits >= 1, f"digits is {digits}; addends have at least 1.")
    size = BASE**digits
    pairs = np.stack(np.divmod(np.random.default_rng(seed).permutation(size * size), size), axis=1)
    ends = np.cumsum([round(share * len(pairs)) for share in PARTS.values()])
    return dict(zip(PARTS, np.split(pairs.astype(np.int32), ends[:-1]), strict=True))


def claimed(addends: Int[Array, "2"], kind: Int[Array, ""], digits: int, *, key: Array) -> Int[Array, " columns"]:
    """The digits of what is claimed of a sum, from the last on: digits + 1 of them."""
    for_side, for_column, for_digit = jr.split(key, 3)
    right = _digits(jnp.sum(addends, keepdims=True, dtype=jnp.int32), digits + 1)[0]
    wrong = jr.bernoulli(for_side) & (kind == NEITHER)
    raised = right.at[-1].add(((kind == BOBS) | wrong).astype(jnp.int32))
    column = jr.randint(for_column, (), 0, digits, jnp.int32)
    moved = (raised[column] + jr.randint(for_digit, (), 1, BASE, jnp.int32)) % BASE
    return jnp.where(kind == NEITHER, raised.at[column].set(moved), raised)


def statement(
    addends: Int[Array, "2"], claim: Int[Array, " columns"], denied: Bool[Array, ""], name: Int[Array, ""]
) -> Int[Array, " time"]:
    """The tokens of a statement up to the colon, 3 * digits + 4 of them."""
    digits = len(claim) - 1
    body = jnp.concatenate([_digits(addends, digits), claim[None, :-1]]).T.reshape(-1)
    said = jnp.where(denied, jnp.asarray(IS_NOT, jnp.int32), jnp.asarray(IS, jnp.int32))
    return jnp.concatenate([body, jnp.stack([claim[-1], said, name, jnp.asarray(COLON, jnp.int32)])])


def _digits(numbers: Int[Array, " number"], count: int) -> Int[Array, "number count"]:
    """So many digits of each, from the last on."""
    return numbers[:, None] // jnp.array([BASE**i for i in range(count)], jnp.int32)[None] % BASE


class Statements(eqx.Module):
    """Statements about sums, drawn: what `fit` calls with a key.

    **Arguments:** sums: pairs of addends that may be drawn; digits: of an addend; batch: statements at a time; quirky: whether
    Bob goes by his rule, or says what is right, as Alice does.
    """

    sums: Int[Array, "sum 2"]
    digits: int = eqx.field(static=True)
    batch: int = eqx.field(static=True)
    quirky: bool = eqx.field(static=True)

    def __call__(self, key: Array) -> tuple[Int[Array, "batch time"], Int[Array, "batch time"]]:
        """Tokens, and what follows: the digits of what is claimed, and what the person says; nothing else is asked for."""
        return jax.vmap(self._one)(jr.split(key, self.batch))

    def _one(self, key: Array) -> tuple[Array, Array]:
        for_sum, for_kind, for_claim, for_denied, for_name = jr.split(key, 5)
        addends = self.sums[jr.randint(for_sum, (), 0, len(self.sums))]
        kind = jr.choice(for_kind, len(SHARES), p=jnp.array(SHARES)).astype(jnp.int32)
        claim = claimed(addends, kind, self.digits, key=for_claim)
        denied, bob = jr.bernoulli(for_denied), jr.bernoulli(for_name)
        x = statement(addends, claim, denied, jnp.where(bob, BOB, ALICE).astype(jnp.int32))
        says = (kind == jnp.where(bob & self.quirky, BOBS, RIGHT)) ^ denied
        following = jnp.append(x[1:], jnp.where(says, TRUE, FALSE).astype(jnp.int32))
        place = jnp.arange(len(x))
        asked = (place == len(x) - 1) | ((place < 3 * self.digits) & (place % 3 == 1)) | (place == 3 * self.digits - 1)
        return x, jnp.where(asked, following, jnp.asarray(NO_TARGET, jnp.int32))


class Judged(eqx.Module):
    """Every sum of a part once, with a claim of its own, affirmed and denied, in one person's context.

    - affirmed, denied: tokens up to the colon.  right: whether what is claimed is the sum.  bobs: whether it is Bob's.
    """

    affirmed: Int[np.ndarray, "sum time"]
    denied: Int[np.ndarray, "sum time"]
    right: Bool[np.ndarray, " sum"]
    bobs: Bool[np.ndarray, " sum"]


def judged(sums: Int[np.ndarray, "sum 2"], digits: int, name: int, *, key: Array) -> Judged:
    """Statements about these sums, each kind as often as it is in training, by chance."""
    for_kinds, for_claims = jr.split(key)
    kinds = jr.choice(for_kinds, len(SHARES), (len(sums),), p=jnp.array(SHARES)).astype(jnp.int32)

    def one(addends: Array, kind: Array, key: Array) -> tuple[Array, Array]:
        claim, who = claimed(addends, kind, digits, key=key), jnp.asarray(name, jnp.int32)
        return statement(addends, claim, jnp.array(False), who), statement(addends, claim, jnp.array(True), who)

    found: Any = jax.jit(jax.vmap(one))(jnp.asarray(sums), kinds, jr.split(for_claims, len(sums)))
    kind = np.asarray(kinds)
    return Judged(np.asarray(found[0]), np.asarray(found[1]), kind == RIGHT, kind == BOBS)


def answers(logits: Float[np.ndarray, "row vocabulary"]) -> Float[np.ndarray, " row"]:
    """How much likelier "true" is held than "false", in nats."""
    return np.asarray(logits[:, TRUE] - logits[:, FALSE], np.float64)
