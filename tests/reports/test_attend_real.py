"""What a real transformer attends to and keeps: SmolLM2, where it is in the user's cache."""

import jax
import numpy as np
import pytest

from dualform import checkpoints
from dualform.checkpoints.cache import is_there
from dualform.checkpoints.catalogue import known
from dualform.reports.attend import Bound, attend, write_view

TEXT = "The capital of France is Paris, and the capital of Spain is Madrid. The capital of Italy is"


@pytest.mark.slow
def test_smollm2_as_it_is_and_bounded(tmp_path):
    """Sums hold to float32's rounding for the whole and in each of 30 layers, all tokens kept or few; first tokens survive."""
    if not is_there(known("smollm2")):
        pytest.skip("smollm2 is not in the cache; `dualform models get smollm2` brings it")
    with jax.enable_x64(False):
        loaded = checkpoints.load("smollm2")
        views = {states: attend(loaded, TEXT, bound=states and Bound("tova", states)) for states in (None, 8)}
    maps = {}
    for states, view in views.items():
        assert len(view.layers) == 31 and view.layers[30].name == "block 30"
        assert max(view.residual, *(layer.residual for layer in view.layers)) < 1e-5
        maps[states] = np.stack([layer.maps[1:] for layer in view.layers[1:]])
        np.testing.assert_allclose(maps[states].sum(-1), 1, atol=1e-5)
    kept, time = views[8].kept, len(views[8].tokens)
    assert kept is not None and kept.dropped.shape == (30, 3, time) and time > 16
    assert ((kept.dropped == time).sum(2) == 8).all()
    # The first token draws attention in nearly every layer, and so survives in most.
    assert (kept.dropped[:, :, 0] == time).mean() > 0.7
    # What was dropped before a token is read has no weight in it.
    dropped = np.repeat(kept.dropped, 3, axis=1)[:, :, None] < np.arange(time)[None, None, :, None]
    assert not maps[8][dropped].any() and maps[None][dropped].any()
    assert write_view(views[8], tmp_path / "page.html").stat().st_size < 3e6
