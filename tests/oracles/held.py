"""How a mixer is held to a stored oracle: the same comparison for the tests and for the command that measures the errors."""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import safetensors
from jaxtyping import Array

from dualform.mixers import Constant, registry
from tests.laws.laws import EXACT

DATA = Path(__file__).parent / "data"


@dataclass(frozen=True)
class Held:
    """What is held to one file of `tests/oracles/data`.

    - mixer: its name in the registry, or in `HELD_MODELS`.
    - ours: from the stored inputs and weights, by the peer's names, to the outputs by theirs.
    - peer: whose numbers they are, as the file's metadata says, with its version.
    - tolerance: the largest relative error (Euclidean, array by array) of outputs and gradients.
    """

    mixer: str
    ours: Callable[[dict[str, Array]], dict[str, Array]]
    peer: str
    tolerance: float = EXACT


HELD_MODELS = ("tpgn",)
"""What is held to an oracle and is no mixer of the registry."""
TIERS = pytest.mark.parametrize(
    "gradients", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["values", "gradients"]
)
"""Values in every run; gradients, which take four times as long to compile, in the thorough tier."""


def error(stem: str, held: Held, gradients: bool = True) -> float:
    """The largest relative error of outputs, final states, and gradients of the input, the state and every weight.

    Without `gradients`, of outputs and final states alone.
    """
    with safetensors.safe_open(DATA / f"{stem}.safetensors", "flax") as file:
        stored, made_by = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()
    assert made_by["peer"] == held.peer and made_by["torch"].startswith("2.13.0") and made_by["seed"].isdigit()
    part = lambda prefix: {k.removeprefix(prefix): v for k, v in stored.items() if k.startswith(prefix)}
    y, cotangents, expected = part("output."), part("cotangent."), part("gradient.")
    given = {k: v for k, v in stored.items() if not k.startswith(("output.", "cotangent.", "gradient."))}
    # Documents and positions are no numbers that one can follow a gradient of.
    fixed = {k: given.pop(k) for k in list(given) if not jnp.issubdtype(given[k].dtype, jnp.inexact)}

    ours = lambda given: held.ours(given | fixed)

    @jax.jit
    def run(given, cotangents):
        found, pull = jax.vjp(ours, given)
        return found, pull(cotangents)[0]

    assert set(given) == set(expected) and set(jax.eval_shape(ours, given)) == set(y), "something is not compared"
    assert all(np.any(np.asarray(g) != 0) for g in expected.values()), "a gradient is 0 throughout, and says nothing"
    if not gradients:
        return relative(jax.jit(ours)(given), y)
    found, gradient = run(given, cotangents)
    constant = constants(held.mixer) & set(gradient)
    assert not any(np.any(np.asarray(gradient[name])) for name in constant), "a constant has a gradient"
    followed = {name: each for name, each in expected.items() if name not in constant}
    return max(relative(found, y), relative(gradient, followed))


def constants(mixer: str) -> set[str]:
    """What a mixer holds constant, such as lower bounds, which a model gives and trains: their gradients are not the mixer's.

    A model that is held beside the mixers, as TPGN is, has none.
    """
    if mixer not in registry():
        assert mixer in HELD_MODELS, f"{mixer!r} is neither a mixer nor a model that is held to an oracle"
        return set()
    made = eqx.filter_eval_shape(registry()[mixer], 4, key=jr.key(0))
    return {field.name for field in dataclasses.fields(made) if isinstance(getattr(made, field.name), Constant)}


def relative(found: Mapping[str, Array], expected: Mapping[str, Array]) -> float:
    """The largest of the relative errors of arrays of the same names, shapes and dtypes; infinity where one is not finite."""
    largest = 0.0
    for name, b in expected.items():
        a = found[name]
        assert a.dtype == b.dtype and a.shape == b.shape, f"{name}: {a.dtype}{a.shape} against {b.dtype}{b.shape}"
        a, b = np.asarray(a), np.asarray(b)
        if not (np.isfinite(a).all() and np.isfinite(b).all()):
            return float("inf")
        largest = max(largest, float(np.linalg.norm((a - b).ravel()) / (np.linalg.norm(b.ravel()) or 1.0)))
    return largest
