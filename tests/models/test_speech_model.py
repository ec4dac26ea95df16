"""The model of speech from text: its faces, its refusals, and that it learns a few utterances by heart."""

import functools

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from dualform import dual_form
from dualform.checkpoints import load_weights, save_weights
from dualform.errors import InputError
from dualform.models import MLP, Among, FromText, LayerNorm, RMSNorm, SpeechModel
from dualform.tasks.speech import Mel, delayed, fit_codec, resampled, spoken, undelayed
from dualform.training import FitConfig, decayed, fit
from tests.laws import laws, trained
from tests.models.families import shaken
from tests.tasks.speech.voices import needs_espeak

TEXT, STEPS = jnp.array([1, 4, 2]), jnp.array([[5, 5], [1, 5], [2, 3], [5, 4]])


@functools.cache
def small(recurrence: str | None = "gla") -> SpeechModel:
    """Nine phonemes, two levels of five codes."""
    model = SpeechModel.make(9, 2, 5, key=jr.key(0), d=8, decoder=1, position_width=8, recurrence=recurrence, window=6)
    return shaken(model)


@pytest.mark.slow
@pytest.mark.parametrize("recurrence", ["gla", None])
def test_all_faces_are_one(recurrence):
    """A text and then steps give what one call gives; the dual form is certified; each row of an alignment has a sum of 1."""
    model = small(recurrence)
    x = model.join(TEXT, STEPS)
    form = dual_form(model, x)
    assert form.residual <= laws.EXACT
    y, state = model(x[:4])
    rows = [y]
    for token in x[4:]:
        y, state = model.step(token, state)
        rows.append(y[None])
    laws.check_close(jnp.concatenate(rows), form.y, laws.EXACT, "steps after the text")
    [alignment] = model.alignments(TEXT, STEPS)
    assert alignment.shape == (1, 4, 3)
    np.testing.assert_allclose(alignment.sum(axis=2), 1, rtol=1e-12)


@pytest.mark.slow
def test_a_later_step_changes_no_earlier_one():
    """Codes act on steps behind them alone, the text on every step."""
    model = small()
    y, _ = model(model.join(TEXT, STEPS))
    other, _ = model(model.join(TEXT, STEPS.at[2].set(0)))
    np.testing.assert_allclose(other[3:5], y[3:5], rtol=1e-12)
    assert (abs(other[5:] - y[5:]).max(axis=1) > 1e-6).all()
    spelled, _ = model(model.join(TEXT.at[2].set(7), STEPS))
    assert (abs(spelled[3:] - y[3:]).max(axis=1) > 1e-6).all()


@pytest.mark.slow
def test_utterances_side_by_side_and_padded():
    """Two utterances packed by `start` give what each gives, and padding behind text and steps changes no loss."""
    model, other = small(), jnp.array([8, 3])
    first, second = model.join(TEXT, STEPS), model.join(other, STEPS[:2])
    both = jnp.concatenate([first, second])
    y, _ = model(both, start=jnp.arange(len(both)) == len(first))
    laws.check_close(y, jnp.concatenate([model(first)[0], model(second)[0]]), laws.EXACT, "packed utterances")
    steps = STEPS[1:]
    padded = model.loss(jnp.pad(TEXT, (0, 2)), jnp.pad(steps, ((0, 3), (0, 0))), jnp.arange(5) < 3, jnp.arange(6) < 3)
    laws.check_close(padded, model.loss(TEXT, steps), laws.EXACT, "a padded loss")


def test_weight_decay_acts_on_its_matrices():
    """Every part declares its matrices: embeddings, the head, those of mixers and MLPs, and no norm."""
    trained.every_class_declares(small())
    decays = decayed(small())
    assert decays.phonemes and decays.codes and decays.head and not decays.norm.weight
    assert decays.layers[3].mixer.w_q and decays.layers[3].mixer.recurrence.w_q and not decays.layers[3].norm.weight


@pytest.mark.slow
def test_a_model_survives_the_disk(tmp_path):
    """What is read is what was written, to the bit."""
    save_weights(tmp_path / "speech.safetensors", small())
    found = load_weights(tmp_path / "speech.safetensors", SpeechModel)
    assert jax.tree_util.tree_structure(found) == jax.tree_util.tree_structure(small())
    leaves = jax.tree_util.tree_leaves
    laws.check_same_bits(leaves(found), leaves(small()), "the model read back")


