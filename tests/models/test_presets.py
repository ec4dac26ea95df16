"""Published models have as many parameters as published, and fresh weights as their code draws them."""

from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from dualform import models
from dualform.errors import InputError
from dualform.mixers import Mamba, Mamba2
from dualform.mixers.hgrn import hgrn_lower_bounds
from dualform.models import preset, published


def shapes(name: str) -> Any:
    """The model with shapes for arrays: nothing is allocated."""
    return eqx.filter_eval_shape(lambda: preset(name, key=jr.key(0), dtype=jnp.float32))


@pytest.mark.parametrize("name", published())
def test_parameter_counts_are_as_published(name):
    """As many parameters as the public code counts, exactly."""
    assert shapes(name).parameters() == published()[name].published


def test_counts_by_hand():
    """The counts of six papers' sizes, from their tables of sizes alone."""
    d, n, heads = 2560, 7680, 10
    recurrent = 3 * (d * d + d) + 5 * d + d + 2 * (heads * 256**2 + d)
    attention = 2 * d * d + 2 * 256 * d + d
    mlp = 3 * d * n + 2 * n + d + 2 * d
    assert shapes("recurrentgemma-2b").parameters() == 256_000 * d + d + 26 * mlp + 18 * recurrent + 8 * attention
    d, n = 2048, 5632
    layer = 2 * d * d // 2 + 3 * d * d + 16 * (d + d // 2) + d // 2 + 512 + 3 * d * n + 2 * d
    assert shapes("gla-1.3b").parameters() == 2 * 32_000 * d + d + 24 * layer
    d, inner = 768, 1536
    layer = 2 * d * inner + 5 * inner + 80 * inner + 49 * inner + 17 * inner + inner * d + d
    assert shapes("mamba-130m").parameters() == 50_280 * d + d + 24 * layer
    layer = d * (2 * inner + 2 * 128 + 24) + 5 * (inner + 2 * 128) + 3 * 24 + inner + inner * d + d
    assert shapes("mamba2-130m").parameters() == 50_288 * d + d + 24 * layer
    d, n = 576, 1536
    assert shapes("smollm2-135m").parameters() == 49_152 * d + d + 30 * (2 * d * d + 2 * d * 192 + 3 * d * n + 2 * d)
    d, units = 512, 768
    assert shapes("mingru-enwik8").parameters() == 2 * 256 * d + d + 6 * (3 * d * units + 8 * d * d + 5 * d + 2 * d)


def test_griffin_attends_in_every_third_block():
    """Two recurrent blocks, then local attention of one key-value head, half of whose channels are turned."""
    kinds = [type(block.mixer).__name__ for block in shapes("recurrentgemma-2b").blocks]
    assert kinds == (["GriffinRecurrent"] * 2 + ["SoftmaxAttention"]) * 8 + ["GriffinRecurrent"] * 2
    attention = shapes("recurrentgemma-2b").blocks[2].mixer
    assert (attention.w_q.shape, attention.w_k.shape) == ((10, 256, 2560), (1, 256, 2560))
    assert (attention.window, attention.rotary) == (2049, 128)  # recurrentgemma's 2048, and the present token
    assert shapes("recurrentgemma-2b").scale == 50.5  # sqrt(2560) in bfloat16
    scale = lambda scaled: eqx.filter_eval_shape(lambda: models.griffin(key=jr.key(0), layers=3, scaled=scaled)).scale
    assert (scale(True), scale(False), scale(2560**0.5)) == (50.5, 1.0, 2560**0.5)
    assert {type(block.mixer).__name__ for block in shapes("hawk-7b").blocks} == {"GriffinRecurrent"}


