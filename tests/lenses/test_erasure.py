"""Concept erasure: after it no linear probe is better than a constant, and no other eraser changes less."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize

from dualform.errors import InputError
from dualform.lenses import erase, trace, with_behind
from tests.laws import laws
from tests.models.families import D, language_model, tokens

RANDOM = np.random.default_rng(0)
Z = RANDOM.integers(0, 3, 400)
MIXED = RANDOM.normal(size=(6, 6))
X = RANDOM.normal(size=(400, 6)) @ MIXED + np.array([[0.0] * 6, [1.0, 2, 0, 0, 1, 0], [0, -1, 0, 3, 0, 0]])[Z]


def logistic_loss(x: np.ndarray, z: np.ndarray) -> float:
    """The least mean loss of a linear classifier of two classes, in nats, by its own optimiser."""
    inputs = np.concatenate([x, np.ones((len(x), 1))], axis=1)
    sign = np.where(z, 1.0, -1.0)

    def of(w):
        margins = sign * (inputs @ w)
        slope = -(sign / (1 + np.exp(margins)))[:, None] * inputs
        return np.logaddexp(0, -margins).mean(), slope.mean(0)

    return float(minimize(of, np.zeros(inputs.shape[1]), jac=True, tol=1e-14).fun)


def test_no_covariance_is_left():
    """Of three classes two dimensions are taken; what is left has no covariance with any, and erasing again changes nothing."""
    eraser = erase(X, Z)
    found = np.asarray(eraser(X))
    shown = (Z[:, None] == np.arange(3)).astype(float)
    left = found - found.mean(0)
    assert eraser.rank == 2 and abs(left.T @ (shown - shown.mean(0)) / len(X)).max() < 1e-12
    laws.check_close(eraser(found), found, 1e-12, "erased twice")
    laws.check_close(found.mean(0), X.mean(0), 1e-12, "the mean")


@pytest.mark.parametrize("kind", [1, 2])
def test_no_linear_probe_is_better_than_a_constant(kind):
    """The least logistic loss is the entropy of the class's share, the least square its variance; before, both are lower."""
    z = Z == kind
    erased, share = np.asarray(erase(X, z)(X)), z.mean()
    entropy = -share * np.log(share) - (1 - share) * np.log(1 - share)
    assert logistic_loss(X, z) < entropy - 0.1
    assert logistic_loss(erased, z) == pytest.approx(entropy, abs=1e-10)
    inputs = np.concatenate([erased, np.ones((len(X), 1))], axis=1)
    fitted = inputs @ np.linalg.lstsq(inputs, z.astype(float), rcond=None)[0]
    assert np.mean((z - fitted) ** 2) == pytest.approx(share * (1 - share), abs=1e-12)


def test_no_other_eraser_changes_less():
    """Every oblique projection that erases moves the activations further, by three norms; the orthogonal one, too."""
    z = (Z == 1).astype(float)
    own = np.asarray(erase(X, z)(X)) - X
    centred = X - X.mean(0)
    cross = (centred.T @ (z - z.mean()))[:, None]
    root = RANDOM.normal(size=(6, 6))
    norms = (np.eye(6), np.linalg.inv(np.cov(X.T)), root @ root.T)
    moved = lambda change, m: float(np.einsum("ti,ij,tj->t", change, m, change).mean())
    for along in [cross, *(RANDOM.normal(size=(6, 1)) for _ in range(5))]:
        change = -centred @ along @ np.linalg.inv(cross.T @ along) @ cross.T
        assert abs((X + change - X.mean(0)).T @ (z - z.mean())).max() / len(X) < 1e-9
        assert all(moved(own, m) < moved(change, m) for m in norms)


def test_what_cannot_be_told_apart():
    """Activations that fill fewer dimensions than they have, and columns of a concept that repeat."""
    flat = np.concatenate([X, X[:, :2]], axis=1)
    twice = np.stack([Z == 1, Z == 1], axis=1).astype(float)
    eraser = erase(flat, twice)
    left = np.asarray(eraser(flat))
    assert eraser.rank == 1 and abs((left - left.mean(0)).T @ (twice - twice.mean(0)) / len(X)).max() < 1e-12
    laws.check_close(left[:, :2], left[:, 6:], 1e-10, "columns that are one")


def test_an_eraser_in_a_model():
    """As an edit of a trace and as a layer behind a block it is one thing, and what the block then gives has no concept."""
    model, ids = language_model("gla", "griffin_recurrent"), tokens(0)
    seen = trace(model, ids, record=("block 1.out",)).recorded["block 1.out"]
    z = np.arange(len(ids)) % 2
    eraser = erase(seen, z)
    edited = trace(model, ids, {"block 1.out": eraser}, record=("block 1.out",))
    given = np.asarray(edited.recorded["block 1.out"])
    assert abs(given[z == 0].mean(0) - given[z == 1].mean(0)).max() < 1e-12
    changed = with_behind(model, {"block 1.out": eraser.layer})
    laws.check_close(laws.call(changed, ids)[0], edited.y, 1e-10, "the model and the edit")
    assert eraser.mean.shape == (D,) and eqx.tree_equal(erase(seen, z), eraser)


BAD = {
    "shape": (lambda: erase(X[0], Z), r"activations have shape \(6,\) of float64; give real numbers, \(example, d\)"),
    "length": (lambda: erase(X, Z[:9]), "there are 400 activations, and the concept of 9"),
    "one kind": (lambda: erase(X, np.ones(400)), "the concept is the same for all examples"),
    "words": (lambda: erase(X, np.array(["a"] * 400)), "give a label of each example"),
    "table": (lambda: erase(X, np.ones((400, 2), int)), r"labels have shape \(400, 2\)"),
    "not finite": (lambda: erase(np.where(X > 3, np.nan, X), Z), "the activations hold what is not finite"),
    "no truth": (lambda: erase(X, np.where(Z == 1, np.inf, 0.0)), "the concept holds what is not finite"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case):
    """What cannot be erased is said."""
    call, message = BAD[case]
    with pytest.raises(InputError, match=message):
        call()


def test_in_single_precision():
    """Made of float32, it is of float32, and what is left is rounding."""
    x = jnp.asarray(X, jnp.float32)
    found = erase(x, Z)(x)
    assert found.dtype == jnp.float32
    left = np.asarray(found, float)
    spread = [left[Z == kind].mean(0) - left.mean(0) for kind in range(3)]
    assert max(abs(each).max() for each in spread) < 1e-5
