"""The worked example of CONTRIBUTING.md is a block: one file, which models, dual forms, traces and knock-outs know."""

import re
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from dualform import dual_form
from dualform.dual import attribute, model_form
from dualform.lenses import knock_out, trace
from dualform.mixers import GLA
from dualform.models import GatedMLP, LanguageModel, RMSNorm, with_depth

TEXT = (Path(__file__).resolve().parents[2] / "CONTRIBUTING.md").read_text()
EXACT = 1e-11
"""float64 sums of a few dozen terms, through two blocks."""
TOKENS = jnp.asarray([3, 1, 4, 1, 5, 6])


def close(found: Any, expected: Any) -> None:
    """Every array, relative to the largest entry."""
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=EXACT * float(jnp.abs(b).max() or 1))


@pytest.fixture(scope="module")
def model() -> Any:
    """A language model of two of the example's blocks."""
    [code] = [
        code for code in re.findall(r"^```python\n(.*?)^```$", TEXT, flags=re.M | re.S) if "ParallelBlock" in code
    ]
    names: dict[str, Any] = {"__name__": "parallel_block"}
    exec(compile(code, "parallel_block.py", "exec"), names)
    block = lambda key: names["ParallelBlock"](RMSNorm.make(4), GLA.make(4, key=key), GatedMLP.make(4, key=key))
    return LanguageModel.make(tuple(map(block, jr.split(jr.key(0)))), 7, key=jr.key(1), norm=RMSNorm.make(4))


def test_it_is_its_equation(model):
    """y = x + mixer(norm(x)) + mlp(norm(x)), and its state is the mixer's."""
    block, x = model.blocks[0], jr.normal(jr.key(2), (6, 4))
    y, state = block(x)
    normed, _ = block.norm(x)
    mixed, expected = block.mixer(normed)
    close((y, state), (x + mixed + block.mlp(normed)[0], expected))


def test_it_is_a_models_block(model):
    """Steps give the call, a loop over equal blocks too, and the whole model is an exact sum over its tokens."""
    y, final = model(TOKENS)
    state, steps = model.init_state(), []
    for token in TOKENS:
        y_t, state = model.step(token, state)
        steps.append(y_t)
    close((jnp.stack(steps), state), (y, final))
    close(with_depth(model, scanned=True)(TOKENS), (y, final))
    assert dual_form(model, TOKENS).residual < EXACT


@pytest.mark.slow
def test_it_is_looked_into(model):
    """Its mixer has a form, a place and edges of its own."""
    form = model_form(model, TOKENS)
    assert form.residual < EXACT and [layer.name for layer in form.layers] == ["block 1", "block 2"]
    assert form.layers[0].inner.name == "block 1.mixer" and form.layers[0].over == "tokens"
    assert attribute(model, TOKENS, (5, 3), "gradient-weighted").scores.shape == (6,)
    silent = trace(model, TOKENS, {"block 1.mixer.out": lambda y: 0 * y, "block 1.mlp.out": lambda y: 0 * y})
    close(silent.recorded["block 1.out"], model.embed(TOKENS))
    predicted = knock_out(model, TOKENS, "block 2", 1, 4, frozen=True)
    close(predicted.removed, form.layers[1].inner.contributions([4])[0, 1])
    assert jnp.any(predicted.y[4] != predicted.before[4]) and not jnp.any(predicted.y[:4] != predicted.before[:4])
