"""The tuned lens: zero is the logit lens, a planted affine layer is found, and a lens is of one model alone."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from dualform.errors import FileError, InputError
from dualform.lenses import (
    LensConfig,
    TunedLens,
    Windows,
    lens_log_probabilities,
    lens_losses,
    load_lens,
    logit_lens,
    save_lens,
    train_lens,
)
from dualform.mixers import registry
from dualform.models import LanguageModel
from dualform.tensor_file import read_tensors, write_tensors
from dualform.training import Run
from tests.lenses.lens_models import A, B, idle, planted
from tests.models.families import VOCABULARY, language_model, shaken, tokens

X = tokens(0)
TEXT = np.asarray(tokens(1, 400))
HELD_OUT = np.asarray(tokens(2, 96)).reshape(6, 16)
SHORT = LensConfig(steps=6, batch=4, length=8, chunk=2)
MODEL = functools.cache(lambda: language_model("gla", "griffin_recurrent"))
LENS = functools.cache(lambda: shaken(TunedLens.make(MODEL())))


@pytest.mark.parametrize("make", [MODEL, idle, planted])
def test_translators_of_zero_are_the_logit_lens(make):
    """To the bit, at every layer; there is a translator for each layer but the last."""
    model = make()
    lens, plain = TunedLens.make(model), logit_lens(model, X)
    tuned = logit_lens(model, X, tuned=lens)
    assert lens.layers == plain.layers[:-1] and not lens.matrices.any() and not lens.biases.any()
    for one, other in zip(plain[1:], tuned[1:], strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_lens_reads_what_it_translated():
    """The reading at a layer is the readout of h + A h + b, worked out beside it; the last layer has no translator."""
    model, lens = MODEL(), LENS()
    h = model.embed(X)
    expected = jax.nn.log_softmax(model.logits(h + h @ lens.matrices[0].T + lens.biases[0][None]))
    found = lens_log_probabilities(model, X, "embedding", tuned=lens)
    np.testing.assert_allclose(found, expected, atol=1e-10)
    reading = logit_lens(model, X, tuned=lens)
    assert not reading.kl[-1].any() and not np.allclose(reading.kl[0], logit_lens(model, X).kl[0])


def test_the_planted_map_is_the_translator():
    """A last layer h + A h + b is what the layer below it needs: KL is 0."""
    model, lens = planted(), TunedLens.make(planted())
    lens = dataclasses.replace(lens, matrices=lens.matrices.at[1].set(A), biases=lens.biases.at[1].set(B))
    assert np.abs(logit_lens(model, X, tuned=lens).kl[1:]).max() <= 1e-12
    assert logit_lens(model, X).kl[1].min() > 1e-3


def test_training_finds_the_planted_map():
    """Without decay, gradients alone bring KL on tokens that training never saw below 1e-6, from more than 0.03."""
    told: dict[str, Any] = {"rate": 30.0, "momentum": 0.97, "weight_decay": 0.0, "clip": 10.0, "chunk": 1000}
    config = LensConfig(steps=4000, batch=8, length=16, **told)
    fitted = train_lens(planted(), Windows(TEXT, config.length, config.batch), config)
    found = lens_losses(planted(), fitted.model, HELD_OUT)
    assert found.layers == ("embedding", "block 1") and fitted.steps == 4000
    assert found.logit[1].mean() > 0.03 and 0 <= found.tuned[1].max() < 1e-6
    assert found.tuned[0].mean() < found.logit[0].mean()


def test_held_out_losses_are_those_of_readings():
    """Of each window the mean over its tokens of what `logit_lens` gives, for both lenses, also in several batches."""
    found = lens_losses(MODEL(), LENS(), HELD_OUT, batch=4)
    for i, window in enumerate(HELD_OUT[:5]):
        for kind, lens in ((found.logit, None), (found.tuned, LENS())):
            np.testing.assert_allclose(kind[:, i], logit_lens(MODEL(), window, tuned=lens).kl[:-1].mean(1), atol=1e-10)


def test_training_goes_on_to_the_bit(tmp_path):
    """Stopped between two chunks and begun again, it ends with the same translators and metrics; another text is refused."""
    windows = Windows(TEXT, SHORT.length, SHORT.batch)
    whole = train_lens(MODEL(), windows, SHORT, run=Run.create(tmp_path / "whole", {}))

    def stops(progress):
        raise KeyboardInterrupt

    cut = Run.create(tmp_path / "cut", {})
    part = train_lens(MODEL(), windows, SHORT, run=cut, on_chunk=stops)
    assert (part.status, part.steps) == ("interrupted", 2)
    rest = train_lens(MODEL(), windows, SHORT, run=cut)
    assert rest.status == whole.status == "done" and rest.history == whole.history
    np.testing.assert_array_equal(rest.model.matrices, whole.model.matrices)
    np.testing.assert_array_equal(rest.model.biases, whole.model.biases)
    assert whole.model.matrices.any() and whole.history[-1]["loss"] < whole.history[0]["loss"]
    with pytest.raises(InputError, match="is of another run|is of other data"):
        train_lens(MODEL(), Windows(TEXT[::-1], SHORT.length, SHORT.batch), SHORT, run=cut)


def test_a_lens_is_saved_to_the_bit(tmp_path):
    """What is loaded is what was saved, and the same lens gives the same bytes."""
    for name in ("one", "other"):
        save_lens(tmp_path / name, LENS(), {"steps": 3})
    found = load_lens(tmp_path / "one", MODEL())
    assert found.layers == LENS().layers and found.weights == LENS().weights
    np.testing.assert_array_equal(found.matrices, LENS().matrices)
    np.testing.assert_array_equal(found.biases, LENS().biases)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()


OTHERS: dict[str, tuple[Any, str]] = {
    "vocabulary": (
        lambda: LanguageModel.make(MODEL().blocks, 11, key=jr.key(0)),
        "is of a vocabulary of 7, and this model has one of 11",
    ),
    "layers": (
        lambda: language_model("gla"),
        "is of another model: of a LanguageModel with GLA, GriffinRecurrent, 2 layers of width 4. This one is a LanguageModel "
        "with GLA, with 1 layers to translate, of width 4",
    ),
    "weights": (
        lambda: shaken(MODEL(), seed=1),
        "is of a model with other weights, as of another training, on the same a LanguageModel with GLA, GriffinRecurrent",
    ),
}


@pytest.mark.parametrize("other", OTHERS)
def test_a_lens_of_another_model_is_refused(unchecked, tmp_path, other):
    """Wherever it is used: loaded, read with, or measured."""
    make, message = OTHERS[other]
    save_lens(tmp_path / "lens", LENS())
    for use in (
        lambda model: load_lens(tmp_path / "lens", model),
        lambda model: logit_lens(model, X, tuned=LENS()),
        lambda model: lens_losses(model, LENS(), HELD_OUT),
    ):
        with pytest.raises(InputError, match=message):
            use(make())


def test_files_that_are_no_whole_lens(tmp_path):
    """Missing, cut short, another's, of a later version, or damaged: a sentence each."""
    path = tmp_path / "lens"
    save_lens(path, LENS())
    arrays, told = read_tensors(path)

    def refused(message: str, arrays: Any = arrays, **changed: str) -> None:
        write_tensors(path, arrays, told | changed)
        with pytest.raises((FileError, InputError), match=message):
            load_lens(path, MODEL())

    with pytest.raises(FileError, match="there is no file"):
        load_lens(tmp_path / "nowhere", MODEL())
    refused("is no tuned lens: dualform did not write it as one", format="dualform")
    refused("is of version 2 of its format; this dualform reads 1", version="2")
    refused("is not a whole tuned lens", layers="{")
    refused("is not a whole tuned lens", arrays={"matrices": arrays["matrices"]})
    refused("must be .2, d, d. and .2, d.", arrays={**arrays, "biases": arrays["biases"][:1]})
    refused("holds NaN or infinity", arrays={**arrays, "biases": np.full_like(arrays["biases"], np.nan)})
    save_lens(path, LENS())
    data = path.read_bytes()
    for end in (0, 7, 40, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:end])
        with pytest.raises(FileError, match="truncated, damaged or of another format"):
            load_lens(path, MODEL())


