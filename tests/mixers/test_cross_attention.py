"""Cross-attention: what frames read of a text, where they read it, and what is kept of it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dualform import dual_form
from dualform.errors import InputError
from dualform.mixers import CausalConvolution, CrossAttention, PositionAwareCrossAttention, registry
from dualform.segments import Segments
from tests.laws import laws
from tests.tiers import tiers

NAMES = ("cross_attention", "position_aware_cross_attention")
QUICK = tiers(NAMES, "position_aware_cross_attention")


def spoken(text: int, frames: int, d: int = laws.D, seed: int = 0):
    """A text, then frames, (text + frames, d)."""
    x = laws.sequence(seed, text + frames, d)
    return x.at[:, -1].set((jnp.arange(text + frames) >= text).astype(float))


@pytest.mark.parametrize("name", QUICK)
def test_the_map_is_decoder_time_by_place_in_the_text(name):
    """Each frame's row is a distribution over the text, all else is 0, and both sums are certified."""
    form = dual_form(laws.make(name), spoken(5, 7))
    rows = np.asarray(form.weights[0])
    np.testing.assert_allclose(rows[5:, :5].sum(axis=1), 1.0, rtol=1e-12)
    assert (rows[5:, :5] > 0).all() and not rows[:5].any() and not rows[:, 5:].any()
    assert not np.asarray(form.y)[:5].any() and form.over == "tokens"
    assert max(form.residual, form.map_residual) <= laws.EXACT


def looks_up(recurrence) -> PositionAwareCrossAttention:
    """Frames look for the text's tokens by a one-hot key; tokens are (key of 4 channels, value, frame?)."""
    key, value = 60 * jnp.eye(4, 6)[None], jnp.eye(6)[4][None, None]
    return PositionAwareCrossAttention(
        w_q=key, w_k=jnp.eye(4, 6)[None], w_v=value, w_o=jnp.ones((1, 1)), recurrence=recurrence, base=3.0
    )


def test_the_recurrence_says_where_to_read():
    """A frame reads where the recurrence points: with one that waits by a frame, what the last one looked for."""
    text = jnp.concatenate([jnp.eye(4), jnp.array([[10.0], [20], [30], [40]]), jnp.zeros((4, 1))], axis=1)
    asked = jnp.array([2, 0, 3, 1, 1])
    frames = jnp.concatenate([jnp.eye(4)[asked], jnp.zeros((5, 1)), jnp.ones((5, 1))], axis=1)
    now, late = (CausalConvolution(jnp.zeros((2, 4)).at[row].set(200.0), jnp.zeros(4)) for row in (1, 0))
    x = jnp.concatenate([text, frames])
    read = lambda recurrence: jax.device_get(looks_up(recurrence)(x)[0][4:, 0])
    np.testing.assert_allclose(read(now), [30, 10, 40, 20, 20], rtol=1e-9)
    np.testing.assert_allclose(read(late)[1:], [30, 10, 40, 20], rtol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("recurrence", ["gla", "lstm", "mamba", "gsa"])
def test_any_mixer_is_the_recurrence(recurrence):
    """Steps give the parallel form, and the recurrence has its own certified map over the frames, the text passed over."""
    mixer = PositionAwareCrossAttention.make(4, key=laws.jr.key(1), recurrence=recurrence)
    x = spoken(4, 6)
    laws.steps_give_the_parallel_form(mixer, x, split=6)
    p, frames = mixer.positions_read(x)
    of_time = dual_form(mixer.recurrence, p, mask=frames)
    assert of_time.residual <= laws.EXACT and not np.asarray(of_time.contributions)[:, :4].any()
    y, _ = mixer.recurrence(p[4:])
    laws.check_close(of_time.y[4:], y, laws.EXACT, "the frames alone")


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_document_without_text_reads_nothing(name):
    """Where a document begins, at a frame or at a token of the text, all text before is forgotten, in this call and the next."""
    mixer, x = laws.make(name), jnp.concatenate([spoken(3, 3), spoken(0, 2, seed=1), spoken(2, 0, seed=2)])
    start = (jnp.arange(10) == 6) | (jnp.arange(10) == 8)
    y, state = mixer(x, start=start)
    assert np.asarray(y)[3:6].any() and not np.asarray(y)[6:].any()
    frames = spoken(0, 4, seed=3)
    found, _ = mixer(frames, state)
    expected, _ = mixer(jnp.concatenate([x[8:], frames]))
    laws.check_close(found, expected[2:], laws.EXACT, "the last document goes on")


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_window_keeps_the_last_of_the_text(name):
    """Of a text of 6 with a window of 4 the last four are read; a state of 4 places of a window of 64 gives NaN instead."""
    mixer, x = registry()[name](4, key=laws.jr.key(0), window=4), spoken(6, 2)
    weights = np.asarray(dual_form(mixer, x).weights)[0, 6:, :6]
    assert not weights[:, :2].any() and (weights[:, 2:] > 0).all()
    wide = laws.make(name)
    few = jax.tree_util.tree_map(
        lambda part: part.of_places(4) if hasattr(part, "of_places") else part,
        wide.init_state(),
        is_leaf=lambda part: hasattr(part, "of_places"),
    )
    assert np.isnan(np.asarray(wide(x, few)[0])[6:]).all()
    assert np.isfinite(np.asarray(wide(x[2:], few)[0])).all()


def test_documents_among_some_tokens():
    """A document begins at the first of these tokens in it, and one that has none of them leaves nothing to remember."""
    flags = lambda text: jnp.array([c == "1" for c in text])
    found, ended = Segments(flags("0100100"), flags("1111101")).among(flags("1001110"))
    laws.check_same_bits((found.start, found.mask), (flags("0001100"), flags("1001100")), "documents")
    assert not ended
    assert Segments(flags("0000001")).among(flags("1001110"))[1]
    assert Segments().among(flags("10"))[1] is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 0}, "window is 0; a frame reads a text of at least one token"),
        ({"recurrence": "transformer"}, "there is no mixer 'transformer' to be the recurrence; there are "),
        (
            {"position_width": 3},
            "the recurrence is of width 3 in and 3 out; it must be of one, a position of an even width",
        ),
        ({"position_width": 0}, "position_width is 0; a position is made of pairs of sinusoids"),
    ],
)
def test_bad_options(unchecked, options, message):
    """Each option that does not fit is named."""
    recurrence = {"recurrence": "lstm"} if "recurrence" not in options else {}
    with pytest.raises(InputError, match=message):
        PositionAwareCrossAttention.make(4, key=laws.jr.key(0), **recurrence | options)
    with pytest.raises(InputError, match="base is 1; it must be above 1"):
        good = laws.make("position_aware_cross_attention")
        fields = {name: getattr(good, name) for name in ("w_q", "w_k", "w_v", "w_o", "recurrence")}
        PositionAwareCrossAttention(**fields, base=1)
    with pytest.raises(InputError, match="window is 0"):
        CrossAttention.make(4, key=laws.jr.key(0), window=0)
