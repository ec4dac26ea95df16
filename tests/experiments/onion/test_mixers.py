"""How other networks store: what is linear, what is an onion, and what a frozen recurrence brings."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from dualform.experiments.onion import measuring, mixers
from dualform.experiments.onion.measuring import one_scale
from dualform.experiments.onion.network import network, remembered
from dualform.tasks import Repeat


def test_places_of_their_own_and_places_that_share():
    """Orthogonal places share nothing, those of one scale for all entries all; an onion is one embedding at scales."""
    random = np.random.default_rng(0)
    turned = np.linalg.qr(random.normal(size=(12, 12)))[0]
    apart = np.einsum("tvb,tbn->tvn", random.normal(size=(4, 40, 3)), turned.reshape(4, 3, 12))
    embedding, scales = random.normal(size=(1, 40, 12)), random.uniform(0.5, 1, (4, 1, 12))
    onion = embedding * scales ** np.arange(4)[:, None, None]
    assert mixers.shared(apart) < 1e-20
    assert mixers.shared(embedding * 0.5 ** np.arange(4)[:, None, None]) == pytest.approx(1.0)
    assert one_scale(onion) == pytest.approx(1.0) and one_scale(apart) < 0.6


def test_what_is_carried_sums_to_the_state():
    """The writes of a GRU, each decayed by the gates behind it, are its state."""
    task = Repeat(time=4, symbols=5, batch=4)
    with jax.enable_x64(False):
        model = network("gru", 6, task, key=jr.key(0))
        symbols = jnp.array([3, 1, 1, 5], jnp.int32)
        h = remembered(model, symbols, jnp.asarray(4, jnp.int32))
        np.testing.assert_allclose(mixers.carried(model, symbols).sum(0), h, atol=1e-6)


def test_every_number_of_every_network():
    """What a network lacks is left out; seeds are told with their range."""
    rows = {"gru": [{"network": 0.5, "state": 6}, {"network": 0.7, "state": 6}], "gla": [{"shared": 0.1, "state": 8}]}
    found = {number.name: number for number in mixers.numbers_of(rows)}
    assert found["gru: repeats it by itself"].ours == pytest.approx(0.6) and len(found) == 2
    assert "2 seeds, 0.500 to 0.700; 6 numbers" in found["gru: repeats it by itself"].rule


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gru autonomous", "gla"])
def test_a_job_from_end_to_end(name, tmp_path, monkeypatch):
    """All that is measured of a small network of one layer, and of one of blocks."""
    told = {"network": name, "width": 8, "seed": 0, "batch": 8, "steps": {"network": 3, "probe": 3}}
    for module, constant, value in ((mixers, "HELD", 64), (mixers, "SEEN", 512), (measuring, "POOL", 512)):
        monkeypatch.setattr(module, constant, value)
    with jax.enable_x64(False):
        found = mixers.job(told, tmp_path)
    wanted = set(mixers.WORDS) - (set() if name == "gru autonomous" else {"frozen"})
    assert wanted | {"state"} == set(found) and all(np.isfinite(value) for value in found.values())
