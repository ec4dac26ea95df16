"""Probes that read all symbols off the state at once, or one after the other.

- linear, mlp: an affine map, or one hidden layer as wide as the state, to the logits of all places.
- onion: `lenses.probes.onion`.  gru: a GRU that begins at the state, and reads what it said before.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Int

from dualform.arrays import affine
from dualform.experiments.onion.network import Repeated, drawn, remembered
from dualform.lenses.onion import Onion
from dualform.lenses.probes.onion import OnionProbe
from dualform.mixers import GRU
from dualform.mixers.fresh import uniform_affine
from dualform.tasks.repeat import Repeat

KINDS = ("linear", "mlp", "onion", "gru")


class AllAtOnce(eqx.Module):
    """The logits of every place, of layers with ReLU between them.

    **Arguments:** w, b: of each layer; the last gives (time * vocabulary,).
    """

    w: tuple[Float[Array, "_ _"], ...]
    b: tuple[Float[Array, " _"], ...]
    time: int = eqx.field(static=True)

    @classmethod
    def make(cls, n: int, task: Repeat, hidden: int, *, key: Array) -> "AllAtOnce":
        """With so many hidden layers, each n wide."""
        sizes = [n] * hidden + [task.time * task.vocabulary]
        layers = [
            uniform_affine(k, size, n, jnp.float32) for k, size in zip(jr.split(key, len(sizes)), sizes, strict=True)
        ]
        return cls(tuple(w for w, _ in layers), tuple(b for _, b in layers), task.time)

    def told(self, h: Float[Array, " n"], tokens: Int[Array, " time"]) -> Float[Array, "time vocabulary"]:
        """The logits; which tokens stand before a place is not looked at."""
        x = h[None]
        for w, b in zip(self.w[:-1], self.b[:-1], strict=True):
            x = jax.nn.relu(affine(x, w, b))
        return affine(x, self.w[-1], self.b[-1]).reshape(self.time, -1)


class Reader(eqx.Module):
    """A GRU of its own from the state on, that reads the token before each place, and an affine readout."""

    embedding: Float[Array, "vocabulary n"]
    gru: GRU
    w: Float[Array, "vocabulary n"]
    b: Float[Array, " vocabulary"]

    @classmethod
    def make(cls, n: int, task: Repeat, *, key: Array) -> "Reader":
        """A GRU as wide as the state."""
        keys = jr.split(key, 3)
        embedding = jr.normal(keys[0], (task.vocabulary, n), jnp.float32)
        gru = GRU.make(n, key=keys[1], dtype=jnp.float32)
        return cls(embedding, gru, *uniform_affine(keys[2], task.vocabulary, n, jnp.float32))

    def told(self, h: Float[Array, " n"], tokens: Int[Array, " time"]) -> Float[Array, "time vocabulary"]:
        """The logits, where what was said before each place is as it should be; 0 stands before the first."""
        before = jnp.concatenate([jnp.zeros(1, tokens.dtype), tokens[:-1]])
        return affine(self.gru(self.embedding[before], h)[0], self.w, self.b)


def made(kind: str, n: int, task: Repeat, *, key: Array, added: Float[np.ndarray, "time vocabulary n"]) -> Any:
    """A probe before it is trained; what an onion peels off is what symbols add to the state, in closed form."""
    if kind == "onion":
        fresh = OnionProbe.make(task.vocabulary, n, key=key, dtype=jnp.float32)
        return eqx.tree_at(lambda probe: probe.onion, fresh, Onion.explaining(added))
    return Reader.make(n, task, key=key) if kind == "gru" else AllAtOnce.make(n, task, int(kind == "mlp"), key=key)


def states(model: Any, batch: Repeated) -> Float[Array, "batch n"]:
    """What a network remembers of each sequence."""
    return jax.vmap(lambda symbols, length: remembered(model, symbols, length))(batch.symbols, batch.length)


class States(eqx.Module):
    """Training's states and their symbols: what `fit` calls with a key."""

    task: Repeat
    model: Any

    def __call__(self, key: Array) -> tuple[Array, Array]:
        """States, and the symbols that they should hold, below 0 behind the last."""
        batch = drawn(self.task, key)
        return states(self.model, batch), batch.targets


@eqx.filter_jit
def exact(probe: Any, model: Any, batch: Repeated) -> Float[Array, ""]:
    """The share of sequences of which every symbol is read.

    Where a probe reads what it said before, whether all is right is the same as where it is told what it should have said: up to
    its first mistake both are alike.
    """

    def right(h: Array, targets: Array) -> Array:
        found = jnp.argmax(probe.told(h, jnp.maximum(targets, 0)), axis=-1).astype(targets.dtype)
        return jnp.all((found == targets) | (targets < 0))

    return jnp.mean(jax.vmap(right)(states(model, batch), batch.targets).astype(jnp.float32))
