"""Attribution: the exact sum is exact, heuristics are what they are said to be, and perturbation tells right from wrong."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dualform.dual import model_form
from dualform.dual.attribution import METHODS, attribute, perturbation_curves
from dualform.dual.attribution.maps import normalised
from dualform.errors import InputError
from dualform.mixers import LinearAttention
from dualform.models import Stack
from tests.laws import laws
from tests.models.families import language_model, tokens

X = tokens(0)
MODEL = functools.cache(lambda: language_model("gla", "hgrn"))
FORM = functools.cache(lambda: model_form(MODEL(), X))
TARGET = (5, 3, 2)
READER: Any = Stack(
    jnp.concatenate([jnp.eye(4), jnp.zeros((4, 1))], 1),
    (LinearAttention(jnp.eye(4), jnp.diag(jnp.array([1.0, 1, 0, 0])), jnp.diag(jnp.array([1.0, 1, 0, 0]))),),
    jnp.concatenate([jnp.eye(4)[2:], jnp.zeros((2, 1))], 1),
)
"""It gives the values (last two numbers) of tokens whose key (first two) is that of the one that asks."""
PAIRS = jnp.array([[1.0, 0, 3, 0], [0, 1, 0, 5], [0, 1, 0, 1], [1, 0, 0, 0]])


@pytest.mark.parametrize("method", METHODS)
def test_every_method_on_a_known_source(method):
    """One layer that looks up a key: every method but the gradient's own zeros ranks the token with that key first."""
    found = attribute(READER, PAIRS, (3, 0), method)
    assert found.ranking()[found.ranking() != 3][0] == 0
    if method in ("exact", "occlusion"):
        laws.check_close(found.scores[:3], np.array([3.0, 0, 0]), laws.EXACT, method)


def test_the_exact_sum():
    """Scores and bias add up to the difference of the logits, and are those of the model's form."""
    found, logits = attribute(MODEL(), X, TARGET), np.asarray(laws.call(MODEL(), X)[0])
    assert found.scores.sum() + found.bias == pytest.approx(logits[5, 3] - logits[5, 2], abs=1e-10)
    laws.check_close(found.scores, FORM().logit(*TARGET).contributions, laws.EXACT, "the form's")
    assert found.residual is not None and found.residual <= laws.EXACT


def test_raw_and_rollout_are_made_of_the_layers_maps():
    """The mean of the normalised maps, and the product of (I + A) / 2."""
    a, b = (normalised(layer) for layer in FORM().layers)
    laws.check_close(attribute(MODEL(), X, TARGET, "raw").scores, (a[5] + b[5]) / 2, laws.EXACT, "raw")
    eye = np.eye(6)
    laws.check_close(
        attribute(MODEL(), X, TARGET, "rollout").scores, ((eye + b) @ (eye + a) / 4)[5], laws.EXACT, "rollout"
    )


def test_gradient_weighted_on_one_layer():
    """gradient . contributions, its positive part, and the identity: by the gradient of a readout that is linear."""
    contributions = model_form(READER, PAIRS).layers[0].contributions()
    expected = np.maximum(contributions[3] @ np.array([0.0, 0, 1, 0]), 0) + np.eye(4)[3]
    found = attribute(READER, PAIRS, (3, 0), "gradient-weighted").scores
    laws.check_close(found, expected, laws.EXACT, "gradient-weighted")


def test_gradients():
    """gradient . x is the derivative along x; integrated gradients sum to the change from an input of zeros."""
    x = MODEL().embed(X)
    score = lambda x: model_form_free(x)[5, 3] - model_form_free(x)[5, 2]
    slope = (score(x * (1 + 1e-6)) - score(x * (1 - 1e-6))) / 2e-6
    assert attribute(MODEL(), X, TARGET, "gradient").scores.sum() == pytest.approx(float(slope), rel=1e-5)
    cubic = attribute(READER, PAIRS, (3, 0), "integrated gradients").scores.sum()
    assert cubic == pytest.approx(float(laws.call(READER, PAIRS)[0][3, 0]), rel=2e-3)


def model_form_free(x: jax.Array) -> jax.Array:
    """The model's logits from embedded tokens."""
    h = x
    for block in MODEL().blocks:
        h, _ = laws.call(block, h)
    return MODEL().logits(h)


def test_perturbation_tells_right_from_wrong():
    """Where the source is known: its order has the best areas, the reverse the worst, and a constant model no area."""
    right = np.array([3.0, 0.2, 0.1, 0.0])
    good, bad = (perturbation_curves(READER, PAIRS, (3, 0), scores) for scores in (right, -right))
    assert good.positive < bad.positive and good.negative > bad.negative and good.pruning < bad.pruning
    assert good.activation == good.negative
    # By hand: the source goes first, so one of four steps has its probability, and half of the area is at its border.
    whole = float(jax.nn.softmax(laws.call(READER, PAIRS)[0][3])[0])
    assert good.positive == pytest.approx((whole / 2 + 0.5 + 0.5 + 0.25) / 3)
    assert good.pruning == pytest.approx(((3.0**2) / 2 / 2) / 3)


BAD = {
    "method": (
        lambda: attribute(MODEL(), X, TARGET, "best"),
        "there is no method 'best'; there are exact, raw, rollout",
    ),
    "place": (lambda: attribute(MODEL(), X, (6, 0)), "place 6 does not exist"),
    "output": (lambda: attribute(MODEL(), X, (0, 9)), "there is no output 9; there are 7"),
    "target": (
        lambda: attribute(MODEL(), X, (1,)),
        r"a target is \(t, token\) or \(t, token, against\), whole numbers; got",
    ),
    "scores": (lambda: perturbation_curves(MODEL(), X, (5, 0), np.zeros(3)), r"scores have shape \(3,\); there are 6"),
    "one token": (lambda: perturbation_curves(MODEL(), X[:1], (0, 0), np.zeros(1)), "at least one token besides"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(unchecked, case):
    """What does not exist is named."""
    call, message = BAD[case]
    with pytest.raises(InputError, match=message):
        call()
