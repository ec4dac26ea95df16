"""What survives is what the states hold, at every token; and facts about it are counts."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from dualform import dual_form, models
from dualform.errors import InputError
from dualform.generation import Survivors, bounded, by_kind, survivors, token_kinds
from dualform.generation.multi_state import DENSE
from tests.generation.test_multi_state import MODEL, STATES, TIME, TOKENS, X, history, of
from tests.laws import laws
from tests.tiers import tiers


@pytest.mark.parametrize("name", tiers(["tova", "h2o", "window+2"], "tova", "h2o"))
def test_survivors_are_the_positions_of_the_steps(name):
    """After every token, in every layer and head, what is kept is what the state of a step of the whole model holds."""
    small = bounded(MODEL, name, STATES)
    found = survivors(small, TOKENS)
    assert found.layers == ("block 1", "block 2") and found.states == (STATES, STATES)
    step, state = eqx.filter_jit(lambda token, state: small.step(token, state)), small.init_state()
    for t, token in enumerate(TOKENS):
        _, state = step(token, state)
        kept, own = np.asarray(found.kept(t)), np.asarray(found.history(1)[:, t])
        for layer in (0, 1):
            for head in (0, 1):
                places = np.asarray(state[layer].positions[head])
                assert set(np.flatnonzero(kept[layer, head])) == set(places[places >= 0].tolist()), (t, layer, head)
        np.testing.assert_array_equal(own, kept[1])
    np.testing.assert_array_equal(found.share, np.asarray(found.kept()).mean((0, 1), dtype=np.float32))
    assert int(found.kept().sum()) == 2 * 2 * STATES


def test_lifetimes_of_a_window():
    """In a window of k states with 2 first tokens each other token lives for k - 2 tokens, the newest ones so far."""
    found = survivors(bounded(MODEL, "window+2", STATES), TOKENS)
    expected = np.minimum(STATES - 2, TIME - np.arange(TIME))
    expected[:2] = TIME - np.arange(2)
    assert (np.asarray(found.lifetimes) == expected).all()
    dropped = np.where(np.arange(TIME) < 2, TIME, np.minimum(np.arange(TIME) + STATES - 2, TIME))
    assert (np.asarray(found.dropped) == dropped).all()


def test_it_is_compiled_and_vmapped():
    """Under jit and vmap it gives the same."""
    small = bounded(MODEL, "tova", STATES)
    both = jnp.stack([TOKENS, TOKENS[::-1]])
    found = eqx.filter_jit(eqx.filter_vmap(lambda tokens: survivors(small, tokens)))(both)
    np.testing.assert_array_equal(found.dropped[0], survivors(small, TOKENS).dropped)


@pytest.mark.parametrize("name, rerotate", [("tova", False), ("h2o", True)])
def test_the_maps_are_the_weights_and_hold_for_what_is_dropped(name, rerotate):
    """The closed-form maps of bounded attention read the values that there are, and are 0 where a token was dropped."""
    mixer = of(name, rerotate=rerotate)
    found = eqx.filter_jit(lambda x: (laws.attention(mixer, x).weights(), laws.attention(mixer, x).carried(x)))(X)
    weights, v = map(np.asarray, found)
    y = np.einsum("hts,shv->thv", weights, v).reshape(TIME, -1) @ np.asarray(mixer.attention.w_o).T
    laws.check_close(y, history(name, rerotate)[0], laws.EXACT, "outputs")
    positions = np.asarray(history(name, rerotate)[1].positions)
    for t in range(1, TIME):
        for h in range(4):
            assert set(np.flatnonzero(weights[h, t])) <= {t, *positions[t - 1, h // 2].tolist()}
    np.testing.assert_allclose(weights.sum(2), 1)


def test_a_frozen_map_goes_on_from_a_state():
    """With a state, a document that begins and a token that is not there, the frozen map gives the outputs and the state."""
    mixer, start, mask = of("tova"), jnp.arange(TIME) == 9, jnp.arange(TIME) != 14
    _, state = eqx.filter_jit(mixer)(X[::-1])
    x = jnp.where(mask[:, None], X, 0)
    y, after = mixer(x, state, start=start, mask=mask)
    found, left = jax.jit(lambda x: laws.attention(mixer, x, state, start, mask).run(x))(x)
    laws.check_close(found[mask], y[mask], laws.EXACT, "outputs")
    laws.check_close(left, after, laws.EXACT, "the state")
    assert dual_form(mixer, X, state, start=start, mask=mask).residual < 1e-10
    assert DENSE >= TIME


def test_a_long_call_needs_no_dense_map(monkeypatch):
    """Beyond `DENSE` tokens the frozen map is a loop, with the same outputs and state."""
    mixer = of("h2o")
    mix = lambda x: laws.attention(mixer, x).run(x)
    dense = jax.jit(mix)(X)
    monkeypatch.setattr("dualform.generation.multi_state.DENSE", TIME - 1)
    laws.check_close(jax.jit(lambda x: mix(x))(X), dense, laws.EXACT, "outputs and state")


def test_kinds_of_tokens():
    """The first token, line ends, spaces, punctuation, digits, function words, parts of words and other words."""
    texts = ("In", " the", "\n", " ", " year", " 18", "93", ",", " Nan", "tuck", "et", "'s", " ship", "", " The")
    assert token_kinds(texts) == (
        *("first token", "function word", "line end", "space", "other word", "digits", "digits", "punctuation"),
        *("part of a word", "part of a word", "part of a word", "other word", "other word", "space", "function word"),
    )
    assert token_kinds(()) == ()


def test_what_becomes_of_each_kind():
    """Shares and lives by kind are means over layers, heads and tokens, and a window keeps nothing for k more tokens."""
    dropped = jnp.array([[[6, 2, 6, 3, 6, 6]], [[6, 6, 3, 3, 6, 5]]], jnp.int32)
    rows = by_kind(Survivors(dropped, ("a", "b"), (3, 2)), ("A", ",", ",", " b", " b", " b"))
    assert [row[:3] for row in rows] == [
        ("first token", 1, 1.0),
        ("punctuation", 2, 0.5),
        ("other word", 3, 0.5),
        ("all", 6, 7 / 12),
    ]
    first, punctuation, word, _ = rows
    assert first.later == 1 and first.life == 6 and punctuation.life == (1 + 4 + 5 + 1) / 4
    # Followed by 3 more: tokens 1 and 2 of the first layer; by 2 more: 1, 2 and 3 of the second.
    assert punctuation.later == (0 + 1 + 1 + 0) / 4 and word.later == 0
    window = by_kind(survivors(bounded(MODEL, "window", STATES), TOKENS), "abcdefghijklmnopqrstuvw")
    assert window[-1].later == 0 and window[-1].kept == pytest.approx(STATES / TIME)
    assert np.isnan(by_kind(Survivors(dropped, ("a", "b"), (9, 9)), tuple("abcdef"))[0].later)


BAD = {
    "not bounded": (lambda: survivors(MODEL, TOKENS), "this model is not bounded, and drops nothing. Bound it"),
    "recurrent": (
        lambda: survivors(models.mamba(key=jr.key(0), vocabulary=5, d=4, layers=1), TOKENS),
        "this model is not bounded",
    ),
    "nothing": (lambda: survivors(bounded(MODEL, "tova", 4), TOKENS[:0]), "there is no token to read"),
    "vocabulary": (lambda: survivors(bounded(MODEL, "tova", 4), TOKENS + 11), "token 0 is [0-9]+; this vocabulary"),
    "place": (
        lambda: survivors(bounded(MODEL, "tova", STATES), TOKENS).kept(TIME),
        f"there is no token {TIME}; there are",
    ),
    "texts": (
        lambda: by_kind(survivors(bounded(MODEL, "tova", STATES), TOKENS), ("a",)),
        f"there are 1 texts and {TIME} tokens; each token needs one",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_mistakes_get_a_sentence(unchecked, case):
    """What cannot be looked at is told in a sentence."""
    make, message = BAD[case]
    with pytest.raises(InputError, match=message):
        make()