BAD = {
    "steps": (lambda: LensConfig(steps=0), "steps is 0; give a whole number, at least 1"),
    "momentum": (lambda: LensConfig(momentum=1.0), r"momentum is 1.0; it must lie in \[0, 1\)"),
    "rate": (lambda: LensConfig(rate=-1.0), "learning_rate is -1.0; it cannot be negative"),
    "clip": (lambda: LensConfig(clip=0.0), "clip is 0.0; it must be above 0"),
    "text": (lambda: Windows(TEXT[:5], 8, 2), "the text to train on has 5 tokens, and a window needs 8"),
    "begin": (lambda: Windows(TEXT, 2, 2, (0, 1)), "windows of 2 tokens have no place behind the 2 that stand before"),
    "shapes": (
        lambda: dataclasses.replace(LENS(), biases=jnp.zeros((2, 3))),
        r"matrices \(2, 4, 4\) and biases \(2, 3\) must be \(2, d, d\) and \(2, d\)",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(unchecked, case):
    """What is out of range, too short or of another shape is named."""
    call, message = BAD[case]
    with pytest.raises(InputError, match=message):
        call()


def test_windows_are_of_the_text():
    """Each is a stretch of the text behind what stands before every text; all stretches come."""
    text, begin = np.arange(10), (7,)
    drawn = np.concatenate([np.asarray(Windows(text, 4, 16, begin)(jr.key(i))) for i in range(8)])
    assert (drawn[:, 0] == 7).all() and (np.diff(drawn[:, 1:], axis=1) == 1).all()
    assert set(drawn[:, 1]) == set(range(8))


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(registry()))
def test_every_mixer_has_lenses(name):
    """Around any mixer the last layer says what the model's own call says, and translators of 0 are the logit lens to the bit."""
    model = language_model(name)
    plain, zero = logit_lens(model, X), logit_lens(model, X, tuned=TunedLens.make(model))
    said = np.asarray(jax.nn.log_softmax(model(X)[0]))
    np.testing.assert_allclose(plain.log_probability[-1], -np.sort(-said, axis=1), atol=1e-10)
    np.testing.assert_array_equal(zero.kl, plain.kl)
    assert (plain.kl[0] > 0).all() and not plain.kl[-1].any()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mamba", "softmax_attention", "lstm", "rwkv4"])
def test_training_brings_every_layer_nearer(name):
    """Some steps bring KL on held-out tokens down at every layer, of recurrent models and of a transformer."""
    model = language_model(name, name)
    config = LensConfig(steps=100, batch=4, length=16, weight_decay=0.0, chunk=100)
    found = lens_losses(model, train_lens(model, Windows(TEXT, config.length, config.batch), config).model, HELD_OUT)
    assert len(found.layers) == 2 and model.vocabulary == VOCABULARY
    assert (found.tuned.mean(1) < found.logit.mean(1)).all()


def test_the_published_settings_are_the_defaults():
    """250 steps, a rate of 1 that the step has a tenth of, momentum .9, decay 1e-3 and clip 1, of Belrose et al.'s code."""
    config = LensConfig()
    assert (config.steps, config.rate, config.momentum, config.weight_decay, config.clip) == (250, 1.0, 0.9, 1e-3, 1.0)
    assert config.tokens == 250 * 2048
