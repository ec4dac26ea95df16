"""Interventions: a trace without edits is the model, edits do what they say, and a knocked-out edge does what the map said."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dualform.dual import model_form
from dualform.errors import InputError
from dualform.lenses import edge_effects, knock_out, trace
from dualform.mixers import LinearAttention
from dualform.models import Stack
from tests.laws import laws
from tests.models.families import D, language_model, tokens
from tests.tiers import tiers

X = tokens(0)
MODEL = language_model("gla", "griffin_recurrent")
FORM = functools.cache(lambda: model_form(MODEL, X))
WEIGHTS = np.random.default_rng(0).normal(size=(3, D, D))
ATTENTION: Any = Stack(
    jnp.concatenate([jnp.eye(D), jnp.zeros((D, 1))], 1),
    (LinearAttention(*WEIGHTS),),
    jnp.concatenate([jnp.eye(D), jnp.ones((D, 1))], 1),
)


def test_a_trace_without_edits_is_the_model():
    """The same output and states, also where the run is cut to look at states; a state is that of the first tokens alone."""
    y, states = laws.call(MODEL, X)
    found = trace(MODEL, X, record=("block 1.state@2", "block 2.out"))
    laws.check_close((found.y, found.state), (y, states), laws.EXACT, "the run")
    laws.check_close(found.recorded["block 1.state@2"], laws.call(MODEL, X[:3])[1][0], laws.EXACT, "the state after 2")
    laws.check_close(found.recorded["block 2.out"], MODEL.read(X)[0], laws.EXACT, "what the blocks give")


def test_edits():
    """A block without its mixer and MLP passes what it gets; a forgotten state is a document's beginning."""
    nothing = lambda y: 0 * y
    passed = trace(MODEL, X, {"block 1.mixer.out": nothing, "block 1.mlp.out": nothing})
    laws.check_close(passed.recorded["block 1.out"], MODEL.embed(X), laws.EXACT, "the residual stream")
    assert set(passed.recorded) >= {"block 1.in", "block 1.mixer.in", "block 2.mlp.out", "norm.in", "head.out"}
    forgets = {f"block {i + 1}.state@2": lambda _, i=i: MODEL.blocks[i].init_state() for i in range(2)}
    expected = laws.call(MODEL, X, start=jnp.arange(6) == 3)[0]
    laws.check_close(trace(MODEL, X, forgets, record=()).y, expected, laws.EXACT, "forgotten states")


def test_an_edge_of_linear_attention():
    """One layer, linear given its gates: the model run again without the edge loses (q_t . k_s) v_s there, and nowhere else."""
    x = laws.sequence(0, 5)
    w_v, w_k, w_q = WEIGHTS
    lost = (w_q @ x[4]) @ (w_k @ x[1]) * (w_v @ x[1])
    for frozen in (False, True):
        found = knock_out(ATTENTION, x, "layer 1", 1, 4, frozen=frozen)
        laws.check_close(found.before - found.y, jnp.zeros((5, D)).at[4].set(lost), laws.EXACT, f"frozen {frozen}")
    effects = edge_effects(model_form(ATTENTION, x), "layer 1", 4, 2)
    assert effects[4, 1] == pytest.approx(float(lost[2]), abs=1e-10) and not effects[:4].any()


@pytest.mark.parametrize("layer", tiers(["block 1", "block 2"], "block 1"))
def test_a_maps_prediction_is_the_frozen_run(layer):
    """What the map says of an edge, through all that comes after it, is what the run without it loses, gates as they were."""
    effects = edge_effects(FORM(), layer, 5, 3, 2)
    for source, target in ((0, 5), (2, 4)):
        found = knock_out(MODEL, X, layer, source, target, frozen=True)
        lost = np.asarray(found.before - found.y)[5]
        assert effects[target, source] == pytest.approx(lost[3] - lost[2], abs=1e-10)
    real = knock_out(MODEL, X, "block 2", 0, 5)
    laws.check_close(real.removed, FORM().layers[1].inner.contributions([5])[0, 0], laws.EXACT, "what was removed")
    assert not np.asarray(real.before - real.y)[:5].any() and np.asarray(real.before - real.y)[5].any()


def test_one_head():
    """What the heads bring, knocked out one by one, is what the edge brings."""
    each = [knock_out(MODEL, X, "block 1", 1, 4, head=head).removed for head in range(2)]
    laws.check_close(each[0] + each[1], knock_out(MODEL, X, "block 1", 1, 4).removed, laws.EXACT, "both heads")
    assert all(np.asarray(one).any() for one in each)


BAD = {
    "place": (
        lambda: trace(MODEL, X, {"block 3.out": jnp.abs}),
        "there is no place 'block 3.out'; there are block 1.in",
    ),
    "stateless": (lambda: trace(MODEL, X, record=("norm.state@0",)), "there is no stage 'norm' that has a state"),
    "late": (lambda: trace(MODEL, X, record=("block 1.state@6",)), "'block 1.state@6' lies beyond the last token, 5"),
    "shape": (lambda: trace(MODEL, X, {"block 1.in": lambda x: x[:2]}), r"returned shape \(2, 4\) for \(6, 4\)"),
    "layer": (lambda: knock_out(MODEL, X, "norm", 0, 0), "there is no layer 'norm'; there are block 1, block 2"),
    "token": (lambda: knock_out(MODEL, X, "block 1", 6, 0), "source 6 is no token's place; there are 6, from 0 to 5"),
    "head": (lambda: knock_out(MODEL, X, "block 1", 0, 0, head=2), "there is no head 2 in block 1; its values have 2"),
    "no heads": (
        lambda: knock_out(MODEL, X, "block 2", 0, 0, head=0),
        "there is no head 0 in block 2; its values have 0",
    ),
    "target": (lambda: edge_effects(FORM(), "block 1", 9, 0), "there is no place 9; there are 6"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(unchecked, case):
    """What does not exist is named, with what there is."""
    call, message = BAD[case]
    with pytest.raises(InputError, match=message):
        call()


def test_a_trace_compiles_and_has_gradients():
    """Edits are functions: a trace is jitted and differentiated as any other."""
    score = lambda size: trace(MODEL, X, {"block 2.mixer.out": lambda y: size * y}, record=()).y[5, 3]
    slope = jax.jit(jax.grad(score))(1.0)
    step = (score(1 + 1e-6) - score(1 - 1e-6)) / 2e-6
    assert float(slope) == pytest.approx(float(step), rel=1e-6)
