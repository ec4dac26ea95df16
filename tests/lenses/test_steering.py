"""Steering: a planted direction is found again, a dose of 0 is the model, and all forms of a steered model are one."""

import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from dualform.dual import model_form
from dualform.errors import FileError, InputError
from dualform.generation import Session, bounded, perplexity
from dualform.lenses import (
    Added,
    SteeringVector,
    contrast,
    difference,
    random_like,
    steerable,
    steered,
    steered_perplexity,
    steered_session,
    steered_state,
    trace,
    with_behind,
    with_states_added,
)
from dualform.tensor_file import write_tensors
from tests.laws import laws
from tests.models.families import VOCABULARY, D, language_model, sequence_model, tokens

MODEL = language_model("gla", "griffin_recurrent")
X = tokens(0)
TOWARD, AWAY = [[1, 2, 3, 1], [4, 5], [0, 1, 6, 6, 2]], [[2, 2], [3, 0, 5]]
PLACES = ("block 1.out", "block 1.state", "block 2.state")
ANY: Any = lambda value: value
VECTOR = functools.cache(lambda: contrast(MODEL, TOWARD, AWAY, PLACES))
STEERED = functools.cache(lambda: steered(MODEL, VECTOR(), 1.5))


def test_a_planted_direction_is_recovered():
    """Two sets of states that differ by v, flags and counts beside it: v to 1e-10, and None where there is no real number."""
    random = np.random.default_rng(0)
    v = random.normal(size=(3, 2))
    away = [(random.normal(size=(3, 2)), np.int32(i), np.bool_(True)) for i in range(9)]
    found = difference([(state + v, count, flag) for state, count, flag in away], away)
    assert found[1] is None and found[2] is None
    laws.check_close(found[0], v, 1e-10, "the direction")
    assert not np.allclose(difference([(state + v, count, flag) for state, count, flag in away[:4]], away[4:])[0], v)


@pytest.mark.parametrize("over", ["all", "last"])
def test_a_direction_planted_in_a_model(over):
    """Blocks that pass what they read, and words that differ by v from other words: v, at whichever tokens."""
    v = jr.normal(jr.key(3), (D,))
    words = jr.normal(jr.key(4), (3, D))
    silent = lambda block: jax.tree_util.tree_map(lambda a: jnp.zeros_like(a) if eqx.is_inexact_array(a) else a, block)
    model = eqx.tree_at(lambda m: m.blocks, MODEL, tuple(map(silent, MODEL.blocks)))
    embedding = jnp.concatenate([words, words + v[None], words[:1]])
    model = eqx.tree_at(lambda m: m.embedding, model, embedding)
    away = [[0, 1, 2], [2, 2, 0, 1, 1]]
    toward = [[token + 3 for token in text] for text in away]
    found = contrast(model, toward, away, ["block 2.out"], over=over)
    laws.check_close(found.values["block 2.out"] / model.scale, v, 1e-10, "the direction")
    assert found.texts == (2, 2)


def test_what_is_averaged():
    """The mean over each text's tokens, then over texts, and the state after the last: as of calls of the texts alone."""
    seen = lambda text: trace(MODEL, jnp.asarray(text), record=("block 1.out",))
    runs = [[seen(text) for text in texts] for texts in (TOWARD, AWAY)]
    means = [np.mean([np.mean(run.recorded["block 1.out"], axis=0) for run in each], axis=0) for each in runs]
    laws.check_close(VECTOR().values["block 1.out"], means[0] - means[1], laws.EXACT, "activations")
    expected = difference(*([run.state[1] for run in each] for each in runs))
    laws.check_close(VECTOR().values["block 2.state"], expected, laws.EXACT, "states")
    last = [np.mean([run.recorded["block 1.out"][-1] for run in each], axis=0) for each in runs]
    found = contrast(MODEL, TOWARD, AWAY, ["block 1.out"], over="last").values["block 1.out"]
    laws.check_close(found, last[0] - last[1], laws.EXACT, "the last token")