def test_fresh_weights_are_drawn_as_in_the_code():
    """N(0, 0.02^2) for flash-linear-attention's matrices, biases, norms and decays as they were; fan-in if asked."""
    make: Any = lambda std: models.gla(key=jr.key(0), vocabulary=64, d=64, layers=1, heads=2, hidden=96, std=std)
    model, fan_in = eqx.filter_jit(make)(0.02), eqx.filter_jit(make)(None)
    mixer = model.blocks[0].mixer
    for w in (model.embedding, model.head, mixer.w_q, mixer.a_1, mixer.a_2, mixer.w_o, model.blocks[0].mlp.w_down):
        # Five standard deviations of the estimate.
        assert abs(float(jnp.std(w)) / 0.02 - 1) < 5 / np.sqrt(2 * w.size)
    assert not np.asarray(mixer.b).any() and (np.asarray(mixer.norm) == 1).all()
    assert abs(float(jnp.std(fan_in.blocks[0].mlp.w_down)) * 96**0.5 - 1) < 5 / np.sqrt(2 * 64 * 96)


@pytest.mark.slow
def test_griffins_decays_as_in_the_paper_and_in_the_code():
    """sigma(-lam)^8 lies in (0.9, 0.999) as the paper has it, sigma(-lam) itself as the code has it; last matrices shrink."""
    make: Any = lambda decays: models.griffin(key=jr.key(0), vocabulary=8, d=64, layers=2, heads=2, decays=decays)
    for decays, power in (("paper", 8), ("code", 1)):
        model = eqx.filter_jit(make)(decays)
        found = np.asarray(jax.nn.sigmoid(-model.blocks[0].mixer.core.lam)) ** power
        assert 0.9 < found.min() < 0.92 and 0.98 < found.max() < 0.999, decays
        w_o, w_down = model.blocks[0].mixer.w_o, model.blocks[0].mlp.w_down
        # 2 / layers is 1 here; the gates' matrices have it at any depth.
        assert abs(float(jnp.std(w_o)) * 8 - 1) < 0.06 and abs(float(jnp.std(w_down)) * 192**0.5 - 1) < 0.06
        assert not any(np.asarray(block.norm.weight).any() for block in model.blocks)
    with pytest.raises(InputError, match="decays are drawn as in 'code' or as in 'paper'; got 'both'"):
        make("both")


def test_lower_bounds_rise_from_layer_to_layer():
    """HGRN and HGRN2 begin with equal shares: decays of layer l of L are never below (l - 1) / L."""
    for make in (models.hgrn, models.hgrn2):
        model = make(key=jr.key(0), vocabulary=8, d=32, layers=3, hidden=8)
        np.testing.assert_allclose(
            hgrn_lower_bounds(jnp.asarray(model.bounds)), np.outer([0, 1 / 3, 2 / 3], np.ones(32)), rtol=1e-12
        )


@pytest.mark.slow
def test_mambas_last_matrices_shrink_with_depth():
    """Of 4 blocks each w_o is half as large as in a mixer alone; the embedding is N(0, 0.02^2), and there is no head."""
    for make, one in ((models.mamba, Mamba.make), (partial(models.mamba2, heads=2), Mamba2.make)):
        model: Any = make(key=jr.key(0), vocabulary=64, d=32, layers=4)
        alone = jax.vmap(lambda key, one=one: one(32, key=key).w_o)(jr.split(jr.key(1), 4))
        found = jnp.stack([block.mixer.w_o for block in model.blocks])
        assert abs(float(jnp.std(found) / jnp.std(alone)) * 2 - 1) < 0.06
        assert abs(float(jnp.std(model.embedding)) / 0.02 - 1) < 0.06 and model.head is None


def test_unknown_names():
    """A preset that is not there is answered with those that are; so is a cell."""
    with pytest.raises(InputError, match="there is no preset 'gpt-2'; there are gla-340m, gla-1.3b, "):
        preset("gpt-2", key=jr.key(0))
    with pytest.raises(InputError, match="there is no minimal 'rnn'; there are gru and lstm"):
        models.min_rnn(key=jr.key(0), cell="rnn")
