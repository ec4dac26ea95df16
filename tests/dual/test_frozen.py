"""A module frozen at its input is an affine map, and at that input it is the module."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from dualform.dual import freeze, layer_form
from dualform.errors import InputError
from dualform.mixers import registry
from dualform.models import MLP, Bidirectional, Block, GatedMLP, LayerNorm, RMSNorm
from dualform.models.mlp import ACTIVATIONS, JoinedMLP
from tests.laws import laws
from tests.models.families import block, shaken
from tests.tiers import tiers

TIME, D = laws.TIME, laws.D
START, MASK = jnp.arange(TIME) == 3, jnp.arange(TIME) != 1
RESIDUAL = {"float64": 1e-10, "float32": 1e-5}
"""What is promised for every mixer; float32's is its rounding times the number of terms that cancel."""


@eqx.filter_jit
def errors(module, x, state, start, mask):
    """Relative to the output: affine(x), and the sum of single tokens and bias; one program for all inputs of the map."""
    y, _, affine, *_ = freeze(module, x, state, start=start, mask=mask)
    alone = jnp.eye(len(x), dtype=x.dtype)[:, :, None] * x[None]
    at_x, bias, *tokens = jax.vmap(affine)(jnp.concatenate([x[None], jnp.zeros_like(x)[None], alone]))
    total = bias + sum(token - bias for token in tokens)
    return [jnp.linalg.norm(found - y) / jnp.linalg.norm(y) for found in (at_x, total)]


@pytest.mark.parametrize("name", laws.registered("gla", "softmax_attention", "lstm"))
def test_every_mixer_in_a_block(name):
    """Every registered mixer with a norm, an MLP, a carried state, packed documents and absent tokens: to 1e-10."""
    module = block(name)
    found = errors(module, laws.sequence(0, TIME), laws.some_state(module.mixer, 0), START, MASK)
    assert max(map(float, found)) <= RESIDUAL["float64"]


@pytest.mark.parametrize("name", tiers(["griffin_recurrent", "gla"], "griffin_recurrent"))
def test_the_frozen_output_is_the_modules(name):
    """A frozen block's own output and state are those of its call."""
    module, state = block(name), laws.some_state(laws.make(name), 0)
    frozen = eqx.filter_jit(lambda module, x, state, start, mask: freeze(module, x, state, start=start, mask=mask)[:2])
    found = frozen(module, laws.sequence(0, TIME), state, START, MASK)
    laws.check_close(found, laws.call(module, laws.sequence(0, TIME), state, START, MASK), laws.EXACT, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", registry())
def test_every_mixer_in_float32(name):
    """The same in float32, over more tokens: to 1e-5."""
    module = laws.cast(shaken(block(name)), jnp.float32)
    assert layer_form(module, laws.sequence(0, 64).astype(jnp.float32)).residual <= RESIDUAL["float32"]


@pytest.mark.parametrize("name", tiers(["mamba", "lstm", "gated_delta_rule"], "mamba"))
def test_float32(name):
    """A convolution and a gate, a frozen cell, a delta rule in float32: to 1e-5."""
    module = laws.cast(block(name), jnp.float32)
    assert layer_form(module, laws.sequence(0, TIME).astype(jnp.float32)).residual <= RESIDUAL["float32"]


PARTS: dict[str, Any] = {
    "rms": shaken(RMSNorm.make(D)),
    "rms, plus one": shaken(RMSNorm.make(D, plus_one=True)),
    "layer": shaken(LayerNorm.make(D)),
    "gated": shaken(GatedMLP.make(D, key=jr.key(0), hidden=3, bias=True)),
    "joined": shaken(JoinedMLP.of(GatedMLP.make(D, key=jr.key(0), hidden=3, bias=True))),
    **{name: shaken(MLP.make(D, key=jr.key(0), hidden=3, activation=name)) for name in ACTIVATIONS},
}


@pytest.mark.parametrize("name", PARTS)
def test_pointwise_parts(name):
    """Norms and MLPs: affine, themselves at x, also at a token of zeros, and each output of its own token alone."""
    part, x = PARTS[name], laws.sequence(0, TIME).at[2].set(0.0)
    y, _, affine, kind, _ = freeze(part, x)
    laws.check_close(affine(x), part(x)[0], laws.EXACT, "at x")
    laws.check_same_bits(y, part(x)[0], "y")
    other = laws.sequence(1, TIME)
    laws.check_close(affine(2 * other - x), 2 * affine(other) - affine(x), laws.EXACT, "affine")
    assert kind == "frozen nonlinearity" and not np.asarray(affine(x.at[3].add(1.0)) - affine(x))[:3].any()


def test_an_activation_at_zero():
    """Where an activation's input is 0, its slope there is frozen: the ratio's limit, not 0 / 0."""
    mlp = MLP(jnp.eye(2), jnp.eye(2), activation="silu")
    affine = freeze(mlp, jnp.zeros((1, 2))).map
    laws.check_close(affine(jnp.array([[2.0, -4.0]])), jnp.array([[1.0, -2.0]]), laws.EXACT, "half, silu's slope at 0")


@pytest.mark.parametrize("join", ["sum", "concatenate"])
def test_both_directions(join):
    """Two mixers, one from the end, with packed documents and absent tokens."""
    both = Bidirectional(laws.make("min_gru"), laws.make("min_gru", seed=1), join)
    found = errors(both, laws.sequence(0, TIME), None, START, MASK)
    assert max(map(float, found)) <= RESIDUAL["float64"]


def test_kinds():
    """A block is its mixer's own map only where nothing else was frozen."""
    attention, x = laws.make("softmax_attention"), laws.sequence(0, TIME)
    assert freeze(Block(None, attention), x).kind == "linear given its gates"
    assert freeze(Block(RMSNorm.make(D), attention), x).kind == "frozen nonlinearity"


def test_a_module_of_ones_own():
    """Any module with a method `frozen` and a call takes part; the output is the call's, whatever `frozen` says it is."""

    class Uncalled(eqx.Module):
        def frozen(self, x, state, start, mask):
            return 2 * x, (), lambda other: 2 * other, "linear given its gates"

    class Doubled(Uncalled):
        def __call__(self, x):
            return 2 * x

    class Tripled(Uncalled):
        def __call__(self, x):
            return 3 * x

    form = layer_form(Doubled(), laws.sequence(0, 3))
    assert form.residual == 0 and form.kind == "linear given its gates" and form.name == "Doubled"
    assert layer_form(Tripled(), laws.sequence(0, 3)).residual == pytest.approx(1 / 3)
    with pytest.raises(
        InputError, match="a Uncalled cannot be called, and a certificate compares with the module's own call"
    ):
        layer_form(Uncalled(), laws.sequence(0, 3))


def test_what_cannot_be_frozen(unchecked):
    """Another kind of module is named, with what it needs."""
    with pytest.raises(InputError, match=r"a Linear cannot be frozen: it is no layer"):
        freeze(eqx.nn.Linear(2, 2, key=jr.key(0)), laws.sequence(0, 3))
