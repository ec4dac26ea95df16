"""Exact filters of hidden Markov models in log space: the forward algorithm, and the product of its steps as a tree.

What is known of the state after t tokens is the row of probabilities initial K_1 K_2 ... K_t, divided by its sum, with K the
matrix of each token. A product may be bracketed in any way: eight matrices are

    ((K_1 K_2)(K_3 K_4)) ((K_5 K_6)(K_7 K_8))

three levels of products side by side, and every beginning of the sequence is made of what is there on the way. So the beliefs of
`time` tokens take log2(time) levels, 16 of 65,536, which is why a network of such a depth can do it; one after the other takes
as many steps as there are tokens.
"""

from typing import Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float, Int

from dualform.compiled import compiled

Form: TypeAlias = Literal["naive", "associative"]
FORMS: tuple[Form, ...] = ("naive", "associative")


class Filtered(NamedTuple):
    """What is known after each token.

    - log_beliefs: log p(state | observations so far).  log_likelihoods: log p(observation | those before it), in nats.
    """

    log_beliefs: Float[Array, "time state"]
    log_likelihoods: Float[Array, " time"]


@compiled
def one_by_one(
    initial: Float[Array, " state"], kernels: Float[Array, "observation state state"], observations: Int[Array, " time"]
) -> Filtered:
    """log p(s_t) = log sum_s p(s) K[o_t, s, s_t], less the log of its sum: the specification."""
    logs = jnp.log(kernels)

    def step(before: Array, o: Array) -> tuple[Array, tuple[Array, Array]]:
        joint = logsumexp(before[:, None] + logs[o], axis=0)
        likelihood = logsumexp(joint)
        after = joint - likelihood
        return after, (after, likelihood)

    return Filtered(*jax.lax.scan(step, jnp.log(initial), observations)[1])


@compiled
def as_tree(
    initial: Float[Array, " state"], kernels: Float[Array, "observation state state"], observations: Int[Array, " time"]
) -> Filtered:
    """The product of every beginning of the sequence, each matrix with its largest entry brought to 1."""
    products = jax.lax.associative_scan(_product, _scaled(jnp.log(kernels)[observations]))
    joint = logsumexp(jnp.log(initial)[None, :, None] + products, axis=1)
    beliefs = joint - logsumexp(joint, axis=1)[:, None]
    before = jnp.concatenate([jnp.log(initial)[None], beliefs[:-1]])
    return Filtered(beliefs, logsumexp(before[:, :, None] + jnp.log(kernels)[observations], axis=(1, 2)))


def _scaled(logs: Float[Array, "time state state"]) -> Float[Array, "time state state"]:
    """Matrices whose largest entry is 1, as logs; beliefs do not see a factor."""
    largest = jnp.max(logs, axis=(1, 2), keepdims=True)
    return logs - jnp.where(jnp.isfinite(largest), largest, jnp.zeros_like(largest))


def _product(first: Float[Array, "time state state"], second: Float[Array, "time state state"]) -> Array:
    """First, then second, as products of rows with matrices go; many at once."""
    return _scaled(logsumexp(first[:, :, :, None] + second[:, None, :, :], axis=2))
