"""Bounded attention drops what its policy's definition says, at every token, and keeps every law of a mixer."""

import dataclasses
import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from dualform import dual_form, models
from dualform.errors import InputError
from dualform.generation import Policy, bounded, generate, policy, read_prompt, register
from dualform.generation.multi_state import MultiState, MultiStateAttention, PromptAttention
from dualform.generation.policy_table import _POLICIES, Seen, dropped_first, newest_kept
from dualform.mixers import SoftmaxAttention
from tests.generation.reference import attended, rules
from tests.laws import laws
from tests.tiers import tiers

D, TIME, STATES = 8, 23, 6
ATTENTION = dataclasses.replace(
    SoftmaxAttention.make(D, key=jr.key(1), heads=4, kv_heads=2, window=64),
    w_q=6 * jr.normal(jr.key(2), (4, 2, D)),  # so sharp that every policy has something to choose
)
X = jr.normal(jr.key(3), (TIME, D)) / D**0.5


def of(name, states=STATES, **options):
    return MultiStateAttention(ATTENTION, policy(name), states, **options)


@functools.cache
def history(name, rerotate=False):
    """Outputs, and the states after each token, one token after the other."""
    mixer = of(name, rerotate=rerotate)

    def step(state, x):
        y, state = mixer.step(x, state)
        return state, (y, state)

    return jax.jit(lambda x: jax.lax.scan(step, mixer.init_state(), x)[1])(X)


@pytest.mark.parametrize("rerotate", tiers([False, True], True))
@pytest.mark.parametrize("name", rules(STATES))
def test_each_policy_drops_what_its_definition_says(name, rerotate):
    """At every token and head the kept places, and the outputs, are those of the definition, written out in NumPy."""
    y, states = history(name, rerotate)
    expected, kept = attended(ATTENTION, X, STATES, rules(STATES)[name], rerotate)
    for t, heads in enumerate(kept):
        for h, places in enumerate(heads):
            found = np.asarray(states.positions[t, h])
            assert set(found[found >= 0].tolist()) == places, (t, h)
    laws.check_close(y, expected, laws.EXACT, "outputs")


@pytest.mark.parametrize("name", tiers(["full", "window+2", "tova", "h2o", "snapkv"], "full", "tova", "snapkv"))
def test_a_call_is_its_steps(name):
    """Whole, in parts and token by token, with a document that begins and a token that is not there: all the same."""
    mixer = of(name, states=30 if name == "full" else STATES)
    start, mask = jnp.arange(TIME) == 9, jnp.arange(TIME) != 14
    call = jax.jit(lambda x, state, start, mask: mixer(x, state, start=start, mask=mask))
    y, state = call(X, mixer.init_state(), start, mask)

    def step(state, inputs):
        y, state = mixer.step(inputs[0], state, start=inputs[1], mask=inputs[2])
        return state, y

    one, steps = jax.jit(lambda *inputs: jax.lax.scan(step, mixer.init_state(), inputs))(X, start, mask)
    laws.check_close(y, steps, laws.EXACT, "outputs")
    assert all(places(state, h) == places(one, h) for h in (0, 1))
    later, state = jnp.arange(TIME) >= 11, mixer.init_state()
    first, state = call(X, state, start, mask & ~later)
    second, _ = call(X, state, start & later, mask & later)
    laws.check_close(first + second, y, laws.EXACT, "in parts")
    other = call(X.at[:9].set(0.0), mixer.init_state(), start, mask)[0]
    laws.check_close(other[9:], y[9:], laws.EXACT, "the second document")


def places(state: MultiState, head: int) -> list[int]:
    return sorted(np.asarray(state.positions[head]).tolist())