def test_a_dose_of_nothing_is_the_model():
    """At 0 the steered model's logits and states are the model's, and a session writes what it writes, to the bit."""
    laws.check_same_bits(laws.call(steered(MODEL, VECTOR(), 0, states="once"), X), laws.call(MODEL, X), "at 0")
    laws.check_close(laws.call(steered(MODEL, VECTOR(), 0), X), laws.call(MODEL, X), laws.EXACT, "states at 0")
    session = Session(MODEL)
    session.read(X)
    own = session.write(8, key=jr.key(1))
    for states in ("each", "once"):
        assert steered_session(MODEL, X, VECTOR(), 0, states=states).write(8, key=jr.key(1)) == own
    assert steered_session(MODEL, X, VECTOR(), 9).write(8, key=jr.key(1)) != own
    found = steered_perplexity(MODEL, np.asarray(X)[None], VECTOR(), 0, given=3)
    assert found.value == pytest.approx(perplexity(MODEL, np.asarray(X)[None], 3).value, rel=1e-12)


def test_every_form_of_a_steered_model():
    """Its call is its steps, its states the model's in form, and its dual form sums to the call."""
    model = STEERED()
    y, after = laws.call(model, X)
    state, outputs = model.init_state(), []
    assert jax.tree_util.tree_structure(state) == jax.tree_util.tree_structure(MODEL.init_state())
    for token in X:
        y_t, state = model.step(token, state)
        outputs.append(y_t)
    laws.check_close((jnp.stack(outputs), state), (y, after), laws.EXACT, "the steps")
    assert abs(y - laws.call(MODEL, X)[0]).max() > 1e-3
    form = model_form(model, X)
    assert form.residual < 1e-12 and all(layer.inner.residual < 1e-12 for layer in form.layers)
    outputs_alone = model_form(steered(MODEL, VECTOR(), 1.5, states="once"), X)
    assert outputs_alone.residual < 1e-12 and np.abs(outputs_alone.total([5])).max() > 1e-3


def test_documents_and_gaps():
    """Packed documents are steered as they are apart; where there is no token nothing is added, to the bit."""
    model = STEERED()
    start, mask = jnp.arange(6) == 4, jnp.array([True, False, True, True, False, True])
    packed = laws.call(model, X, start=start)[0]
    laws.check_close(packed[4:], laws.call(model, X[4:])[0], laws.EXACT, "the second document")
    y, state = laws.call(model, X, mask=mask)
    there = np.flatnonzero(mask)
    laws.check_close((y[there], state), laws.call(model, X[there]), laws.EXACT, "without gaps")
    assert not y[1].any()


def test_edits_add_what_the_model_adds():
    """A trace with the vector's edits gives what the steered model gives, of states what the next call sees."""
    vector = VECTOR()
    edits = vector.edits(1.5, after=2)
    run = trace(MODEL, X, edits, record=())
    changed = steered(MODEL, vector, 1.5, states="once")
    state = steered_state(MODEL, laws.call(changed, X[:3])[1], vector, 1.5)
    laws.check_close(run.y[3:], laws.call(changed, X[3:], state)[0], laws.EXACT, "the rest")
    by_hand = eqx.apply_updates(state[1], vector.scaled(-1.5)["block 2.state"])
    laws.check_close(by_hand, laws.call(changed, X[:3])[1][1], laws.EXACT, "what was added")


def test_a_session_goes_on_from_the_last_token():
    """All but the prompt's last token is read as ever; of states added once, the last token sees the sum."""
    vector = VECTOR()
    before = laws.call(MODEL, X[:-1])[1]
    ways: Any = (("each", before), ("once", steered_state(MODEL, before, vector, 2.0)))
    for states, state in ways:
        session = steered_session(MODEL, X, vector, 2.0, states=states)
        expected, _ = laws.call(steered(MODEL, vector, 2.0, states=states), X[-1:], state)
        laws.check_close(session.logits, expected[0], laws.EXACT, f"states {states}")
    rows = np.stack([np.asarray(X), np.asarray(tokens(1))])
    several = steered_session(MODEL, rows, vector, 2.0, texts=2).write(5, temperature=0)
    assert several == [steered_session(MODEL, row, vector, 2.0).write(5, temperature=0) for row in rows]
    assert len(steered_session(MODEL, X[:1], vector, 2.0).write(3, key=jr.key(0))) == 3


