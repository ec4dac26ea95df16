"""Language models keep the mixers' laws on tokens, and say which token or width does not fit."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from dualform.errors import InputError
from dualform.mixers import GRU, registry
from dualform.mixers.hgrn import hgrn_lower_bounds
from dualform.models import Bidirectional, Block, LanguageModel, LayerNorm, RMSNorm
from dualform.models.language_model import checked_tokens, embedded
from tests.laws import laws
from tests.models.families import FAMILIES, VOCABULARY, D, block, language_model, tokens
from tests.tiers import tiers

START, MASK = np.array([0, 0, 1, 0, 1, 0], bool), np.array([0, 1, 1, 0, 1, 1], bool)
X = tokens(0)
MODEL = language_model(*FAMILIES)


def some_state(model=MODEL):
    """What another sequence has left."""
    return laws.call(model, tokens(1))[1]


def test_a_model_is_its_parts_in_turn():
    """Embedding, blocks, norm and head, one after the other; the states are the blocks' own."""
    model = language_model(*FAMILIES, scale=3.0, softcap=2.0, embedding_norm=LayerNorm.make(D))
    x, finals = model.embedding_norm(3.0 * model.embedding[X])[0], []
    for each in model.blocks:
        x, final = laws.call(each, x)
        finals.append(final)
    assert model.norm is not None and model.head is not None
    expected = 2 * jnp.tanh(model.norm(x)[0] @ model.head.T / 2)
    laws.check_close(laws.call(model, X), (expected, tuple(finals)), laws.ROUNDING, "the model")


def test_a_tied_head_is_the_embedding():
    """Without a head, logits are products with the embedding, which then has both gradients; without a norm, none."""
    model = language_model("hgrn", tied=True)
    untied: Any = LanguageModel(model.embedding, model.blocks, model.norm, model.embedding)
    laws.check_close(laws.call(model, X), laws.call(untied, X), laws.ROUNDING, "tied")
    assert model.head is None and untied.parameters() == model.parameters() + VOCABULARY * D
    loss = lambda model: jnp.sum(model(X)[0] ** 2)
    tied, both = (eqx.filter_jit(eqx.filter_grad(loss))(each) for each in (model, untied))
    laws.check_close(tied.embedding, both.embedding + both.head, laws.EXACT, "the gradient of a tied embedding")
    bare: Any = LanguageModel(model.embedding, model.blocks)
    laws.check_close(laws.call(bare, X)[0], bare.read(X)[0] @ bare.embedding.T, laws.EXACT, "without a norm")


@pytest.mark.parametrize("flags", [(None, None), (START, MASK)], ids=["plain", "flags"])
def test_steps_give_the_parallel_form(flags):
    """The step loop gives the parallel form, from any state, with packed documents and absent tokens."""
    y, final = laws.call(MODEL, X, some_state(), *flags)
    laws.check_close(laws.step_by_step(MODEL, X, some_state(), *flags), (np.asarray(y), final), laws.EXACT, "steps")


def test_a_state_is_carried_over_any_split():
    """Two calls, the second from the first's state, give what one call gives."""
    y, final = laws.call(MODEL, X)
    for split in (1, 4):
        before, carried = laws.call(MODEL, X[:split])
        after, last = laws.call(MODEL, X[split:], carried)
        laws.check_close((jnp.concatenate([before, after]), last), (y, final), laws.EXACT, f"a split after {split}")


def test_packed_documents_are_separate_ones():
    """Documents packed by `start` have the logits and the last state that they have alone."""
    y, final = laws.call(MODEL, X, some_state(), START)
    (first, _), (second, _), (third, last) = (
        laws.call(MODEL, X[:2], some_state()),
        laws.call(MODEL, X[2:4]),
        laws.call(MODEL, X[4:]),
    )
    laws.check_close((y, final), (jnp.concatenate([first, second, third]), last), laws.EXACT, "packed")


@pytest.mark.parametrize("where", ["left", "right", "between"])
def test_padding_changes_nothing(where):
    """Logits and state are those of the tokens that are there; padding may be any number, and its logits are 0."""
    mask = {"left": [0, 0, 1, 1, 1, 1], "right": [1, 1, 1, 1, 0, 0], "between": MASK}[where]
    mask = np.array(mask, bool)
    y, final = laws.call(MODEL, jnp.where(mask, X, -1), some_state(), None, mask)
    alone = laws.call(MODEL, X[mask], some_state())
    laws.check_close((y[mask], final), alone, laws.EXACT, where)
    assert not np.asarray(y)[~mask].any()


