"""A layer's form on demand: blocks, rows, channels, shares and lengths are those of the whole."""

import base64
import functools
import re

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from dualform import dual_form
from dualform.dual import layer_form, model_form, to_circuitsvis
from dualform.dual.views import MOST_SHOWN, as_html
from dualform.errors import InputError
from dualform.maps.attention_map import MOST_HEADS
from dualform.models import LanguageModel
from tests.laws import laws
from tests.models.families import block

X = laws.sequence(0, 7)
START = jnp.arange(7) == 3
MIXER = laws.make("gla")
FORM = functools.cache(lambda: layer_form(MIXER, X, start=START, block=3))
WHOLE = functools.cache(lambda: dual_form(MIXER, X, start=START))


def test_a_mixers_form_is_its_dual_form():
    """Contributions, bias, shares and weights of a mixer are those of `dual_form`, three source tokens at a time."""
    laws.check_close(FORM().contributions(), np.asarray(WHOLE().contributions), laws.EXACT, "contributions")
    laws.check_close(FORM().bias, WHOLE().bias, laws.EXACT, "bias")
    laws.check_close(FORM().shares(heads=2), np.asarray(WHOLE().aggregate(2)), laws.EXACT, "shares")
    laws.check_close(FORM().norms(), np.asarray(jnp.linalg.norm(WHOLE().contributions, axis=2)), laws.EXACT, "lengths")
    laws.check_close(FORM().weights, np.asarray(WHOLE().weights), laws.EXACT, "weights")
    assert FORM().check() <= laws.EXACT and FORM().residual <= laws.EXACT and FORM().kind == WHOLE().kind


def test_rows_come_from_the_transpose():
    """A few rows and channels, by backward passes, are those of the whole, by forward passes."""
    rows, channels = [5, -1], [2]
    expected = np.asarray(WHOLE().contributions)[rows][:, :, channels]
    laws.check_close(FORM().contributions(rows, channels), expected, laws.EXACT, "contributions")
    laws.check_close(FORM().shares([6]), np.asarray(WHOLE().aggregate())[:, [6]], laws.EXACT, "shares")


@pytest.mark.slow
def test_a_mambas_block_in_closed_form():
    """The whole map of a block around Mamba is that of one pass for each token: convolution, skip, gate, norm and MLP."""
    module = block("mamba")
    form = layer_form(module, X, laws.some_state(module.mixer, 0), start=START)
    parts = form.contributions().reshape(7, 7, 2, 2), np.asarray(form.y).reshape(7, 2, 2)
    expected = np.einsum("tshd,thd->hts", *parts) / np.sum(parts[1] ** 2, axis=2).T[:, :, None]
    laws.check_close(form.shares(heads=2), expected, laws.EXACT, "shares")
    assert form.weights.shape == (8, 7, 7) and form.inner.name == "Block.mixer"


@pytest.mark.slow
def test_a_sequence_of_many_tokens_is_read_by_rows():
    """2,048 tokens, whose contributions would be 2 GB: two rows of them, and the certificate."""
    form = layer_form(laws.make("gla", d=64), laws.sequence(0, 2048, 64).astype(jnp.float32) / 8)
    found = form.contributions([2047, 1000], [0, 63])
    assert found.shape == (2, 2048, 2) and not found[1, 1001:].any()
    total = found.sum(1) + np.asarray(form.bias)[np.array([2047, 1000])][:, np.array([0, 63])]
    laws.check_close(total, np.asarray(form.y)[np.array([2047, 1000])][:, np.array([0, 63])], 1e-4, "rows")
    assert form.residual < 1e-5


def test_more_maps_than_can_be_seen():
    """A mixer with a map for each of more than 64 channels shows its aggregate."""
    form = layer_form(laws.make("hgrn", d=MOST_HEADS + 1), laws.sequence(0, 3, MOST_HEADS + 1))
    laws.check_same_bits(form.weights, form.shares(), "weights")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: layer_form(MIXER, X, block=0), "block is 0; it must be at least 1 token"),
        (lambda: FORM().contributions([7]), "row 7 does not exist; there are 7, from 0 to 6"),
        (lambda: FORM().contributions([0], [4]), "channel 4 does not exist; there are 4"),
        (lambda: FORM().contributions(np.zeros(2)), "rows must be whole numbers in one list; got float64"),
        (lambda: FORM().shares(heads=3), "3 heads do not divide the output width of 4"),
        (lambda: to_circuitsvis(FORM(), ["a"]), "1 tokens are given; the form has 7"),
    ],
)
def test_bad_input(unchecked, call, message):
    """What does not exist is named."""
    with pytest.raises(InputError, match=message):
        call()


def test_forms_show_themselves_in_a_notebook():
    """A picture without a script, and the certificate in words; of many layers the first alone."""
    model = model_form(LanguageModel.make((block("gla"),), 8, key=jr.key(0)), jnp.arange(5))
    for form, said in ((FORM(), "of the maps"), (WHOLE(), "of the maps"), (model, "a model of 2 stages over 5 tokens")):
        page = form._repr_html_()
        assert f"residual against its own call {float(form.residual):.1e}" in page and said in page
        data = base64.b64decode(re.findall(r'src="data:image/png;base64,([^"]+)"', page)[0])
        assert data.startswith(b"\x89PNG") and "<script" not in page
    assert f"first {MOST_SHOWN} of 5 layers are drawn" in as_html([FORM()] * 5, "deep", FORM().kind, FORM().residual)