def test_what_it_costs():
    """The perplexity of steered passages is of the tokens behind the prompt, by the steered call from the prompt's state."""
    vector, rows = VECTOR(), np.stack([np.asarray(X), np.asarray(tokens(1))])
    for states in ("each", "once"):
        losses = []
        for row in rows:
            state = laws.call(MODEL, row[:2])[1]
            state = steered_state(MODEL, state, vector, 1.5) if states == "once" else state
            y, _ = laws.call(steered(MODEL, vector, 1.5, states=states), row[2:], state)
            losses.append(-np.mean(np.asarray(jax.nn.log_softmax(y))[np.arange(3), row[3:]]))
        found = steered_perplexity(MODEL, rows, vector, 1.5, given=3, states=states)
        assert found.losses == pytest.approx(losses, rel=1e-10)


def test_a_random_direction_is_as_long():
    """Each array of the control has the norm that it has in the vector, another direction, and another one for another key."""
    vector, control = VECTOR(), random_like(VECTOR(), key=jr.key(0))
    pairs = zip(*(jax.tree_util.tree_leaves(each.values) for each in (vector, control)), strict=True)
    for own, drawn in pairs:
        assert float(jnp.linalg.norm(drawn)) == pytest.approx(float(jnp.linalg.norm(own)), rel=1e-12)
        assert abs(float(jnp.sum(own * drawn))) < 0.99 * float(jnp.sum(own * own))
    assert not eqx.tree_equal(random_like(vector, key=jr.key(1)), control)
    assert control.norms == pytest.approx(vector.norms) and set(vector.norms) == set(PLACES)


def test_a_vector_on_disk(tmp_path):
    """It is read back to the bit for its own model, and refused for other weights and another structure."""
    vector, path = VECTOR(), tmp_path / "v.safetensors"
    vector.save(path)
    laws.check_same_bits(SteeringVector.load(path, MODEL).values, vector.values, "the values")
    assert SteeringVector.load(path, MODEL) == vector or SteeringVector.load(path, MODEL).texts == (3, 2)
    other = eqx.tree_at(lambda m: m.embedding, MODEL, MODEL.embedding + 1)
    with pytest.raises(InputError, match=r"the steering vector in .* is of a model with other weights"):
        SteeringVector.load(path, other)
    with pytest.raises(InputError, match=r"the steering vector in .* is of another model: of a LanguageModel with GLA"):
        SteeringVector.load(path, language_model("gla"))
    with pytest.raises(InputError, match="the steering vector is of a model with other weights"):
        steered(other, vector, 1)
    with pytest.raises(InputError, match="the steering vector is of a model with other weights"):
        steered_state(other, other.init_state(), vector, 1)


def test_files_that_are_none(tmp_path):
    """Another file, one without its model, and arrays that do not fit or are not finite: a sentence each."""
    vector, path = VECTOR(), tmp_path / "v.safetensors"
    notes = {"format": "dualform-steering-vector", "version": "1", "texts": "3 2", **vector.of._asdict()}
    flat = {"block 1.out/": np.asarray(vector.values["block 1.out"])}
    write_tensors(path, flat, notes)
    assert list(SteeringVector.load(path, MODEL).values) == ["block 1.out"]
    for arrays, metadata, said in (
        (flat, {}, "is no steering vector of this version"),
        (flat, notes | {"texts": "3"}, "does not say which model and texts it is of"),
        ({"block 1.out/": np.ones(3)}, notes, "does not fit this model"),
        ({"block 1.out/": np.full(D, np.nan)}, notes, "does not fit this model"),
        ({"block 1.out/x": np.ones(D)}, notes, "does not fit this model"),
        ({"block 1.state/[0]": np.ones(D)}, notes, "does not fit this model"),
        ({"hello": np.ones(D)}, notes, "does not fit this model"),
        ({"block 7.out/": np.ones(D)}, notes, "does not fit this model"),
        ({}, notes, "does not fit this model"),
    ):
        write_tensors(path, arrays, metadata)
        with pytest.raises(FileError, match=said):
            SteeringVector.load(path, MODEL)