def test_nothing_comes_from_the_future():
    """Another token changes the logits from its place on, and none before it."""
    y, other = laws.call(MODEL, X)[0], laws.call(MODEL, X.at[3].set((X[3] + 1) % VOCABULARY))[0]
    laws.check_close(other[:3], y[:3], laws.ROUNDING, "before the change")
    assert bool(jnp.all(jnp.any(other[3:] != y[3:], axis=1)))


def test_batching_is_a_loop():
    """vmap over sequences gives what a loop gives."""
    batch = jnp.stack([tokens(i) for i in range(3)])
    found = eqx.filter_jit(jax.vmap(lambda x: MODEL(x)))(batch)
    alone = [laws.call(MODEL, x) for x in batch]
    laws.check_close(found, jax.tree_util.tree_map(lambda *a: jnp.stack(a), *alone), laws.EXACT, "vmap")


def test_logits_are_wide():
    """In bfloat16 logits and states are float32, and near float64's."""
    model = laws.cast(MODEL, jnp.bfloat16)
    y, state = laws.call(model, X)
    assert y.dtype == jnp.float32
    assert all(leaf.dtype in (jnp.float32, jnp.int32) for leaf in jax.tree_util.tree_leaves(state))
    exact = laws.call(laws.cast(model, jnp.float64), X)[0]
    laws.check_close(y.astype(float), exact, 8 * laws.BOUNDS["bfloat16"], "two blocks in bfloat16")


def test_an_unknown_token_is_seen_under_jit():
    """Where nobody can look at the tokens, one out of the vocabulary gives NaN, above and below."""
    call = eqx.filter_jit(lambda x: MODEL(x)[0])
    assert np.isnan(call(X.at[0].set(VOCABULARY))).any() and np.isnan(call(X.at[0].set(-1))).any()


@pytest.mark.parametrize("name", tiers(["hgrn", "hgrn_complex", "hgrn2"], "hgrn2"))
def test_lower_bounds_are_the_models(name):
    """The mixers' lower bounds are those of the model's logits, which learn; the mixers' own do not matter."""
    d, layers = 4, 3
    blocks = tuple(Block.make(registry()[name](d, key=jr.key(i)), key=jr.key(i)) for i in range(layers))
    logits = jr.normal(jr.key(7), (layers, d))
    model: Any = LanguageModel.make(blocks, VOCABULARY, key=jr.key(8), bounds=logits)
    gamma = lambda block: block.mixer.gamma
    given = tuple(
        eqx.tree_at(gamma, block, row.reshape(gamma(block).shape))
        for block, row in zip(blocks, hgrn_lower_bounds(logits), strict=True)
    )
    alone: Any = LanguageModel(model.embedding, given, None, model.head)
    laws.check_close(laws.call(model, X), laws.call(alone, X), laws.ROUNDING, "bounds")
    gradient = eqx.filter_jit(eqx.filter_grad(lambda model: jnp.sum(model(X)[0] ** 2)))(model)
    assert np.asarray(gradient.bounds).all()
    assert all(gamma(block).bits is None for block in gradient.blocks)
    assert model.parameters() == alone.parameters()


BAD_CALLS = {
    "a number out of the vocabulary": (lambda: MODEL(X.at[2].set(7)), "token 2 is 7; this vocabulary goes from 0 to 6"),
    "a negative number": (lambda: MODEL(X.at[1].set(-1)), "token 1 is -1; this vocabulary goes from 0 to 6"),
    "real tokens": (lambda: MODEL(X.astype(float)), "tokens must be integers; got float64. Give the numbers"),
    "a batch": (lambda: MODEL(X[None]), r"one sequence, \(time,\); got shape \(1, 6\). For a batch use jax.vmap"),
    "no token": (lambda: MODEL(X[:0]), "LanguageModel got a sequence of length 0"),
    "short mask": (lambda: MODEL(X, mask=jnp.ones(5, bool)), r"mask must be .* 6 tokens; got shape \(5,\) of bool"),
    "one state": (lambda: MODEL(X, some_state()[0]), "does not belong to this LanguageModel: shapes"),
    "another's state": (lambda: MODEL(X, some_state()[::-1]), "does not belong to this LanguageModel"),
}


