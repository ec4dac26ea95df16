"""A recipe: read from what a user writes, refused where it is not understood, and trained to numbers of its own tests."""

import dataclasses
import json
import math
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from dualform import checkpoints, dual_form, mixers, models, tasks
from dualform.errors import FileError, InputError
from dualform.models.architecture import Architecture
from dualform.training.recipe import Recipe, measure, model_for
from dualform.training.run import Run
from tests.laws.laws import registered

SMALL = {
    "task": "selective-copy",
    "settings": {"time": 6, "tokens": 2, "symbols": 3, "batch": 4, "held": 8},
    "model": {"mixers": ["min_gru", "causal_convolution"], "width": 8, "mlp": "none"},
    "fit": {"steps": 6, "chunk": 3, "warmup": 1},
    "seed": 3,
}


def test_a_recipe_is_the_same_from_its_file(tmp_path):
    """Every setting, in TOML and back, infinity too."""
    recipe = Recipe.of(SMALL | {"fit": {"clip": float("inf"), "learning_rate": 1}, "data": "text.txt"})
    (tmp_path / "run.toml").write_text(recipe.toml())
    assert Recipe.read(tmp_path / "run.toml") == recipe
    assert Recipe.of(json.loads(json.dumps(recipe.told()))) == recipe
    assert recipe.fit.learning_rate == 1.0 and recipe.model.mixers == ("min_gru", "causal_convolution")


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (
            {"tsk": "copy"},
            "the config has a key 'tsk', which is none; there are task, data, settings, model, fit, seed",
        ),
        ({}, "the config does not say its task"),
        ({"task": 3}, "says task = 3; it must be a text in quotes"),
        ({"task": "copy", "fit": {"step": 3}}, "has a key 'fit.step', which is none; there are fit.steps"),
        ({"task": "copy", "fit": {"steps": 2.5}}, r"says fit.steps = 2.5; it must be a whole number"),
        ({"task": "copy", "fit": {"steps": True}}, r"says fit.steps = True; it must be a whole number"),
        ({"task": "copy", "fit": {"clip": "1"}}, r"says fit.clip = '1'; it must be a number"),
        ({"task": "copy", "model": {"mixers": "gla"}}, "says model.mixers = 'gla'; it must be a list"),
        ({"task": "copy", "model": 3}, "says model = 3; it must be a table"),
        ({"task": "copy", "model": {"mixers": ["gl"]}}, "there is no mixer 'gl'; there are"),
        ({"task": "copy", "model": {"mlp": "wide"}}, "there is no MLP 'wide'; there are none, swiglu"),
        ({"task": "copy", "model": {"norm": "wide"}}, "there is no norm 'wide'; there are none, rms"),
        ({"task": "copy", "model": {"width": 0}}, "width is 0; it must be at least 1"),
        ({"task": "copy", "model": {"options": {"head": 2}}}, "no mixer here has an option 'head': gla has heads"),
        ({"task": "copy", "fit": {"seed": 3}}, "fit.seed is 3; say seed for the whole training instead"),
        ({"task": "copy", "seed": -1}, "the seed is -1"),
    ],
)
def test_what_is_not_understood_is_refused(told, said):
    """A key that is none, a value of another type, a name that is none: by name, and with what there is."""
    with pytest.raises(InputError, match=said):
        Recipe.of(told)


def test_a_file_that_is_no_toml_is_said(tmp_path):
    """With the line at which it breaks off."""
    (tmp_path / "run.toml").write_text("task = copy\n")
    with pytest.raises(FileError, match="is no TOML .*line 1"):
        Recipe.read(tmp_path / "run.toml")
    with pytest.raises(FileError, match="there is no file"):
        Recipe.read(tmp_path / "none.toml")


def test_training_leaves_all_that_is_needed(tmp_path):
    """The folder's weights are the best model's, its scores are measured on the tests anew, and its recipe repeats it."""
    recipe, told = Recipe.of(SMALL), []
    result = recipe.train(tmp_path / "run", told.append)
    assert (result["status"], result["steps"]) == ("done", 6) and [each.progress.step for each in told] == [3, 6]
    model, task = checkpoints.load(tmp_path / "run").model, recipe.open_task()
    assert result["test"] == {"test": measure(task, model, task.held_out("test"))}
    assert result["validation"] == measure(task, model, task.held_out("validation"))
    held_out = [line["held_out"] for line in Run.open(tmp_path / "run").metrics("train")]
    assert min(each["loss"] for each in held_out) == result["validation"]["loss"]
    again = Recipe.read(tmp_path / "run" / "run.toml").train(tmp_path / "again")
    assert again["test"] == result["test"] and again["parameters"] == result["parameters"]
    assert recipe.train(tmp_path / "run") == result  # finished: nothing is trained again
    other = dataclasses.replace(recipe, seed=4).train(tmp_path / "other")
    assert other["test"] != result["test"]
    with pytest.raises(InputError, match="was made with seed = 3, and now it is 4"):
        dataclasses.replace(recipe, seed=4).train(tmp_path / "run")