@pytest.mark.parametrize(
    ("name", "rerotate"),
    tiers([("full", False), ("tova", False), ("h2o", True), ("window+2", True)], ("tova", False), ("window+2", True)),
)
def test_without_a_drop_it_is_attention(name, rerotate):
    """While all tokens have a place, every policy gives the attention itself, by places and by ranks, at once or not."""
    expected, mixer = ATTENTION(X)[0], of(name, states=TIME, rerotate=rerotate)
    laws.check_close(eqx.filter_jit(mixer)(X)[0], expected, laws.EXACT, "outputs")
    laws.check_close(eqx.filter_jit(PromptAttention(mixer))(X)[0], expected, laws.EXACT, "at once")


def test_window_is_the_attention_of_that_window():
    """k states and the token itself are a window of k + 1."""
    laws.check_close(of("window")(X)[0], dataclasses.replace(ATTENTION, window=STATES + 1)(X)[0], laws.EXACT, "outputs")


def test_the_attentions_own_window_is_kept():
    """Local attention stays local, whatever is kept."""
    local = dataclasses.replace(ATTENTION, window=4)
    for name in ("full", "tova"):
        mixer = MultiStateAttention(local, policy(name), TIME)
        laws.check_close(eqx.filter_jit(mixer)(X)[0], local(X)[0], laws.EXACT, name)
    laws.check_close(eqx.filter_jit(PromptAttention(mixer))(X)[0], local(X)[0], laws.EXACT, "at once")


def test_full_has_no_place_left():
    """Where `full` would have to drop a token, all that follows is NaN, in a call, in steps and at once."""
    y, _ = of("full")(X)
    steps, _ = history("full")
    for found in (y, steps):
        assert np.isfinite(np.asarray(found[: STATES + 1])).all() and np.isnan(np.asarray(found[STATES + 1 :])).all()
    assert np.isnan(np.asarray(PromptAttention(of("full"))(X)[0])).all()


def test_memory_is_as_small_as_the_bound():
    """The state is arrays of k states, not a mask over all."""
    state = of("tova").init_state()
    assert state.keys.shape == (2, STATES, 2) and state.values.shape == (2, STATES, 2)
    assert sum(leaf.size for leaf in jax.tree.leaves(state)) == 2 * STATES * (2 + 2 + 1 + 1) + 1


@pytest.mark.parametrize("name", ["tova", "window+2"])
def test_contributions_sum_to_the_output(name):
    """The dual form of bounded attention is exact: what was dropped contributes nothing any more."""
    form = dual_form(of(name), X)
    assert form.residual < 1e-10
    assert np.abs(np.asarray(form.contributions)[-1]).sum(-1).astype(bool).sum() <= 2 * STATES + 1


def at_once(name, states=STATES):
    """The state after a prompt that is read at once."""
    return eqx.filter_jit(PromptAttention(of(name, states)))(X)[1]


def whole_weights():
    """The softmax weights of the whole prompt, (kv_head, group, time, time)."""
    weights = laws.attention(ATTENTION, X).weights()
    return np.asarray(weights).reshape(2, 2, TIME, TIME)


def test_a_prompt_at_once_is_one_choice():
    """TOVA keeps the k tokens that the last query looks at most; H2O the newest half and the largest column sums."""
    weights = whole_weights()
    best = lambda scores, count: sorted(np.argsort(-scores)[:count].tolist())
    for h in (0, 1):
        assert places(at_once("tova"), h) == best(weights[:, :, -1].mean((0, 1)), STATES)
        assert places(at_once("tova-head"), h) == best(weights[h, :, -1].mean(0), STATES)
        heavy = best(weights[h].sum((0, 1))[:-3], 3)
        assert places(at_once("h2o"), h) == [*heavy, *range(TIME - 3, TIME)]
        sums = weights[h].sum((0, 1))  # fewer than 32 queries
        voted = np.array([sums[max(t - 3, 0) : t + 4].max() for t in range(TIME)])[:-3]
        snap = places(at_once("snapkv"), h)
        least = min(voted[t] for t in snap if t < TIME - 3)
        assert set(range(TIME - 3, TIME)) <= set(snap)
        assert sum(voted > least) < 3
        assert places(at_once("window+2"), h) == [0, 1, *range(TIME - 4, TIME)]
    np.testing.assert_allclose(
        np.take_along_axis(weights.sum((1, 2)), np.asarray(at_once("h2o").positions), 1), at_once("h2o").scores
    )


