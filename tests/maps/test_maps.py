"""Maps compose and add as functions do, and every shortcut of theirs gives what one pass for each token gives."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dualform.dual import freeze
from dualform.maps import Beside, Called, CausalMap, Centred, Identity, Linear, Masked, Scale, Turned
from tests.laws import laws
from tests.models.families import block

TIME = 7
X = laws.sequence(0, TIME)
START = jnp.arange(TIME) == 3
MASK = jnp.arange(TIME) != 5
NONE = jnp.zeros(TIME, bool)
R = jnp.stack([laws.sequence(1, TIME), laws.sequence(2, TIME)])


@eqx.filter_jit
def asked(module, x, state, start, mask):
    """What the shortcuts give, and what the defaults do."""
    map = freeze(module, x, state, start=start, mask=mask).map
    sources = jnp.asarray([6, 0, 3])
    found = map.columns(x, sources), map.project(x, R, 3), map.rows(x, sources, R[0][:3])
    return found, (CausalMap.columns(map, x, sources), CausalMap.project(map, x, R, 3))


def hold(module, state, name=""):
    """Columns, rows and projections of a module's map, packed, with an absent token and going on from a state."""
    for start, mask in ((START, ~NONE), (NONE, MASK), (START, MASK)):
        found, (columns, projected) = asked(module, laws.text_first(name, X), state, start, mask)
        laws.check_close(found[0], columns, laws.EXACT, "columns")
        laws.check_close(found[1], projected, laws.EXACT, "projections")
        rows = np.einsum("td,tsd->ts", np.asarray(R[0][:3]), np.asarray(columns).swapaxes(0, 1)[np.array([6, 0, 3])])
        laws.check_close(found[2][:, np.array([6, 0, 3])], rows, laws.EXACT, "rows")


@pytest.mark.parametrize("name", laws.registered("gla"))
def test_a_mixers_shortcuts(name):
    """Read off a closed form, or passed through `mix`."""
    mixer = laws.make(name)
    hold(mixer, laws.some_state(mixer, 0), name)


@pytest.mark.parametrize("name", laws.registered("lru"))
def test_a_blocks_shortcuts(name):
    """Norm, residual stream and MLP around a mixer: only the mixer is passed through for each token, or nothing at all."""
    module = block(name)
    hold(module, laws.some_state(module.mixer, 0), name)


def test_what_has_a_shortcut():
    """A block's is its mixer's; a Mamba has none where tokens are absent, a cell has none."""

    def direct(module, mask):
        found = []  # known as it is traced: no number is computed
        trace = lambda module, x: found.append(freeze(module, x, mask=mask).map.direct)
        eqx.filter_eval_shape(trace, module, X)
        return found[0]

    assert direct(laws.make("gla"), MASK) and direct(block("gla"), None)
    assert direct(laws.make("mamba"), None) and not direct(laws.make("mamba"), MASK)
    assert not direct(laws.make("gated_rnn"), None)


def test_maps_compose_and_add():
    """A product of maps is the composition of functions, a sum their sum; of pointwise ones both are pointwise."""
    scale, linear = Scale(X, X[:1]), Linear(X[:4, :4], X[0])
    turned = Turned(laws.attention(laws.make("gla"), X))
    both = scale @ turned + linear
    laws.check_same_bits(both(X), X * turned(X) + X[:1] + linear(X), "sum")
    assert (scale @ linear).pointwise and (scale + Identity()).pointwise and not both.pointwise
    laws.check_same_bits(Beside(scale, turned)(X), jnp.concatenate([scale(X), turned(X)], axis=1), "beside")
    laws.check_close(Centred("float32")(X), X - X.mean(1, keepdims=True), laws.ROUNDING, "centred")
    masked = Masked(MASK)(X.at[5].set(jnp.nan))
    assert not masked[5].any() and bool(jnp.isfinite(masked).all())


@pytest.mark.parametrize(
    "map",
    [Scale(X, X[:1]) @ Linear(X[:4, :4], X[0]), Identity() + Masked(MASK), Called(lambda v: jnp.cumsum(v, axis=0) + 1)],
    ids=["product", "sum", "function"],
)
def test_defaults_are_what_tokens_bring_alone(map):
    """Columns by their definition, and rows and projections from them; biases have no part in it."""
    columns = jnp.stack([map(jnp.where(jnp.arange(TIME)[:, None] == s, X, 0.0)) - map(0 * X) for s in range(TIME)])
    everyone = jnp.arange(TIME)
    laws.check_close(map.columns(X, everyone), columns, laws.ROUNDING, "columns")
    laws.check_close(map.project(X, R), jnp.einsum("htd,std->hts", R, columns), laws.ROUNDING, "projections")
    laws.check_close(map.rows(X, everyone, R[0]), jnp.einsum("td,std->ts", R[0], columns), laws.ROUNDING, "rows")
    laws.check_close(map.brought(X), columns.sum(0), laws.ROUNDING, "brought")
    pulled = map.pulled_back(X, R)
    laws.check_close(
        jnp.einsum("htd,td->h", pulled, X), jnp.einsum("htd,td->h", R, map.brought(X)), laws.ROUNDING, "pulled"
    )


def test_a_map_is_data():
    """A frozen mixer's map leaves a compiled program, and enters another, as any array does."""
    map = eqx.filter_jit(lambda x: freeze(laws.make("gla"), x).map)(X)
    y, _ = laws.make("gla")(X)
    laws.check_close(eqx.filter_jit(lambda map, v: map(v))(map, X), y, laws.EXACT, "y")
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree_util.tree_leaves(eqx.filter(map, eqx.is_array)))