@pytest.mark.parametrize("case", BAD_CALLS)
def test_bad_calls(unchecked, case):
    """The call says what is wrong, with which value, and what to do."""
    call, message = BAD_CALLS[case]
    with pytest.raises(InputError, match=message):
        call()


E, HGRN4, KEY = np.zeros((7, 4)), block("hgrn"), jr.key(0)
BOTH = Block(None, Bidirectional(registry()["gru"](4, key=KEY), registry()["gru"](4, key=KEY)))
MISFITS = {
    "no block": (lambda: LanguageModel(E, ()), "a model needs at least one block"),
    "no block to make it of": (lambda: LanguageModel.make((), 7, key=KEY), "a model needs at least one block"),
    "embedding": (lambda: LanguageModel(E[0], (HGRN4,)), r"embedding has shape \(4,\); it must be \(vocabulary, d\)"),
    "block": (
        lambda: LanguageModel(E, (HGRN4, Block(None, GRU.make(3, key=KEY)))),
        "block 2 takes tokens of width 3; the embedding gives 4",
    ),
    "both directions": (
        lambda: LanguageModel(E, (BOTH,)),
        "block 1 reads in both directions; a language model must not",
    ),
    "norm": (lambda: LanguageModel(E, (HGRN4,), RMSNorm(np.ones(3))), "norm is 3 wide; the embedding gives 4"),
    "embedding_norm": (
        lambda: LanguageModel(E, (HGRN4,), embedding_norm=RMSNorm(np.ones(3))),
        "embedding_norm is 3 wide; the embedding gives 4",
    ),
    "head": (lambda: LanguageModel(E, (HGRN4,), None, E[:3]), r"head has shape \(3, 4\); it must be \(7, 4\)"),
    "softcap": (lambda: LanguageModel(E, (HGRN4,), softcap=0.0), "softcap is 0.0; it must be above 0, or None"),
    "bounds": (lambda: LanguageModel(E, (HGRN4,), bounds=E), r"bounds have shape \(7, 4\); .* here \(1, 4\)"),
    "bounds of a GRU": (
        lambda: LanguageModel(E, (Block(None, registry()["gru"](4, key=KEY)),), bounds=E),
        "the mixer of block 1, a GRU, has no lower bound. Leave them out",
    ),
}


@pytest.mark.parametrize("case", MISFITS)
def test_what_does_not_fit(unchecked, case):
    """The part that does not fit is named, with both widths."""
    make, message = MISFITS[case]
    with pytest.raises(InputError, match=message):
        make()


def test_a_step_takes_a_plain_number():
    """A step on a number is a call on one token."""
    y, state = eqx.filter_jit(lambda state: MODEL.step(3, state))(MODEL.init_state())
    laws.check_close((y[None], state), laws.call(MODEL, jnp.array([3])), laws.EXACT, "a step")


@pytest.mark.parametrize("dtype", [jnp.int8, jnp.uint8, jnp.int16])
def test_narrow_tokens_out_of_the_vocabulary_are_nan_under_jit(dtype):
    """A vocabulary whose size the tokens' dtype does not hold: each token is its own row, and one that is none is NaN."""
    embedding = jnp.arange(300.0)[:, None]
    found = jax.jit(lambda tokens: embedded(embedding, tokens, None))(jnp.array([3, 120], dtype))
    np.testing.assert_array_equal(found[:, 0], [3.0, 120.0])
    if jnp.issubdtype(dtype, jnp.signedinteger):
        found = jax.jit(lambda tokens: embedded(embedding, tokens, None))(jnp.array([3, -1], dtype))
        np.testing.assert_array_equal(found[:, 0], [3.0, np.nan])


def test_tokens_in_another_order_of_bytes_are_tokens():
    """What a file of another machine holds is read as the same numbers."""
    np.testing.assert_array_equal(checked_tokens(np.array([1, 5], ">i4"), VOCABULARY), [1, 5])
