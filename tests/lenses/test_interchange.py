"""Interchange: what is exchanged is the other run's and nothing else is; an onion is a row of a dual form."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dualform.dual.layer import frozen_map
from dualform.errors import InputError
from dualform.lenses import Onion, Subspaces, interchange, onion_interchange, token_effects, trace
from dualform.mixers import GatedRNN
from dualform.models import Recurrent
from tests.laws import laws
from tests.models.families import D, language_model, tokens

X, SOURCE = tokens(0), tokens(1)
MODEL = language_model("gla", "griffin_recurrent")
BASIS = np.linalg.qr(np.random.default_rng(0).normal(size=(D, 3)))[0]
SYMBOLS, UNITS, TIME = 5, 4, 6


def test_all_that_passes_is_the_other_run():
    """Exchanged behind the last block without a subspace, the output is the other run's; of one token, that token's alone."""
    found = interchange(MODEL, X, SOURCE, "block 2.out")
    laws.check_close(found.y, found.source, laws.EXACT, "the source's output")
    assert found.moved == pytest.approx(1.0)
    one = interchange(MODEL, X, SOURCE, "block 2.out", token=4)
    laws.check_close(one.y[4], one.source[4], laws.EXACT, "that token")
    laws.check_close(one.y[:4], one.before[:4], laws.EXACT, "those before it")
    same = interchange(MODEL, X, X, "block 2.out", BASIS)
    laws.check_close(same.y, same.before, laws.EXACT, "a run with itself")
    assert same.moved == 0.0


def test_a_subspace_is_exchanged_and_its_complement_stays():
    """What stands at the place is the source's within the subspace and the base's outside of it, whatever spans it."""
    base, other = (trace(MODEL, x, record=("block 1.out",)).recorded["block 1.out"] for x in (X, SOURCE))
    inside = BASIS @ BASIS.T
    wanted = base @ (np.eye(D) - inside) + other @ inside
    found = interchange(MODEL, X, SOURCE, "block 1.out", BASIS @ np.diag([1.0, 2.0, -3.0]))
    laws.check_close(found.y, trace(MODEL, X, {"block 1.out": lambda _: wanted}).y, laws.EXACT, "the output")
    moved = np.linalg.norm((other - base) @ BASIS) / np.linalg.norm(other - base)
    assert found.moved == pytest.approx(float(moved))


def test_a_state_is_exchanged():
    """The whole state of the first block, exchanged after token 2: from there on it remembers what the other run read."""
    found = interchange(MODEL, X, SOURCE, "block 1.state@2")
    _, (state, _) = laws.call(MODEL, SOURCE[:3])
    laws.check_close(
        found.y, trace(MODEL, X, {"block 1.state@2": lambda _: state}).y, laws.EXACT, "the source's memory"
    )
    laws.check_close(found.y[:3], found.before[:3], laws.EXACT, "what was said before")
    assert np.asarray(found.y - found.before)[3:].any()


def linear_memory() -> tuple[Recurrent, Onion, np.ndarray]:
    """A gated RNN, h_t = lam * h_{t-1} + g(x_t), and the onion that its state after TIME tokens is."""
    random = np.random.default_rng(1)
    rnn = GatedRNN.make(SYMBOLS, key=jax.random.key(0), n=UNITS, m=3)
    # Without what it takes from the constant 1, a token of zero writes nothing.
    bare = lambda rnn: (rnn.w_m_in, rnn.w_x_in)
    rnn = eqx.tree_at(bare, rnn, tuple(w.at[:, -1].set(0) for w in bare(rnn)))
    embedding = rnn.value(jnp.eye(SYMBOLS))
    lam = rnn.decay
    model = Recurrent((rnn,), jnp.asarray(random.normal(size=(2, rnn.d_out))), None)
    zeros = jnp.zeros_like(lam)
    return model, Onion(embedding, 1 / lam, lam ** (TIME - 1), zeros, zeros), random.integers(0, SYMBOLS, TIME + 3)


def test_the_state_of_a_linear_recurrence_is_an_onion():
    """h = sum_p E[x_p] lam^(T-1-p): the scale of each place is a row of the dual form; exchanging a layer is reading another."""
    model, onion, read = linear_memory()
    one_hot = lambda symbols: jnp.eye(SYMBOLS)[jnp.asarray(symbols)]
    _, (state,) = laws.call(model, one_hot(read[:TIME]))
    laws.check_close(state, onion.stored(jnp.asarray(read[:TIME])), laws.EXACT, "the state")
    other = read.copy()
    other[2] = (read[2] + 1) % SYMBOLS
    found = onion_interchange(model, one_hot(read), f"layer 1.state@{TIME - 1}", onion, 2, int(read[2]), int(other[2]))
    wanted = laws.call(model, one_hot(other))[0]
    laws.check_close(found.y[TIME:], wanted[TIME:], laws.EXACT, "what follows")
    assert np.abs(np.asarray(found.y - laws.call(model, one_hot(read))[0]))[TIME:].max() > 1e-6
    # What the frozen map brings of one token to the state has the scale of its place: a row of the dual form.
    rnn, x = model.layers[0], one_hot(read[:TIME])
    frozen, x = frozen_map(rnn, x, rnn.init_state(), None, None)
    for place in (0, 3, TIME - 1):
        alone = jnp.zeros_like(x).at[place].set(x[place])
        brought = frozen.map.run(alone)[1] - frozen.map.run(jnp.zeros_like(x))[1]
        laws.check_close(brought, onion.layer(int(read[place]), place), laws.EXACT, f"token {place}")


def test_an_onion_is_found_in_closed_form():
    """Of vectors that are an onion, of lists of any length, every layer is found; of the lists of other vectors, none."""
    random = np.random.default_rng(3)
    gamma = np.array([0.9, 0.5, 0.25, 0.75])
    zeros = jnp.zeros(4)
    onion = Onion(jnp.asarray(random.normal(size=(6, 4))), jnp.asarray(gamma), zeros + 1, zeros + 0.1, zeros + 0.2)
    tokens = random.integers(1, 6, (4000, 5))
    tokens[np.arange(5)[None] >= random.integers(2, 6, 4000)[:, None]] = -1
    layers = np.asarray(
        jax.vmap(jax.vmap(onion.layer))(jnp.asarray(np.maximum(tokens, 0)), jnp.arange(5)[None].repeat(4000, 0))
    )
    h = np.sum(layers * (tokens >= 0)[:, :, None], axis=1)
    added = token_effects(h, tokens, 6)
    scales = np.asarray(jax.vmap(onion.scale)(jnp.arange(5)))
    embedding = np.asarray(onion.embedding)[1:]
    wanted = scales[:, None] * (embedding - embedding.mean(0))[None]
    np.testing.assert_allclose(added[:, 1:], wanted, atol=1e-10)
    assert not added[:, 0].any()
    found = Onion.explaining(added)
    np.testing.assert_allclose(found.gamma, gamma, atol=1e-6)
    moved = found.exchanged(jnp.asarray(h[0], jnp.float32), 1, int(tokens[0, 1]), 2)
    np.testing.assert_allclose(moved, onion.exchanged(jnp.asarray(h[0]), 1, int(tokens[0, 1]), 2), atol=1e-5)
    crossed = token_effects(h, random.permutation(tokens), 6)
    assert np.abs(crossed).mean() < 0.1 * np.abs(added).mean()


def test_subspaces_that_explain():
    """A memory with directions of its own for each place: they are found in closed form, and exchanging one place is exact."""
    random = np.random.default_rng(2)
    turned = np.linalg.qr(random.normal(size=(7, 7)))[0]
    codes = np.array([[-1.0, -1], [-1, 1], [1, -1], [1, 1]])
    labels = random.integers(0, 4, (4000, 3))
    store = lambda labels: np.einsum("npb,...pb->...n", turned[:, :6].reshape(7, 3, 2), codes[labels])
    found = Subspaces.explaining(store(labels), labels)
    assert np.bincount(np.asarray(found.chosen()), minlength=4).tolist() == [2, 2, 2, 1] and found.variables == 3
    base, source = (jnp.asarray(store(np.array(each)), jnp.float32) for each in ([0, 1, 2], [3, 3, 3]))
    mended = found.exchanged(base, source, jnp.array([False, True, False]))
    np.testing.assert_allclose(mended, store(np.array([0, 3, 2])), atol=0.1)
    overlap = np.linalg.svd(np.asarray(found.of(1)).T @ turned[:, 2:4])[1]
    assert overlap.min() > 0.995


def test_subspaces_learn_through_their_choice():
    """With Gumbel noise the choice is hard, and its gradient reaches what directions belong to."""
    made = Subspaces.make(4, 2, key=jax.random.key(0))
    base, source = jnp.zeros(4), jnp.ones(4)
    noise = jax.random.gumbel(jax.random.key(1), (4, 3))
    moved = jnp.array([True, False])

    def size(belongs):
        return jnp.sum(jnp.square(Subspaces(made.turned, belongs).exchanged(base, source, moved, noise)))

    assert np.abs(np.asarray(jax.grad(size)(made.belongs))).max() > 0
    hard = np.asarray(jnp.argmax(made.belongs + noise, 1)) == 0
    basis = np.asarray(made.basis())
    wanted = basis[:, hard] @ (basis[:, hard].T @ np.ones(4))
    np.testing.assert_allclose(made.exchanged(base, source, moved, noise), wanted, atol=1e-12)


ONION = linear_memory()[1]
BAD = {
    "lengths": (lambda: interchange(MODEL, X, X[:3], "block 1.out"), r"^x has 6 tokens and source 3; give as many\."),
    "place": (lambda: interchange(MODEL, X, X, "block 9.out"), r"^there is no place 'block 9\.out'"),
    "token": (
        lambda: interchange(MODEL, X, X, "block 1.out", token=6),
        r"^there is no token 6; there are 6, from 0 to 5",
    ),
    "token of a state": (
        lambda: interchange(MODEL, X, X, "block 1.state@2", token=2),
        r"^'block 1\.state@2' is a state, after one token; leave token out\.",
    ),
    "basis": (lambda: interchange(MODEL, X, X, "block 1.out", np.eye(3)), r"^the basis has shape \(3, 3\); it must be"),
    "dependent": (
        lambda: interchange(MODEL, X, X, "block 1.out", np.ones((D, 2))),
        r"^the columns of the basis are not independent",
    ),
    "no state": (lambda: onion_interchange(MODEL, X, "block 1.out", ONION, 0, 0, 1), r"^'block 1\.out' is no state"),
    "width": (
        lambda: onion_interchange(MODEL, X, "block 1.state@2", Onion.make(3, 3, key=jax.random.key(0)), 0, 0, 1),
        r"^'block 1\.state@2' has \d+ numbers, and the onion 3\.",
    ),
    "symbol": (
        lambda: onion_interchange(MODEL, X, "block 1.state@2", ONION, 0, 0, 5),
        r"^new is 5; the onion has tokens",
    ),
    "layer": (lambda: onion_interchange(MODEL, X, "block 1.state@2", ONION, -1, 0, 1), r"^place is -1"),
    "onion": (lambda: Onion(jnp.ones((3, 2)), *[jnp.ones(3)] * 4), r"^gamma has shape \(3,\); it must be \(2,\)"),
    "subspaces": (lambda: Subspaces(jnp.ones((3, 2)), jnp.ones((3, 2))), r"^turned has shape \(3, 2\)"),
    "variables": (lambda: Subspaces(jnp.ones((3, 3)), jnp.ones((3, 1))), r"^belongs has shape \(3, 1\)"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_exchanged_is_said(name):
    """A sentence for each."""
    ask, said = BAD[name]
    with pytest.raises(InputError, match=said):
        ask()
