"""A network whose memory is linear by construction: each place has directions of its own. What linear interventions must find."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float

from dualform.tasks.repeat import Repeat


class Slots(eqx.Module):
    """h = sum_p B_p c(x_p), with c the bits of a symbol, as -1 and 1, and B the columns of one rotation, a few for each place.

    Called as a language model: without a state it reads symbols and gives a state; with one it says them again, each place's from
    its own directions, whatever it is given to read.

    **Arguments:** basis: (n, n), orthonormal columns; the first time * bits are the places'.  codes: (vocabulary, bits).
    """

    basis: Float[Array, "n n"]
    codes: Float[Array, "vocabulary bits"]

    @classmethod
    def make(cls, n: int, task: Repeat, *, key: Array) -> "Slots":
        """Randomly turned, in n directions, of which each place needs as many as a symbol has bits."""
        bits = max(1, (task.vocabulary - 1).bit_length())
        codes = 2.0 * ((jnp.arange(task.vocabulary)[:, None] >> jnp.arange(bits)[None]) & 1).astype(jnp.float32) - 1
        return cls(jnp.linalg.qr(jr.normal(key, (n, n), jnp.float32))[0], codes)

    def init_state(self) -> tuple[Array]:
        """h = 0."""
        return (jnp.zeros(len(self.basis), self.basis.dtype),)

    def __call__(self, tokens: Array, state: Any = None, *, mask: Any = None) -> tuple[Array, tuple[Array]]:
        """Logits and state, as of a language model's call."""
        time, bits = len(tokens), self.codes.shape[1]
        places = self.basis[:, : time * bits].reshape(-1, time, bits)
        if state is None:
            there = jnp.ones(time, bool) if mask is None else mask
            held = jnp.einsum("npb,pb,p->n", places, self.codes[tokens], there.astype(places.dtype))
            return jnp.zeros((time, len(self.codes)), places.dtype), (held,)
        read = jnp.einsum("npb,n->pb", places, state[0])
        return jnp.einsum("vb,pb->pv", 2.0 * self.codes, read), state