def of_speech(words):
    """Real speech as numbers: phonemes (word, text) and delayed codes (word, step, level), padded, with masks."""
    mel = Mel(rate=8000, window=512, hop=256, bands=30)
    said = spoken([(word, "en-us") for word in words])
    frames = [mel.frames(resampled(each.samples / 2**15, each.rate, mel.rate)) for each in said]
    codec = fit_codec(frames, mel, levels=2, entries=16)
    steps = [delayed(codec.encode(each), codec.entries) for each in frames]
    names = sorted({phoneme for each in said for phoneme in each.phonemes})
    texts = [np.array([names.index(phoneme) for phoneme in each.phonemes]) for each in said]

    def padded(rows, length):
        here = np.arange(length) < np.array([len(row) for row in rows])[:, None]
        return np.stack(
            [np.concatenate([row, np.zeros_like(row, shape=(length - len(row), *row.shape[1:]))]) for row in rows]
        ), here

    x = (*padded(texts, max(map(len, texts))), *padded(steps, max(map(len, steps))))
    return len(names), codec, texts, steps, jax.tree_util.tree_map(jnp.asarray, x)


@pytest.mark.slow
@needs_espeak
def test_it_learns_utterances_by_heart():
    """After training on four spoken words it says the codes of each, all of them, and ends by itself where they end."""
    phonemes, codec, texts, steps, x = of_speech(["seven", "two", "ship", "nine"])
    model = SpeechModel.make(
        phonemes, codec.levels, codec.entries, key=jr.key(0), d=32, decoder=1, position_width=16, window=16
    )

    def loss(model, x, y):
        del y
        return jax.vmap(lambda text, known, step, here: model.loss(text, step, known, here))(*x).mean()

    config = FitConfig(steps=250, chunk=125, warmup=20, learning_rate=1e-2, weight_decay=0.0)
    before = float(loss(model, x, None))
    learnt = fit(model, lambda key: (x, key), config, loss=loss).model
    assert before > 2.0 and float(loss(learnt, x, None)) < 0.02
    for text, step in zip(texts, steps, strict=True):
        found, ended = learnt.say(jnp.asarray(text), most=60)
        assert ended and undelayed(found).tolist() == undelayed(step).tolist()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m.join(TEXT[:0], STEPS), "the text is empty; there is nothing to say"),
        (lambda m: m(m.join(TEXT, STEPS)[3:]), "the text is empty"),
        (lambda m: m.join(jnp.zeros(7, int), STEPS), "the text has 7 tokens, and 6 are read of one. Cut it"),
        (lambda m: m.join(TEXT + 6, STEPS), "phoneme 10 is none: they go from 0 to 8"),
        (lambda m: m.join(TEXT, STEPS + 1), "code 6 is none: they go from 0 to 5"),
        (lambda m: m.join(TEXT, STEPS[:, :1]), r"steps are \(step, 2\); got \(4, 1\)"),
        (lambda m: m.say(TEXT, 0), "most is 0; give 1 step or more"),
        (lambda m: SpeechModel.make(9, 2, 5, key=jr.key(0), mixer="none"), "there is no mixer 'none'"),
        (lambda m: SpeechModel.make(9, 2, 5, key=jr.key(0), heads=3), "3 heads do not divide a width of 64"),
        (lambda m: SpeechModel.make(9, 0, 5, key=jr.key(0)), "sizes of a model are 1 or more"),
        (lambda m: SpeechModel(m.phonemes, m.codes, m.layers[:2], m.norm, m.head), "no layer reads the text"),
        (lambda m: SpeechModel(m.phonemes, m.codes, m.layers, RMSNorm.make(3), m.head), "the final norm is not 8 wide"),
        (lambda m: SpeechModel(m.phonemes, m.codes, m.layers, m.norm, m.head[1:]), "do not fit together"),
        (lambda m: Among(None, m.layers[0].layer, "words"), "there are no tokens 'words'; there are text, frames, all"),
        (lambda m: Among(LayerNorm.make(3), MLP.make(8, key=jr.key(0))), "norm is 3 wide; a token has 8 channels"),
        (lambda m: FromText(RMSNorm.make(3), m.layers[3].mixer), "norm is 3 wide; a token has 8 channels"),
    ],
)
def test_bad_input(unchecked, call, message):
    """Each input that does not fit is named."""
    with pytest.raises(InputError, match=message):
        call(small())
