"""Layers of layers: their equations, states and maps, what a call pays, and parts whose call is their own."""

from collections import Counter
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest

from dualform import dual_form
from dualform.errors import InputError
from dualform.layer import inside
from dualform.maps import Identity
from dualform.mixers import GRU
from dualform.models import RMSNorm
from dualform.models.chain import AbstractMade, Chain, Residual, Sum, core_of
from dualform.models.walk import AbstractAround
from tests.laws import laws
from tests.models.families import TIME, D, block, language_model, tokens

X = laws.sequence(0, TIME)
START, MASK = jnp.arange(TIME) == 3, jnp.arange(TIME) != 1


def test_side_by_side_in_a_residual_stream():
    """y = x + a(norm x) + b(norm x), two states, and one map that is the sum of theirs, also from a state with both flags."""
    norm, a, b = RMSNorm.make(D), laws.make("gla"), laws.make("min_gru")
    layer: Any = Residual(Chain((norm, Sum((a, b)))))
    y, state = laws.call(layer, X)
    normed = norm(X)[0]
    (y_a, state_a), (y_b, state_b) = laws.call(a, normed), laws.call(b, normed)
    laws.check_close((y, state), (X + y_a + y_b, (state_a, state_b)), laws.EXACT, "the layer")
    form = dual_form(layer, X, state, start=START, mask=MASK)
    assert form.residual < 1e-10 and form.kind == "frozen nonlinearity"
    assert core_of(layer).layers == (a, b) and core_of(Residual(Chain((norm, a)))) is a


class Mapless(AbstractAround):
    """A layer whose pass makes no map."""

    layer: Any

    def at(self, x, state, segments):
        return inside(self.layer, x, state, segments)._replace(map=Identity())


def mapless(layer: Any) -> Any:
    """A layer no part of which makes a map."""
    if not isinstance(layer, AbstractMade):
        return Mapless(layer)
    for part in layer.parts():
        layer = part.put(layer, mapless(part.of(layer)))
    return layer


def operations(module: Any, x: Any, **flags: Any) -> Counter[str]:
    """How many operations of each kind a call is compiled from."""
    arrays, rest = eqx.partition(module, eqx.is_array)
    text = jax.jit(lambda arrays, x: eqx.combine(arrays, rest)(x, **flags)).lower(arrays, x).as_text()
    return Counter(line.split(" = ")[1].split(" ")[0] for line in text.splitlines() if " = " in line)


@pytest.mark.parametrize("norm", ["rms", "layer"])
@pytest.mark.parametrize("mlp", ["swiglu", "gelu"])
def test_a_blocks_call_pays_for_no_map(norm, mlp):
    """The program of a block's call has the operations of one that makes no map, and no others."""
    made = block("gla", norm=norm, mlp=mlp)
    assert operations(made, X) == operations(mapless(made), X)


def test_a_models_call_pays_for_no_map():
    """So has a language model's."""
    model = language_model("gla", "softmax_attention")
    bare = eqx.tree_at(lambda m: (m.blocks, m.norm), model, (tuple(map(mapless, model.blocks)), Mapless(model.norm)))
    assert operations(model, tokens(0)) == operations(bare, tokens(0))


class Tripled(RMSNorm):
    """A norm whose call is its own."""

    def __call__(self, x, state=None, *, start=None, mask=None) -> Any:
        y, after = super().__call__(x, state, start=start, mask=mask)
        return 3 * y, after


def test_a_parts_own_call_is_called():
    """A part whose class has a call of its own gives what that gives, and the certificate shows the difference."""
    made: Any = block("min_gru", mlp=None)
    other = eqx.tree_at(lambda made: made.norm, made, Tripled(made.norm.weight))
    expected = X + laws.call(made.mixer, 3 * made.norm(X)[0])[0]
    laws.check_close(laws.call(other, X)[0], expected, laws.EXACT, "its own call")
    assert dual_form(other, X).residual > 1e-2


BAD = {
    "no layer": (lambda: Chain(()), "a chain needs at least one layer"),
    "no summand": (lambda: Sum(()), "a sum needs at least one layer"),
    "a narrower one": (
        lambda: Residual(GRU.make(D, n=3, key=jax.random.key(0)))(X),
        "what is added to tokens of width 4 must be as wide; the layer gives 3",
    ),
    "two widths": (
        lambda: Sum((RMSNorm.make(D), GRU.make(D, n=3, key=jax.random.key(0))))(X),
        "layers of a sum give widths of 4 and 3; they must be one",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_does_not_fit(unchecked, case):
    """The widths are named."""
    make, message = BAD[case]
    with pytest.raises(InputError, match=message):
        make()