@pytest.mark.parametrize("name", registered("gla", "pgn"))
def test_every_registered_mixer_is_trained(name, tmp_path):
    """Two steps end with finite losses, also where matrices are rounded and biases, rates and norms are as wide as before."""
    told = SMALL | {
        "model": SMALL["model"] | {"mixers": [name]},
        "fit": {"steps": 2, "chunk": 2, "warmup": 0, "precision": "bfloat16"},
    }
    result = Recipe.of(told).train(tmp_path / "run")
    assert (result["status"], result["steps"]) == ("done", 2)
    losses = (result["train_loss"], result["validation"]["loss"], result["test"]["test"]["loss"])
    assert all(math.isfinite(loss) for loss in losses), losses


def test_measuring_weighs_what_is_counted():
    """Batches of other sizes are one: each target counts as much as any other."""

    class Copy(tasks.SelectiveCopy):
        pass

    task = Copy(time=6, tokens=2, symbols=3, batch=6)
    model = model_for(Architecture(("min_gru",), 8, 1, "none"), task, key=jr.key(0))
    x, y = task.sample(jr.key(1))
    whole = measure(task, model, [(x, y)])
    assert measure(task, model, [(x[:1], y[:1]), (x[1:], y[1:])]) == pytest.approx(whole, rel=1e-12)


def test_models_fit_their_tasks():
    """Tokens in and logits out, or vectors in and one output for each sequence; blocks take their mixers in turn."""
    sizes = Architecture(("gla", "lstm"), 8, 3, "gelu", "layer", {"heads": 4})
    model = model_for(sizes, tasks.SelectiveCopy(time=8, tokens=2), key=jr.key(0))
    assert [type(block.mixer).__name__ for block in model.blocks] == ["GLA", "LSTM", "GLA"]
    assert model.blocks[0].mixer.w_q.shape[0] == 4 and model.vocabulary == 16
    assert jax.eval_shape(lambda x: model(x)[0], jnp.zeros(10, jnp.int32)).shape == (10, 16)
    vectors = model_for(dataclasses.replace(sizes, norm="none"), tasks.Adding(time=9), key=jr.key(0))
    assert jax.eval_shape(lambda x: vectors(x)[0], jnp.zeros((9, 2))).shape == (1,)
    with pytest.raises(InputError, match="heads"):
        model_for(Architecture(("gla",), 8, 1, options={"heads": 3}), tasks.Adding(), key=jr.key(0))


def test_a_plain_model_is_its_mixers_and_a_readout():
    """The inputs go into the first mixer; its steps, its certificate and its weights from a file are as any model's."""
    sizes = Architecture(("gru_chung", "tanh_rnn"), 3, 2, options={"n": 5}, plain=True)
    model: Any = sizes.sequence_model(3, 4, key=jr.key(0))
    x = jr.normal(jr.key(1), (7, 3))
    hidden = model.layers[1](model.layers[0](x)[0])[0]
    np.testing.assert_allclose(model(x)[0], hidden @ model.w.T + model.b[None], rtol=1e-12)
    state, outputs = model.init_state(), []
    for t in range(7):
        y, state = model.step(x[t], state)
        outputs.append(y)
    np.testing.assert_allclose(jnp.stack(outputs), model(x)[0], rtol=1e-10)
    assert dual_form(model, x).residual < 1e-12 and [name for name, _ in model.stages()][-1] == "readout"
    with pytest.raises(InputError, match="a plain model reads vectors"):
        sizes.language_model(5, key=jr.key(0))
    with pytest.raises(InputError, match="this task asks for one of a sequence"):
        sizes.sequence_model(3, 4, key=jr.key(0), pool="last")
    with pytest.raises(InputError, match="w has shape \\(4, 6\\); it must be \\(d_out, 5\\)"):
        models.Recurrent(model.layers, jnp.zeros((4, 6)))
    with pytest.raises(InputError, match="layer 2 takes tokens of width 5; what is below it gives 3"):
        models.Recurrent((mixers.TanhRNN.make(3, key=jr.key(0)), model.layers[1]), model.w)


def test_text_is_read_with_its_characters(tmp_path):
    """The weights of a model of text carry its characters, so that it can be asked in text."""
    (tmp_path / "text.txt").write_text("the cat sat on the mat. " * 40)
    recipe = Recipe(
        "text",
        str(tmp_path / "text.txt"),
        {"time": 8, "batch": 2},
        Architecture(("min_gru",), 4, 1, "none"),
        Recipe.of(SMALL).fit,
    )
    recipe.train(tmp_path / "run")
    loaded = checkpoints.load(tmp_path / "run")
    assert loaded.tokens is not None
    np.testing.assert_array_equal(loaded.tokens.encode(" .a"), [0, 1, 2])
    (tmp_path / "run" / "result.json").unlink()
    (tmp_path / "text.txt").write_text("the cat sat on the mat. " * 39 + "the mat sat on the cat. ")
    with pytest.raises(InputError, match="of other data: what training or measuring reads has changed since"):
        recipe.train(tmp_path / "run")
