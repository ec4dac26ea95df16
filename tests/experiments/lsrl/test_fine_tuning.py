"""What a training from a program begins with, and what is measured of it."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
import pytest

from dualform.experiments.lsrl.fine_tuning import CONFIDENCE, GRIDS, STARTS, TO, begun, head, job
from dualform.experiments.lsrl.hidden_map import SYMBOLS, drawn
from dualform.experiments.lsrl.starts import Moved, fresh, perturbed
from dualform.programs import certify, compile_program, interpret
from dualform.training import FitConfig, fit
from tests.tiers import tiers

ARCHITECTURES = tiers(TO, "gated-linear-rnn")


@functools.cache
def compiled(to: str):
    return compile_program(head(), to, "float32")


def weights(network) -> list[np.ndarray]:
    return [np.asarray(each) for each in jtu.tree_leaves(eqx.filter(network, eqx.is_inexact_array))]


def said(tokens: np.ndarray) -> np.ndarray:
    """What the head should say of one sequence, by counting."""
    seen, found = np.zeros((SYMBOLS, SYMBOLS)), np.zeros((len(tokens), SYMBOLS))
    for t, x in enumerate(tokens):
        if t:
            seen[tokens[t - 1], x] += 1
        if seen[x].any():
            found[t, seen[x].argmax()] = CONFIDENCE
    return found


def test_the_head_counts():
    """It says what most often followed, the first of several, and nothing where nothing did."""
    tokens = np.asarray(drawn(jr.key(0), 20, 40))
    expected = np.stack([said(row) for row in tokens])
    assert np.array_equal(interpret(head(), np.eye(SYMBOLS)[tokens]), expected)


@pytest.mark.parametrize("to", ARCHITECTURES)
def test_the_head_is_compiled(to):
    """In float32 it is the interpreter's to 1e-4, and every weight is finite, so that training may go on from it."""
    assert certify(compiled(to), inputs=20, lengths=(33,)).error < 1e-4
    assert all(np.isfinite(each).all() for each in weights(compiled(to).model))


@pytest.mark.slow
@pytest.mark.parametrize("to", TO)
def test_starts(to):
    """What begins as the program is it, to the bit; noise leaves what is 0; a fresh network has its shapes and other numbers."""
    network = compiled(to).model
    own = weights(network)
    for relative in (False, True):
        same = Moved.of(network, relative=relative).network
        assert jtu.tree_structure(same) == jtu.tree_structure(network)
        assert all(np.array_equal(a, b) for a, b in zip(weights(same), own, strict=True))
    for noisy, w in zip(weights(perturbed(network, 0.1, key=jr.key(0))), own, strict=True):
        assert np.array_equal(noisy == 0, w == 0)
        assert np.abs(noisy - w).max(initial=0) <= 0.6 * np.abs(w).max(initial=0)
    other = fresh(network, key=jr.key(1))
    assert [w.shape for w in weights(other)] == [w.shape for w in own]
    large = [(a, b) for a, b in zip(weights(other), own, strict=True) if a.ndim > 1 and a.size > 200]
    assert len(large) >= 5 and not any(np.array_equal(a, b) for a, b in large)


def test_relative_steps_leave_what_is_0():
    """A change of 1/2 in every weight adds 1/2, or half of the weight's size."""
    network = compiled("gated-linear-rnn").model
    half = lambda moved: eqx.tree_at(
        lambda moved: moved.change,
        moved,
        jtu.tree_map(lambda w: w + 0.5 if eqx.is_inexact_array(w) else w, moved.change),
    )
    for relative in (False, True):
        found = weights(half(Moved.of(network, relative=relative)).network)
        for w, start in zip(found, weights(network), strict=True):
            assert np.array_equal(w, start + np.float32(0.5) * (np.abs(start) if relative else 1))


@pytest.mark.slow
def test_a_compiled_network_can_be_fitted():
    """`fit` takes the network as it is, whose perfect memories are finite numbers, and its weights stay finite."""
    network = compiled("gated-linear-rnn").model
    x = jax.nn.one_hot(drawn(jr.key(3), 2, 8), SYMBOLS, dtype=jnp.float32)
    config = FitConfig(steps=2, chunk=2, warmup=0, learning_rate=1e-3, weight_decay=0.0)
    fitted = fit(network, lambda key: (x, jnp.zeros((2, 8, SYMBOLS), jnp.float32)), config, loss=_loss)
    assert all(np.isfinite(each).all() for each in weights(fitted.model))
    assert any(not np.array_equal(a, b) for a, b in zip(weights(fitted.model), weights(network), strict=True))


def _loss(network, x, y):
    return jnp.mean(jnp.square(jax.vmap(lambda row: network(row)[0])(x) - y))


@pytest.mark.slow
def test_the_job_measures(tmp_path):
    """One small job gives every start a value of each seed and length, and the program is ahead of a fresh network."""
    config = {**GRIDS["quick"], "to": "gated-linear-rnn", "rates": (3e-3,), "steps": 10, "seeds": 2, "lengths": (32,)}
    found = job(config, tmp_path)
    assert set(found["excess"]) == set(STARTS) and all(len(found["excess"][name]["32"]) == 2 for name in STARTS)
    assert found["gradients"]["finite"] and 0 < found["gradients"]["reached"] <= 1
    assert found["scaled"]["32"] <= found["before"]["32"]
    assert max(found["excess"]["compiled"]["32"]) < min(found["excess"]["fresh"]["32"])
    assert begun("fresh", compiled("gated-linear-rnn").model, 0) is not None
