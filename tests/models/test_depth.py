"""Blocks run as one loop, or with less kept: the same model, in a program that does not grow, or that keeps less."""

import functools
from itertools import product
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import pytest

from dualform import checkpoints, models
from dualform.errors import InputError
from dualform.generation import Session, fingerprint
from dualform.mixers import GRU
from dualform.models.depth import Depth
from tests.laws import laws
from tests.tiers import tiers

TIME, TOKENS = 9, jnp.asarray([3, 1, 4, 1, 5, 0, 2, 6, 5])
START, MASK = jnp.arange(TIME) == 4, jnp.arange(TIME) != 6
SCANNED, LESS = Depth(scanned=True), Depth(rematerialised=True)


@functools.cache
def model(name: str, layers: int = 3) -> Any:
    """A small model; a Griffin's pattern is of three blocks, and its last one stays over."""
    sizes: Any = {"vocabulary": 7, "d": 8, "layers": layers, "key": jr.key(0)}
    if name == "griffin":
        return models.griffin(**{**sizes, "layers": 7}, heads=2, window=4)
    if name == "sequence":
        blocks = tuple(models.Block.make(GRU.make(6, key=k), key=k, mlp="gelu") for k in jr.split(jr.key(1), layers))
        return models.SequenceModel.make(blocks, 3, 2, key=jr.key(2), pool="mean")
    return models.llama(**sizes, heads=2, kv_heads=1, hidden=12, context=16)


def given(name: str) -> Any:
    """What it reads."""
    return jr.normal(jr.key(3), (TIME, 3)) if name == "sequence" else TOKENS


@eqx.filter_jit
def loss_and_gradient(model, x, state):
    """A call from a state, with a document that begins and a token that is not there, and the gradient of what it gives."""

    def loss(arrays, rest):
        y, after = eqx.combine(arrays, rest)(x, state, start=START, mask=MASK)
        return jnp.sum(y**2), (y, after)

    arrays, rest = eqx.partition(model, eqx.is_inexact_array)
    return jax.value_and_grad(loss, has_aux=True)(arrays, rest)


BOTH = Depth(scanned=True, rematerialised=True)
NAMES = ("llama", "griffin", "sequence")


@pytest.mark.parametrize(("name", "depth"), tiers(product(NAMES, (SCANNED, LESS, BOTH)), ("sequence", BOTH)))
def test_it_is_the_same_model(name, depth):
    """Outputs, states and gradients are those of the blocks as they are written."""
    plain, x = model(name), given(name)
    _, state = eqx.filter_jit(plain)(x)
    other = models.with_depth(plain, **depth._asdict())
    assert other.depth == depth
    found, expected = loss_and_gradient(other, x, state), loss_and_gradient(plain, x, state)
    laws.check_close(jax.tree.leaves(found), jax.tree.leaves(expected), 1e-11, "outputs, states and gradients")


def operations(plain: Any, depth: Depth) -> int:
    """Of the program of a call."""
    arrays, rest = eqx.partition(models.with_depth(plain, **depth._asdict()), eqx.is_array)
    return len(jax.jit(lambda arrays, x: eqx.combine(arrays, rest)(x)).lower(arrays, TOKENS).as_text().splitlines())


def test_a_loops_program_does_not_grow():
    """Of 4 and of 12 equal blocks the loop has as many operations, but for laying weights together; written out, 3 times."""
    few, many = model("llama", 4), model("llama", 12)
    assert operations(many, Depth()) > 2.5 * operations(few, Depth())
    grown = operations(many, SCANNED) - operations(few, SCANNED)
    arrays = len(jax.tree.leaves(eqx.filter((few.blocks[0], few.blocks[0].init_state()), eqx.is_array)))
    assert grown <= 8 * 4 * arrays and grown < 0.2 * (operations(many, Depth()) - operations(few, Depth()))


def test_less_is_kept():
    """A gradient through 12 blocks needs less memory beside its arguments when blocks are computed anew."""

    def needed(depth: Depth) -> int:
        arrays, rest = eqx.partition(models.with_depth(model("llama", 12), **depth._asdict()), eqx.is_inexact_array)
        loss = lambda arrays, x: jnp.sum(eqx.combine(arrays, rest)(x)[0] ** 2)
        text = jnp.tile(TOKENS, 16)
        analysis: Any = jax.jit(jax.grad(loss)).lower(arrays, text).compile().memory_analysis()
        return analysis.temp_size_in_bytes

    assert needed(Depth(True, True)) < 0.6 * needed(SCANNED)


def test_it_is_no_other_model_on_disk(tmp_path):
    """Files of weights and of sessions are those of the blocks as they are written."""
    plain = model("llama")
    other = models.with_depth(plain, scanned=True, rematerialised=True)
    assert fingerprint(other) == fingerprint(plain)
    checkpoints.save_weights(tmp_path / "weights.safetensors", other)
    assert checkpoints.load_weights(tmp_path / "weights.safetensors").depth == Depth()
    session = Session(plain)
    session.read(TOKENS[:5])
    session.save(tmp_path / "session")
    assert len(Session.load(tmp_path / "session", other)) == 5


def test_what_has_no_blocks_is_refused():
    """A stack of mixers has none."""
    with pytest.raises(InputError, match="a GRU has no blocks that can be run in another way"):
        models.with_depth(GRU.make(4, key=jr.key(0)), scanned=True)
