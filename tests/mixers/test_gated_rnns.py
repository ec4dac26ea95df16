"""The three gated RNNs against explicit loops over tokens, and what their constructors say to weights that do not fit."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dualform import dual_form
from dualform.errors import InputError
from dualform.mixers import DenseGatedRNN, GatedRNN, SideGatedRNN
from tests.laws import laws

TIME, D, N, M, D_OUT = 6, 4, 5, 3, 2
START, MASK = jnp.array([0, 0, 1, 0, 1, 0], bool), jnp.array([1, 1, 0, 1, 1, 1], bool)
GATED = {"w_m_in": (N, D + 1), "w_x_in": (N, D + 1), "w_m_out": (M, N), "w_x_out": (M, N), "readout": (D_OUT, M)}
SIDE = {"w_m_in": (N, D), "w_x_in": (N, D), "w_side": (N, D), "readout": (D_OUT, N)}
DECAY = np.array([0.0, 0.25, 0.5, 0.9, 1.0])


def draw(shapes: dict) -> dict:
    random = np.random.default_rng(0)
    return {name: random.normal(size=shape) for name, shape in shapes.items()}


def hidden(drive: np.ndarray, transition: np.ndarray) -> np.ndarray:
    """h after each token: h is updated by x_t first, and read then."""
    h, met = np.zeros(len(transition)), []
    for drive_t in drive:
        h = transition @ h + drive_t
        met.append(h)
    return np.stack(met)


def gated_loop(x, w, transition) -> np.ndarray:
    """Eq. 2 with 1 appended to x and nothing to h."""
    z = np.concatenate([x, np.ones((len(x), 1))], axis=1)
    h = hidden((z @ w["w_m_in"].T) * (z @ w["w_x_in"].T), transition)
    return ((h @ w["w_m_out"].T) * (h @ w["w_x_out"].T)) @ w["readout"].T


X = np.random.default_rng(1).normal(size=(TIME, D))


def outputs(mixer) -> np.ndarray:
    return np.asarray(mixer(jnp.asarray(X))[0])


def test_gated_rnn_is_equation_2():
    """h_t = lam h_{t-1} + g_in(x_t), y_t = D g_out(h_t): h is updated before it is read; trained decays are exp(-exp(nu))."""
    w, nu = draw(GATED), np.linspace(-3, 1, N)
    found = outputs(GatedRNN(**w, nu=nu))
    laws.check_close(found, gated_loop(X, w, np.diag(np.exp(-np.exp(nu)))), laws.ROUNDING, "trained decays")
    laws.check_close(outputs(GatedRNN(**w, decay=DECAY)), gated_loop(X, w, np.diag(DECAY)), laws.ROUNDING, "given ones")


def test_dense_gated_rnn_is_the_loop():
    """Any transition, by the loop; a diagonal one is `GatedRNN`, in outputs and contributions where its decays are equal."""
    w, a = draw(GATED), np.random.default_rng(2).normal(size=(N, N)) / 3
    laws.check_close(
        outputs(DenseGatedRNN(transition=a, **w)), gated_loop(X, w, a), laws.ROUNDING, "a dense transition"
    )
    laws.check_close(
        outputs(DenseGatedRNN(transition=np.diag(DECAY), **w)),
        outputs(GatedRNN(**w, decay=DECAY)),
        laws.ROUNDING,
        "diagonal",
    )
    equal, x = np.full(N, 0.5), jnp.asarray(X)
    dense, diagonal = (
        dual_form(m, x) for m in (DenseGatedRNN(transition=np.diag(equal), **w), GatedRNN(**w, decay=equal))
    )
    laws.check_close(dense.contributions, diagonal.contributions, laws.ROUNDING, "contributions")


@pytest.mark.parametrize("decay", [None, DECAY], ids=["a plain sum", "given decays"])
def test_side_gated_rnn_is_the_loop(decay):
    """h_t = lam h_{t-1} + (W_m x) * (W_x x), y_t = D (h_t * W x_t); lam is 1 where no decay is given."""
    w = draw(SIDE)
    h = hidden((X @ w["w_m_in"].T) * (X @ w["w_x_in"].T), np.eye(N) if decay is None else np.diag(decay))
    expected = (h * (X @ w["w_side"].T)) @ w["readout"].T
    laws.check_close(outputs(SideGatedRNN(**w, decay=decay)), expected, laws.ROUNDING, "outputs")


@pytest.mark.parametrize(
    "mixer",
    [GatedRNN(**draw(GATED), decay=DECAY), SideGatedRNN(**draw(SIDE)), SideGatedRNN(**draw(SIDE), decay=DECAY)],
    ids=["gated, decays 0 to 1", "side gated, a sum", "side gated, decays 0 to 1"],
)
def test_the_laws_hold_for_given_decays(mixer):
    """What holds for trained decays holds for given ones, 0 and 1 included, and for rectangular readouts."""
    x, state = laws.sequence(1, TIME), laws.some_state(mixer, 0)
    laws.steps_give_the_parallel_form(mixer, x, 2)
    laws.nothing_comes_from_the_future(mixer, x, 3, seed=0)
    laws.contributions_sum_to_the_output(mixer, x, state, START, MASK)
    laws.absent_tokens_change_nothing(mixer, x, state, MASK)
    laws.absent_tokens_leave_no_gradient(mixer, x, state, MASK)
    laws.packed_documents_stay_apart(mixer, x, state, START)


def test_products_are_credited_to_the_unit_that_remembers():
    """A product of a unit at 1 and a unit at 0 belongs to the tokens that the first remembers, not to the one being read."""
    one = jnp.array([[0.0, 1.0]])  # (x, 1) -> 1
    token = jnp.array([[1.0, 0.0]])  # (x, 1) -> x
    pick = lambda unit: jnp.eye(2)[unit][None]
    rnn = GatedRNN(
        w_m_in=jnp.concatenate([token, token]),
        w_x_in=jnp.concatenate([one, one]),
        w_m_out=pick(0),
        w_x_out=pick(1),
        readout=jnp.ones((1, 1)),
        decay=jnp.array([1.0, 0.0]),
    )
    x = jnp.array([[1.0], [2.0], [3.0]])
    form = dual_form(rnn, x)  # y_t = (sum of x up to t) x_t
    assert form.contributions[:, :, 0].tolist() == [[1.0, 0.0, 0.0], [2.0, 4.0, 0.0], [3.0, 6.0, 9.0]]


def test_width_and_decay_properties():
    """d_in, d_out and decay say what the weights say."""
    gated, side = GatedRNN(**draw(GATED), decay=DECAY), SideGatedRNN(**draw(SIDE))
    dense = DenseGatedRNN(transition=np.eye(N), **draw(GATED))
    assert [(m.d_in, m.d_out) for m in (gated, dense, side)] == [(D, D_OUT)] * 3
    assert gated.decay.tolist() == DECAY.tolist() and side.decay.tolist() == [1.0] * N


def test_an_ensemble_is_made_under_vmap():
    """Constructors check what they can see, so eqx.filter_vmap over keys makes a sweep of networks."""
    keys = jax.random.split(jax.random.key(0), 2)
    many = eqx.filter_vmap(lambda key: GatedRNN.make(D, key=key, n=N, m=M))(keys)
    one = GatedRNN.make(D, key=keys[1], n=N, m=M)
    laws.check_close(jax.tree_util.tree_map(lambda a: a[1], many), one, laws.ROUNDING, "the second network")


def test_a_traced_decay_is_not_looked_at():
    """Under jit a given decay has no value yet, and is taken as it is."""
    w = {name: jnp.asarray(value) for name, value in draw(GATED).items()}
    y = eqx.filter_jit(lambda decay: GatedRNN(**w, decay=decay)(jnp.asarray(X))[0])(jnp.asarray(DECAY))
    laws.check_close(np.asarray(y), gated_loop(X, w, np.diag(DECAY)), laws.ROUNDING, "under jit")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            1.2,
            r"lambda has an entry of 1.2 at unit 3; it must lie in \[0, 1\]. Clip it, or train with exp",
        ),
        (-0.5, "lambda has an entry of -0.5 at unit 3"),
        (np.nan, "lambda has an entry of nan at unit 3"),
        (np.inf, "lambda has an entry of inf at unit 3"),
    ],
)
@pytest.mark.parametrize(("kind", "shapes"), [(GatedRNN, GATED), (SideGatedRNN, SIDE)], ids=["gated", "side gated"])
def test_decays_outside_the_unit_interval(kind, shapes, value, message):
    """A decay outside [0, 1] is named, with its unit and the cure."""
    decay = DECAY.copy()
    decay[3] = value
    with pytest.raises(InputError, match=message):
        kind(**draw(shapes), decay=decay)


@pytest.mark.parametrize("decays", [{}, {"nu": DECAY, "decay": DECAY}], ids=["neither", "both"])
def test_gated_rnn_wants_one_kind_of_decay(decays):
    """Neither or both of nu and decay is refused."""
    with pytest.raises(InputError, match=r"give exactly one of nu \(trained decays\) and decay \(fixed ones\)"):
        GatedRNN(**draw(GATED), **decays)


def test_side_gated_rnn_wants_at_most_one_kind_of_decay():
    """Both of nu and decay is refused; neither is a plain sum."""
    with pytest.raises(InputError, match="give at most one of nu"):
        SideGatedRNN(**draw(SIDE), nu=DECAY, decay=DECAY)


MISFITS = [
    (
        GatedRNN,
        GATED,
        "w_x_in",
        (N, D),
        r"w_x_in has shape \(5, 4\); it must be \(5, 5\): \(n, d\+1\), where n is 5 in w_m_in",
    ),
    (
        GatedRNN,
        GATED,
        "w_m_out",
        (M, N + 1),
        r"w_m_out has shape \(3, 6\); it must be \(3, 5\): \(m, n\), where m is 3 in w_x_out",
    ),
    (GatedRNN, GATED, "readout", (M,), r"readout has shape \(3,\); it must be \(d_out, 3\)"),
    (GatedRNN, GATED, "decay", (N + 1,), r"given_decay has shape \(6,\); it must be \(5,\), or None"),
    (DenseGatedRNN, GATED, "transition", (N, N + 1), r"transition has shape \(5, 6\); it must be \(5, 5\): \(n, n\)"),
    (DenseGatedRNN, GATED, "w_x_out", (M + 1, N), r"w_x_out has shape \(4, 5\); it must be \(3, 5\)"),
    (DenseGatedRNN, GATED, "w_m_in", (N,), r"w_m_in has shape \(5,\); it must be \(5, 5\): \(n, d\+1\)"),
    (SideGatedRNN, SIDE, "w_side", (N, D + 1), r"w_side has shape \(5, 5\); it must be \(5, 4\)"),
    (SideGatedRNN, SIDE, "readout", (D_OUT, N + 1), r"readout has shape \(2, 6\); it must be \(d_out, 5\)"),
    (SideGatedRNN, SIDE, "nu", (N, 1), r"nu has shape \(5, 1\); it must be \(5,\), or None"),
]


@pytest.mark.parametrize(("kind", "shapes", "name", "shape", "message"), MISFITS, ids=lambda v: str(v)[:20])
def test_weights_that_do_not_fit(unchecked, kind, shapes, name, shape, message):
    """Each weight that does not fit is named, with the shapes that were given and those that are needed."""
    decays = {GatedRNN: {"decay": DECAY}, DenseGatedRNN: {"transition": np.eye(N)}, SideGatedRNN: {}}[kind]
    with pytest.raises(InputError, match=message):
        kind(**draw(shapes) | decays | {name: np.zeros(shape)})