def test_what_can_be_steered():
    """Every output, and states of a fixed size: no cache of keys and values, and no sums relative to a running maximum."""
    assert steerable(MODEL) == ("block 1.out", "block 1.state", "block 2.out", "block 2.state")
    mixed = language_model("softmax_attention", "aaren", "rwkv4", "mamba")
    assert steerable(mixed) == ("block 1.out", "block 2.out", "block 3.out", "block 4.out", "block 4.state")
    few = bounded(language_model("softmax_attention"), "tova", 2)
    for model, place, said in (
        (mixed, "block 1.state", "it keeps keys and values of single tokens, and has no fixed size. Steer its output"),
        (mixed, "block 2.state", "its sums are kept relative to a running maximum"),
        (few, "block 1.state", "it keeps keys and values of single tokens"),
    ):
        with pytest.raises(InputError, match=said):
            contrast(model, TOWARD, AWAY, [place])


BAD: dict[str, tuple[Any, str]] = {
    "none toward": (lambda: contrast(MODEL, [], AWAY, PLACES), "there are no texts toward; give at least one"),
    "none away": (lambda: contrast(MODEL, TOWARD, [], PLACES), "there are no texts away; give at least one"),
    "empty text": (lambda: contrast(MODEL, TOWARD, [[1], []], PLACES), "text 2 away is empty"),
    "vocabulary": (
        lambda: contrast(MODEL, [[VOCABULARY]], AWAY, PLACES),
        "token 0 is 7; this vocabulary goes from 0 to 6",
    ),
    "no layer": (
        lambda: contrast(MODEL, TOWARD, AWAY, ["block 3.out"]),
        "there is no 'block 3' in this model; it can be",
    ),
    "no place": (lambda: contrast(MODEL, TOWARD, AWAY, ["norm.out"]), "'norm.out' is no place to steer at"),
    "no places": (lambda: contrast(MODEL, TOWARD, AWAY, []), "there are no places; give at least one"),
    "over": (
        lambda: contrast(MODEL, TOWARD, AWAY, PLACES, over=ANY("first")),
        "over is 'first'; it must be all or last",
    ),
    "states": (lambda: steered(MODEL, VECTOR(), 1, states=ANY("twice")), "states is 'twice'; it must be each or once"),
    "dose": (lambda: steered(MODEL, VECTOR(), float("nan")), "the dose is nan; give a finite number"),
    "after": (lambda: VECTOR().edits(1), "'block 1.state' is a state; say by after behind which token"),
    "prompt": (lambda: steered_session(MODEL, [], VECTOR(), 1), "the prompt is empty"),
    "prompts": (lambda: steered_session(MODEL, [[1], [1, 2]], VECTOR(), 1, texts=2), "the prompts have 1 and 2 tokens"),
    "passage": (
        lambda: steered_perplexity(MODEL, np.array([[1, 2]]), VECTOR(), 1, given=2),
        r"passages have shape \(1, 2\); give",
    ),
    "width": (
        lambda: with_behind(MODEL, {"block 1.out": Added(jnp.ones(3))}),
        "gives tokens of width 4; what stands behind",
    ),
    "vector": (lambda: Added(jnp.ones((2, 2))), r"what is added has shape \(2, 2\); it must be \(d,\)"),
    "behind": (lambda: with_behind(MODEL, {"norm.out": Added(jnp.ones(D))}), "there is no place 'norm.out' of a block"),
    "added": (
        lambda: with_states_added(MODEL, {"block 9.state": None}),
        "there is no place 'block 9.state' of a block",
    ),
    "no blocks": (lambda: with_behind(MODEL.blocks[0].norm, {}), "a RMSNorm has no blocks; a LanguageModel or"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(unchecked, case):
    """What cannot be steered is said, with what there is."""
    call, message = BAD[case]
    with pytest.raises(InputError, match=message):
        call()


def test_a_model_of_vectors():
    """Layers stand behind the blocks of any model that has some: adding to the last block's output adds what it is read as."""
    model = sequence_model("gla")
    x = laws.sequence(1, 5, 3)
    b = jr.normal(jr.key(2), (D,))
    changed = with_behind(model, {"block 1.out": Added(b)})
    expected = trace(model, x, {"block 1.out": lambda y: y + b[None]}, record=()).y
    laws.check_close(laws.call(changed, x)[0], expected, laws.EXACT, "the output")