@pytest.mark.parametrize("states", tiers([1, 2, 5, 6, 7], 1, 5, 6))
@pytest.mark.parametrize("name", ["h2o", "h2o-layer"])
def test_half_of_h2o_is_rounded_up(name, states):
    """The newest half of an odd number of states is the larger one, though every older token has had more attention."""
    positions = jnp.broadcast_to(jnp.arange(states + 1), (2, states + 1))
    older_first = jnp.broadcast_to(jnp.arange(states + 1, 0, -1.0), (2, states + 1))
    seen = Seen(jnp.zeros((2, 1, states + 1)), older_first, positions, jnp.array(states), states, False)
    priority, _ = policy(name).step(seen)
    safe = np.flatnonzero(np.isinf(np.asarray(priority[0]))).tolist()
    assert safe == list(range(states + 1 - (states + 1) // 2, states + 1))
    # The first that is dropped is the newest of the others: of older tokens each has had more attention.
    assert dropped_first(priority, positions).tolist() == 2 * [safe[0] - 1]


def test_published_versions_differ():
    """At once and token by token, per layer and per head, with the newest kept or not: each is another policy."""
    ends = {name: places(jax.tree.map(lambda a: a[-1], history(name)[1]), 0) for name in rules(STATES)}
    assert ends["tova"] != places(at_once("tova"), 0)
    assert ends["tova"] != ends["tova-head"] and ends["h2o"] != ends["h2o-layer"]
    newest = [t in np.asarray(history("tova")[1].positions[t, 0]) for t in range(TIME)]
    assert not all(newest), "TOVA may drop the newest token at once"
    assert all(t in np.asarray(history("tova-newest")[1].positions[t, 0]) for t in range(TIME))
    kept, turned = history("window")[0], history("window", True)[0]
    laws.check_close(kept, turned, laws.EXACT, "a window without gaps: distances are the same by places and by ranks")
    gap = np.abs(np.asarray(history("window+2")[0] - history("window+2", True)[0]))
    assert gap[: STATES + 1].max() < 1e-10 < 1e-3 < gap[STATES + 1 :].max()


def test_random_and_snapkv_keep_what_they_promise():
    """Random keeps k different tokens, the same for all heads; SnapKV the newest three and others."""
    states = history("random")[1]
    last = np.asarray(states.positions[-1])
    assert (last[0] == last[1]).all() and len(set(last[0].tolist())) == STATES and last.min() >= 0
    assert sorted(last[0].tolist()) != list(range(TIME - STATES, TIME))
    for t in range(STATES, TIME):
        assert {t - 2, t - 1, t} <= set(np.asarray(history("snapkv")[1].positions[t, 0]).tolist())


def test_ties_go_to_the_oldest():
    """Of equal priorities the oldest token's is dropped, an empty place before all."""
    assert dropped_first(jnp.ones((1, 3)), jnp.array([[5, 2, 9]], jnp.int32)).tolist() == [1]
    assert dropped_first(jnp.ones((1, 3)), jnp.array([[5, -1, 9]], jnp.int32)).tolist() == [1]
    assert dropped_first(jnp.array([[3.0, 4.0, 1.0]]), jnp.array([[0, 1, 2]], jnp.int32)).tolist() == [2]


def test_a_policy_of_ones_own():
    """A user's policy is a function and a name: here, every second token and the newest one."""

    def even(seen: Seen):
        priority = jnp.where(seen.positions % 2 == 0, 1.0, 0.0).astype(seen.scores.dtype)
        return newest_kept(priority, seen), seen.scores

    try:
        register(Policy("even", even))
        _, state = of("even")(X)
        assert [t for t in places(state, 1) if t % 2] == [] and TIME - 1 in places(state, 0)
        with pytest.raises(InputError, match="there is a policy 'even' already. Call yours otherwise"):
            register(Policy("even", even))
    finally:
        _POLICIES.pop("even")


SIZES: Any = {"vocabulary": 11, "d": 8, "layers": 2, "heads": 4, "kv_heads": 2, "hidden": 12, "context": 64}
MODEL = models.llama(key=jr.key(0), **SIZES)
MODEL = jax.tree.map(lambda a: 20 * a if a.ndim > 1 else a, MODEL)
TOKENS = jr.randint(jr.key(4), (TIME,), 0, 11)


def test_a_bounded_model_is_a_recurrent_model():
    """It is called, stepped, generated from and vmapped as any other; with places for all it is the model itself."""
    whole = bounded(MODEL, "tova", 64)
    laws.check_close(whole(TOKENS)[0], MODEL(TOKENS)[0], laws.EXACT, "logits")
    small = bounded(MODEL, "tova", 4)
    found, state = generate(small, TOKENS[:9], 6, temperature=0)
    logits, _ = small(jnp.concatenate([TOKENS[:9], found.astype(TOKENS.dtype)]))
    np.testing.assert_array_equal(found, jnp.argmax(logits[8:-1], axis=1))
    assert state[1].keys.shape == (2, 4, 2)
    both = jax.vmap(lambda x: small(x)[0])(jnp.stack([TOKENS, TOKENS[::-1]]))
    laws.check_close(both[0], small(TOKENS)[0], laws.EXACT, "a batch")


def test_a_prompt_is_read_at_once():
    """Its logits are the unbounded model's; what follows is read from the states that are left."""
    small = bounded(MODEL, "h2o", 4)
    logits, state = eqx.filter_jit(read_prompt)(small, TOKENS)
    laws.check_close(logits, MODEL(TOKENS)[0][-1], laws.EXACT, "logits")
    assert int(state[0].place) == TIME and (np.asarray(state[1].positions) >= 0).all()
    following, _ = small.step(TOKENS[0], state)
    assert np.isfinite(np.asarray(following)).all()


BAD = {
    "no states": (lambda: bounded(MODEL, "tova", 0), "states is 0; at least 1 key and value must be kept"),
    "name": (lambda: policy("best"), r"there is no policy 'best'; there are full, window, tova, .* and window\+i"),
    "no number": (lambda: policy("window+x"), r"there is no policy 'window\+x'"),
    "sinks": (lambda: bounded(MODEL, "window+4", 4), "keeps the first 4 tokens; 4 states leave no place for others"),
    "recurrent": (
        lambda: bounded(models.mamba(key=jr.key(0), vocabulary=5, d=4, layers=1), "tova", 4),
        "no layer of softmax attention: its memory is bounded as it is",
    ),
    "unbounded": (lambda: read_prompt(MODEL, TOKENS), "this model is not bounded; read the prompt by calling it"),
    "packed": (
        lambda: PromptAttention(of("tova"))(X, start=jnp.arange(TIME) == 3),
        "a prompt that is read at once is one document, every token of it there",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_bounds(unchecked, case):
    """What cannot be bounded is told in a sentence."""
    make, message = BAD[case]
    with pytest.raises(InputError, match=message):
        make()


@pytest.mark.parametrize("name", ["full", "window", "window+2", "tova"])
def test_where_no_token_is_all_stays(name):
    """A call whose every token is absent leaves the state as it is, to the bit: no key changes its place."""
    mixer, size = of(name, 32 if name == "full" else STATES), 9
    for read in (3, TIME):
        _, state = mixer(X[:read])
        y, after = mixer(X[:size], state, mask=jnp.zeros(size, bool))
        laws.check_same_bits(after, state, f"after {read} tokens")
        assert not y.any()
