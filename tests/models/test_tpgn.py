"""TPGN: its size as published, what it reads, its normalisation, and input that does not fit."""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from dualform import models
from dualform.checkpoints import load_weights, save_weights
from dualform.errors import InputError
from dualform.models import TPGN
from tests.laws import laws

PAST, PERIOD, MARKS = 12, 4, 2
X, TIMES = jr.normal(jr.key(1), (PAST,)), jr.uniform(jr.key(2), (PAST, MARKS)) - 0.5

LISTED: Any = [1.0] * PAST


def small(**options) -> TPGN:
    return TPGN.make(PAST, 8, **{"key": jr.key(0), "period": PERIOD, "marks": MARKS} | options)


def test_sizes_as_published():
    """431 numbers for ETTh1, 168 to 168 hours (n = 2); at n = 32, as for ECL, what the public model has, 22,151."""
    assert TPGN.make(key=jr.key(0)).parameters() == 431
    assert TPGN.make(key=jr.key(0), n=32).parameters() == 16 * 32**2 + 180 * 32 + 7
    model = TPGN.make(168, 1440, key=jr.key(0), n=8)
    assert (model.past, model.future, model.period, model.marks) == (168, 1440, 24, 4)


def test_the_forecast_by_hand():
    """The equations of the docstring, place by place and row by row."""
    model = small(n=3, normalise=False)
    tokens = np.concatenate([np.asarray(X)[:, None], np.asarray(TIMES)], axis=1).reshape(3, PERIOD, 3)
    w = {field.name: np.asarray(getattr(model, field.name)) for field in dataclasses.fields(model)[1:]}
    by_row = [w["w_row"] @ tokens[r].T.ravel() + w["b_row"] for r in range(3)]
    short = w["w_column"] @ np.stack(by_row, axis=1).ravel() + w["b_column"]
    expected = np.zeros((2, PERIOD))
    for p in range(PERIOD):
        walked = np.asarray(model.core(jnp.asarray(tokens[:, p]))[0])
        long = w["w_long"] @ walked.T.ravel() + w["b_long"]
        expected[:, p] = w["w_o"] @ np.concatenate([short, long]) + w["b_o"]
    laws.check_close(np.asarray(model(X, TIMES)), expected.ravel(), laws.EXACT, "the forecast")


def test_the_normalised_forecast_moves_with_the_series():
    """A series shifted and stretched gives a forecast shifted and stretched; without normalising it does not."""
    for normalise in (True, False):
        model = small(normalise=normalise)
        moved, expected = model(100 * X + 3, TIMES), 100 * model(X, TIMES) + 3
        # The 1e-5 added to the variance is no part of what is stretched.
        assert bool(jnp.allclose(moved, expected, rtol=1e-3)) == normalise


def test_several_series_have_their_own_weights():
    """A vmap over models and series is a loop over them."""
    many = eqx.filter_vmap(lambda key: small(key=key))(jr.split(jr.key(3)))
    series = jnp.stack([X, X[::-1]])
    found = eqx.filter_jit(eqx.filter_vmap(lambda model, x: model(x, TIMES)))(many, series)
    alone = [small(key=key)(x, TIMES) for key, x in zip(jr.split(jr.key(3)), series, strict=True)]
    laws.check_close(found, jnp.stack(alone), laws.EXACT, "several series")


def test_every_weight_learns():
    """Each weight has a gradient that is finite and not 0; so has the series."""
    model = small()
    gradients = eqx.filter_jit(jax.grad(lambda args: jnp.sum(args[0](args[1], TIMES) ** 2)))((model, X))
    assert all(np.isfinite(leaf).all() and np.asarray(leaf).any() for leaf in jax.tree_util.tree_leaves(gradients))


def test_low_precision_stays_close():
    """float32 stays within 1e-5 of float64, bfloat16 within 2^-7: a forecast is rounded where the series is put back."""
    for dtype, bound in (("float32", 1e-5), ("bfloat16", 2 * laws.BOUNDS["bfloat16"])):
        rounded = laws.cast((small(), X, TIMES), jnp.dtype(dtype))
        run = lambda args: args[0](args[1], args[2])
        y = run(rounded)
        assert y.dtype == jnp.dtype(dtype)
        laws.check_close(y.astype(jnp.float64), run(laws.cast(rounded, jnp.float64)), bound, dtype)


def test_a_saved_model_loads_to_the_bit(tmp_path):
    """Weights and the setting come back; so does the forecast."""
    for model in (small(), small(normalise=False, marks=0)):
        save_weights(tmp_path / "tpgn.safetensors", model)
        loaded = load_weights(tmp_path / "tpgn.safetensors", models.TPGN)
        laws.check_same_bits(loaded, model, "the model read back")


BAD = {
    "a part of a period": (lambda: small(period=5), "past is 12 steps; it must be whole periods of 5, at least 2"),
    "one period": (lambda: small(period=12), "past is 12 steps; it must be whole periods of 12, at least 2"),
    "a part of a future": (lambda: TPGN.make(24, 20, key=jr.key(0), period=12), "future is 20 steps; .* at least 1"),
    "no period": (lambda: small(period=0), "period is 0; it must be at least 1 step"),
    "no width": (lambda: small(n=0), "n is 0 and marks 2; n must be at least 1"),
    "a short series": (lambda: small()(X[1:], TIMES), r"reads one series of 12 steps; got shape \(11,\)"),
    "a batch": (lambda: small()(X[None], TIMES), r"reads one series of 12 steps; got shape \(1, 12\)"),
    "a list": (lambda: small()(LISTED, TIMES), "reads one series of 12 steps; got shape None"),
    "integers": (lambda: small()(jnp.arange(12), TIMES), "real floating-point series; got int64. Cast it"),
    "no marks": (lambda: small()(X), r"marks must be real numbers, \(12, 2\); got shape \(12, 0\) of float64"),
    "other marks": (lambda: small()(X, TIMES[:, :1]), r"marks must be real numbers, \(12, 2\); got shape \(12, 1\)"),
    "integer marks": (lambda: small()(X, jnp.zeros((12, 2), int)), r"got shape \(12, 2\) of int64"),
    "listed marks": (lambda: small()(X, LISTED), "marks must be real numbers, .* got shape None of None"),
    "a core of another width": (
        lambda: dataclasses.replace(small(), core=small(n=3).core),
        r"w_long has shape \(2, 6\); it must be \(3, 6\)",
    ),
    "no entry": (
        lambda: dataclasses.replace(small(), w_row=np.zeros((2, 7))),
        r"w_row has shape \(2, 7\); its columns",
    ),
    "a short column": (
        lambda: dataclasses.replace(small(), w_column=np.zeros((2, 4))),
        r"w_column has shape \(2, 4\); it must be \(2, 6\)",
    ),
    "a narrow readout": (lambda: dataclasses.replace(small(), w_o=np.zeros((2, 2))), r"w_o has shape \(2, 2\)"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(unchecked, case):
    """What is wrong is said, with its value, and what to do."""
    build, message = BAD[case]
    with pytest.raises(InputError, match=message):
        build()
