"""What a config.json says is read, must be so, changes nothing, or is refused by its name: there is no fifth thing."""

from types import ModuleType
from typing import Any

import jax
import numpy as np
import pytest

from dualform.checkpoints.layouts import LAYOUTS, layout_of
from dualform.checkpoints.layouts.config import MOST, Config, Form, Key, read_json
from dualform.checkpoints.layouts.config import same as same_value
from dualform.checkpoints.layouts.tensors import Tensors
from dualform.errors import FileError
from dualform.tensor_file import read_tensors
from tests.checkpoints.test_load import DATA

NAMES = sorted(path.name for path in DATA.iterdir() if (path / "config.json").is_file())


def stored(name: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The tensors and the config of a stored checkpoint."""
    arrays: dict[str, np.ndarray] = {}
    for path in sorted((DATA / name).glob("model*.safetensors")):
        arrays |= read_tensors(path)[0]
    return arrays, read_json(DATA / name / "config.json")[0]


def same(one: Any, other: Any) -> bool:
    """Whether two models are one: settings and bits."""
    leaves, others = jax.tree.leaves(one), jax.tree.leaves(other)
    return jax.tree.structure(one) == jax.tree.structure(other) and all(
        np.asarray(a).tobytes() == np.asarray(b).tobytes() for a, b in zip(leaves, others, strict=True)
    )


def made(arrays: dict[str, np.ndarray], fields: dict[str, Any]) -> Any:
    """The model of these tensors and this config."""
    layout, config = layout_of(fields, arrays, "config.json")
    tensors = Tensors(arrays, "the file", layout.KIND)
    model = layout.build(tensors, config)
    tensors.finish()
    return model


def form_of(fields: dict[str, Any], arrays: dict[str, np.ndarray]) -> Form:
    return layout_of(fields, arrays, "config.json")[1].form


def put(fields: dict[str, Any], name: str, value: Any) -> dict[str, Any]:
    """The config with a key changed, within an object where its name has a dot."""
    outer, dot, inner = name.partition(".")
    return fields | {outer: ((fields.get(outer) or {}) | {inner: value}) if dot else value}


EVERY = [(layout, form) for layout in LAYOUTS for form in layout.FORMS]


@pytest.mark.parametrize("text", ['{"a": 1, "a": 2}', '{"b": {"a": true, "a": 1}}', '[[{"a": 1, "a": null}]]'])
def test_a_key_is_said_once(text, tmp_path):
    """A file that says two things under one name is refused; one that says one thing twice is read."""
    path = tmp_path / "config.json"
    path.write_text(text if text.startswith("{") else f'{{"list": {text}}}')
    with pytest.raises(FileError, match='says "a" twice, differently. Leave out the one that is not meant'):
        read_json(path)
    path.write_text('{"a": 1, "a": 1.0, "b": {"a": 2}}')
    assert read_json(path)[0] == {"a": 1, "b": {"a": 2}}


@pytest.mark.parametrize("layout, form", EVERY, ids=lambda each: getattr(each, "KIND", getattr(each, "library", "")))
def test_each_key_is_declared_once(layout: ModuleType, form: Form):
    """No form has a name twice, and every default, and what a key must be, is a value that the key may have."""
    names = [name for key in form.keys for name in (key.name, *key.also)]
    assert len(names) == len(set(names)) and len({key.asked for key in form.keys}) == len(form.keys)
    for key in form.keys:
        assert key.default is None or key.kind.fits(key.default), key.name
        assert (key.why != "") == (key.role == "ignored"), key.name


@pytest.mark.parametrize("name", NAMES)
def test_what_may_be_ignored_changes_nothing(name):
    """Every key that a form ignores, all at once with a value of another kind, leaves the model to the bit."""
    arrays, fields = stored(name)
    changed = fields
    for key in form_of(fields, arrays).keys:
        if key.role == "ignored" and key.name != "eos_token_id":
            changed = put(changed, key.name, {"another": [1]})
    assert same(made(arrays, changed), made(arrays, fields))


@pytest.mark.parametrize("name", NAMES)
def test_what_must_be_so_is_refused_otherwise(name):
    """Every key that has one value here, set to another, is refused by its name; so is a key that nobody knows."""
    arrays, fields = stored(name)
    form = form_of(fields, arrays)
    for key in form.keys:
        for said in (key.name, *key.also) if key.role == "fixed" else ():
            for value in ("another", 7.5, {"x": 1}):
                with pytest.raises(FileError, match=rf"says {said} .*; what can be read here needs"):
                    made(arrays, put(fields, said, value))
    for value in (0, False, 3, "on", [], {"a": None}):
        with pytest.raises(FileError, match="says no_such_key .*, a key that is not known here of a .* of"):
            made(arrays, fields | {"no_such_key": value})
    assert same(made(arrays, fields | {"no_such_key": None}), made(arrays, fields))


WITHOUT_EFFECT = {
    "mistral": {"max_position_embeddings"},  # its window is smaller
    "qwen2": {"use_sliding_window", "sliding_window", "max_window_layers", "layer_types"},  # none of two layers slides
    "gla_plain": {"num_kv_heads"},  # as many as heads, said or not
    "rwkv4": {"rescale_every"},  # it has fewer layers
}
FULL = ("mamba", "mamba2", "rwkv4", "recurrent_gemma", "llama", "mistral", "qwen2", "gla", "hgrn2", "gsa")


def others(key: Key, value: Any) -> list[Any]:
    """Two other values that a key may have."""
    drawn = (1, 7, 40, 0.25, 0.5, 1.5, True, False, ["attention"], ["full_attention"], "auto")
    return [each for each in drawn if key.kind.fits(each) and not same_value(each, value)][:2]


@pytest.mark.parametrize("name", FULL)
def test_what_is_read_counts(name):
    """Every key that is read, with any other value that it may have, is refused or makes another model."""
    arrays, fields = stored(name)
    whole = made(arrays, fields)
    for key in form_of(fields, arrays).keys:
        if (
            key.role != "read"
            or key.name in ("model_type", "architectures")
            or key.name in WITHOUT_EFFECT.get(name, ())
        ):
            continue
        value = Config(fields, "config.json", form_of(fields, arrays), "model")[key.asked]
        for other in others(key, value):
            if key.name == "rope_theta":
                changed = put(
                    {**fields, "rope_parameters": dict(fields["rope_parameters"])}, "rope_parameters.rope_theta", other
                )
            elif key.name == "partial_rotary_factor":
                changed = put(fields, "rope_parameters.partial_rotary_factor", other)
            else:
                changed = put(fields, key.name, other)
            try:
                model = made(arrays, changed)
            except (FileError, ValueError):
                continue
            assert not same(model, whole), (key.name, value, other)


IMPOSSIBLE = {
    "rms_norm_eps": (-1e-6, float("nan"), float("inf"), "1e-6", True, None),
    "rope_parameters.rope_theta": (0, -1.0, float("inf"), 10**40),
    "max_position_embeddings": (0, -1, 10**30, 1e30, 2048.0, True, MOST + 1),
    "num_attention_heads": (0, -4, 10**30, "4"),
    "num_hidden_layers": (0, -2, 10**30, None),
    "vocab_size": (0, 10**30),
    "tie_word_embeddings": (1, "false", None),
    "attention_bias": (0, "no"),
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_numbers_that_no_model_has_are_refused(name):
    """Negative epsilons, a base of 0, 10^30 tokens, true for a number: each is refused by its name."""
    arrays, fields = stored("llama")
    for value in IMPOSSIBLE[name]:
        with pytest.raises(FileError, match=f"says {name} "):
            made(arrays, put(fields, name, value))


def test_two_names_of_one_thing_must_agree():
    """A window said by its two names, an angle's base in two places, angles in two objects: the same, or refused."""
    arrays, fields = stored("recurrent_gemma")
    assert same(made(arrays, fields | {"sliding_window": 5}), made(arrays, fields))
    with pytest.raises(FileError, match="says attention_window_size 5 and sliding_window 3, which are one thing"):
        made(arrays, fields | {"sliding_window": 3})
    alone = {key: value for key, value in fields.items() if key != "attention_window_size"}
    assert made(arrays, alone | {"sliding_window": 3}).blocks[2].mixer.window == 3
    arrays, fields = stored("smollm")
    for scaling in ({}, None, fields["rope_parameters"], {"rope_type": "default", "rope_theta": 100}):
        assert same(made(arrays, fields | {"rope_scaling": scaling}), made(arrays, fields))
    with pytest.raises(FileError, match="says rope_parameters.rope_theta 100.0 and rope_theta 5, which are one thing"):
        made(arrays, fields | {"rope_theta": 5})
    with pytest.raises(FileError, match="needs those of rope_scaling, or no rope_scaling"):
        made(arrays, fields | {"rope_scaling": {"rope_type": "default"}})


ROTARY: dict[str, Any] = {
    "type": {"type": "linear", "factor": 4.0},
    "rope_type": {"rope_type": "llama3", "factor": 8.0},
    "factor": {"factor": 4.0},
    "full_attention": {"full_attention": {"rope_type": "default", "rope_theta": 1e4}},
    "mrope_section": {"type": "default", "mrope_section": [1, 1]},
}


@pytest.mark.parametrize("name", ROTARY)
def test_scaled_angles_are_refused(name):
    """By the newer key or the older, without a type, by layer, or in parts: as rope_parameters and as rope_scaling."""
    for within in ("rope_parameters", "rope_scaling"):
        for checkpoint in ("llama", "mistral", "qwen2", "recurrent_gemma"):
            arrays, fields = stored(checkpoint)
            with pytest.raises(FileError, match=f"says {within}.{name} "):
                made(arrays, fields | {"rope_parameters": None, within: ROTARY[name]})
    arrays, fields = stored("llama")
    for value in ({"rope_type": "default"}, {"type": "default"}, {"type": "default", "factor": 1.0}, {}):
        found = made(arrays, {**fields, "rope_parameters": None, "rope_scaling": value})
        assert same(found, made(arrays, fields))


def said_by_fla(fields: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A config of transformers' Mamba or Mamba-2 as flash-linear-attention would say it."""
    drop = ("layer_norm_epsilon", "use_associative_scan", "use_mambapy")
    kept = {k: v for k, v in fields.items() if not k.startswith("time_step") and k not in drop}
    return kept | {"norm_eps": fields["layer_norm_epsilon"], "fuse_norm": True, "dt_min": 0.001} | more


def test_other_libraries_keys_are_understood():
    """fla's and the authors' configs of one model give the model of transformers' config, or are refused by a key's name."""
    arrays, fields = stored("mamba")
    whole = made(arrays, fields)
    assert same(made(arrays, said_by_fla(fields)), whole)
    assert made(arrays, said_by_fla(fields, norm_eps=0.3)).norm.epsilon == 0.3
    with pytest.raises(FileError, match="norm_eps 0.3, a key that is not known here of a Mamba of transformers"):
        made(arrays, fields | {"norm_eps": 0.3})
    authors = {"d_model": 16, "n_layer": 2, "vocab_size": 22, "ssm_cfg": {}, "rms_norm": True, "residual_in_fp32": True}
    authors |= {"fused_add_norm": True, "pad_vocab_size_multiple": 23}
    assert same(made(arrays, authors), whole)
    assert same(made(arrays, authors | {"ssm_cfg": {"layer": "Mamba1", "d_state": 3, "dt_rank": "auto"}}), whole)
    for change, message in (
        ({"vocab_size": 24}, "says vocab_size 24, and the tensors have 23"),
        ({"ssm_cfg": {"d_state": 4}}, "says ssm_cfg.d_state 4, and the tensors have 3"),
        ({"ssm_cfg": {"unheard": 4}}, "says ssm_cfg.unheard 4, a key that is not known here"),
        ({"rms_norm": False}, "says rms_norm false"),
        ({"attn_layer_idx": [1]}, "says attn_layer_idx"),
        ({"tie_embeddings": False}, "lacks lm_head.weight"),
    ):
        with pytest.raises(FileError, match=message):
            made(arrays, authors | change)
    untied, fields = stored("mamba_untied")
    authors |= {"ssm_cfg": {"expand": 3, "d_state": 2, "dt_rank": 2, "conv_bias": False}, "tie_embeddings": False}
    assert same(made(untied, authors), made(untied, fields))


def test_other_libraries_mamba2_is_understood_or_refused():
    """fla's norm before the gate, limits and groups are refused; its epsilon is read; the authors' config is read."""
    arrays, fields = stored("mamba2")
    fla = said_by_fla(fields, dt_limit=[0.0, float("inf")], norm_before_gate=False, rmsnorm=True, D_has_hdim=False)
    with pytest.raises(FileError, match="says n_groups 2; what can be read here needs 1"):
        made(arrays, fla)
    # The same tensors with one group of twice the states: another model, and a whole one.
    one = fla | {"n_groups": 1, "state_size": 10, "norm_eps": 0.3}
    assert made(arrays, one).blocks[0].mixer.epsilon == made(arrays, one).norm.epsilon == 0.3
    for change in ({"dt_limit": [0.01, 0.1]}, {"norm_before_gate": True}, {"rmsnorm": False}, {"D_has_hdim": True}):
        with pytest.raises(FileError, match=f"says {next(iter(change))} "):
            made(arrays, one | change)
    assert same(made(arrays, fields | {"norm_before_gate": True}), made(arrays, fields))  # transformers' own
    authors = {"d_model": 16, "n_layer": 2, "vocab_size": 23, "pad_vocab_size_multiple": 1, "tie_embeddings": False}
    authors |= {"ssm_cfg": {"layer": "Mamba2", "d_state": 10, "headdim": 8}}
    found = made(arrays, authors)
    assert same(found, made(arrays, one | {"norm_eps": 1e-5}))


def test_a_config_without_a_model_type_is_read_by_its_architectures():
    """A Mistral's window is not lost with its model_type, and a class that is another's is refused."""
    arrays, fields = stored("mistral")
    del fields["model_type"]
    assert made(arrays, fields).blocks[0].mixer.window == 5
    for classes in (["GraniteForCausalLM"], ["MistralForSequenceClassification"]):
        with pytest.raises(FileError, match="which cannot be read here"):
            made(arrays, fields | {"architectures": classes})
        with pytest.raises(FileError, match="says architectures .*; what can be read here needs a list of"):
            made(arrays, fields | {"model_type": "mistral", "architectures": classes})


def test_rescaling_is_in_the_epsilons():
    """Halved every layer, the norms' epsilon counts 4^i; the authors' model is the one that is never halved."""
    arrays, fields = stored("rwkv4")
    epsilons = lambda every: [b.norm.epsilon for b in made(arrays, fields | {"rescale_every": every}).blocks]
    assert epsilons(0) == epsilons(-1) == epsilons(6) == [1e-4] * 4
    assert epsilons(1) == [1e-4, 1e-4, 4e-4, 4e-4]
    assert [made(arrays, fields | {"rescale_every": n}).norm.epsilon for n in (1, 2, 6)] == [16e-5, 4e-5, 1e-5]


def test_one_number_of_a_config_of_any_form():
    """Without a form nothing is known of a file's keys: a number is asked for by its name, and is one or is refused."""
    config = Config({"epsilon": 10**20, "base": "ten", "many": 10**400, "none": None, "nan": float("nan")}, "'c.json'")
    assert config.number("epsilon", 1e-5) == 1e20 and config.number("none", 2) == config.number("other", 2) == 2.0
    for name in ("base", "many", "nan"):
        with pytest.raises(FileError, match=f"'c.json' says {name} .*; what can be read here needs a number, below"):
            config.number(name, 1.0)
