"""What a training begins with: a network that was compiled, the same with noise in its weights, and a fresh one of its shapes."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
from jaxtyping import Array

from dualform.mixers import GRU, LRU, LSTM, Constant
from dualform.mixers.fresh import fan_in
from dualform.models import GatedMLP


class Moved(eqx.Module):
    """start + unit * change, of which the change is trained, so that a step of training is one of so many units.

    - start, unit: of each weight, in the order of the network's leaves.  change: the network's own structure, 0 at first.
    """

    start: tuple[Constant, ...]
    unit: tuple[Constant, ...]
    change: Any

    @classmethod
    def of(cls, network: Any, relative: bool = False) -> "Moved":
        """A network to be trained as it is, in units of 1; or relative to the size of each weight: what is 0 then stays 0."""
        weights, rest = eqx.partition(network, eqx.is_inexact_array)
        leaves, structure = jtu.tree_flatten(weights)
        units = [jnp.abs(w) if relative else jnp.ones_like(w) for w in leaves]
        constants = lambda arrays: tuple(Constant.of(each) for each in arrays)
        change = eqx.combine(jtu.tree_unflatten(structure, [jnp.zeros_like(w) for w in leaves]), rest)
        return cls(constants(leaves), constants(units), change)

    @property
    def network(self) -> Any:
        """The network as it now is."""
        weights, rest = eqx.partition(self.change, eqx.is_inexact_array)
        changes, structure = jtu.tree_flatten(weights)
        moved = [s.value + u.value * c for s, u, c in zip(self.start, self.unit, changes, strict=True)]
        return eqx.combine(jtu.tree_unflatten(structure, moved), rest)


def perturbed(network: Any, share: float, *, key: Array) -> Any:
    """Each weight w as w (1 + share N(0, 1)): what is 0 stays 0."""
    weights, rest = eqx.partition(network, eqx.is_inexact_array)
    leaves, structure = jtu.tree_flatten(weights)
    keys = jr.split(key, len(leaves))
    noisy = [w * (1 + share * jr.normal(k, w.shape, w.dtype)) for w, k in zip(leaves, keys, strict=True)]
    return eqx.combine(jtu.tree_unflatten(structure, noisy), rest)


def fresh(network: Any, *, key: Array) -> Any:
    """A network of the same shapes: mixers and MLPs as their own `make` draws them, other matrices of variance 1 / fan-in.

    Biases are 0, but those that `make` sets. An LRU without units has nothing to draw, and stays as it is.
    """
    parts, structure = jtu.tree_flatten(network, is_leaf=lambda node: isinstance(node, (LRU, LSTM, GRU, GatedMLP)))
    keys = jr.split(key, len(parts))
    return jtu.tree_unflatten(structure, [_fresh(part, k) for part, k in zip(parts, keys, strict=True)])


def _fresh(part: Any, key: Array) -> Any:
    if isinstance(part, LRU):
        n = len(part.nu)
        return LRU.make(part.d_in, key=key, n=n, dtype=part.nu.dtype) if n else part
    if isinstance(part, LSTM | GRU):
        return type(part).make(part.d_in, key=key, n=part.d_out, dtype=part.u.dtype)
    if isinstance(part, GatedMLP):
        n = len(part.w_up)
        made = GatedMLP.make(part.d_in, key=key, hidden=n, activation=part.activation, dtype=part.w_up.dtype)
        zeros = [None if b is None else jnp.zeros_like(b) for b in (part.b_gate, part.b_up, part.b_down)]
        return GatedMLP(made.w_gate, made.w_up, made.w_down, *zeros, activation=part.activation)
    if not eqx.is_inexact_array(part):
        return part
    return fan_in(key, *part.shape, dtype=part.dtype) if part.ndim > 1 else jnp.zeros_like(part)
