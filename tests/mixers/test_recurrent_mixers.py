"""LRU, LSTM, GRU and tanh RNN: initial weights, variants, and what their constructors say to weights that do not fit."""

import dataclasses

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from dualform.errors import InputError
from dualform.mixers import GRU, LRU, LSTM, LRUInOut, LRUInSkip, LRUOut, TanhRNN
from tests.laws import laws

N, D, D_OUT = 4, 3, 2
CORE = {
    **{name: (N,) for name in ("nu", "theta", "gamma")},
    **{"b_re": (N, D), "b_im": (N, D), "c_re": (D_OUT, N), "c_im": (D_OUT, N), "skip": (D_OUT, D)},
}
OUT = {"w_m_out": (5, D_OUT + 1), "w_x_out": (5, D_OUT + 1)}
IN = {"w_m_in": (D, 7), "w_x_in": (D, 7)}
SKIP = IN | {"w_m_out": (5, 7), "w_x_out": (5, D_OUT + 1)}
SHAPES = {
    LRU: CORE,
    LSTM: {"u": (4, N, D), "v": (4, N, N), "b": (4, N)},
    GRU: {"u": (3, N, D), "v": (3, N, N), "b": (3, N)},
    TanhRNN: {"u": (N, D), "v": (N, N), "b": (N,)},
    LRUOut: OUT,
    LRUInOut: IN | OUT,
    LRUInSkip: SKIP,
}


def build(kind, **changed):
    """`kind` with weights of 0.1 in the shapes above, some of them changed."""
    weights = {name: np.full(shape, 0.1) for name, shape in (SHAPES[kind] | changed).items()}
    return (
        kind(core=LRU(**{k: np.full(s, 0.1) for k, s in CORE.items()}), **weights)
        if "core" in kind.__annotations__
        else kind(**weights)
    )


@pytest.mark.parametrize("kind", SHAPES, ids=lambda kind: kind.__name__)
def test_widths(kind):
    """Rectangular weights fit, the widths are theirs, and a call gives what they say."""
    mixer = build(kind)
    d_in = 6 if kind in (LRUInOut, LRUInSkip) else D
    d_out = {LRU: D_OUT, LSTM: N, GRU: N, TanhRNN: N}.get(kind, 5)
    assert (mixer.d_in, mixer.d_out) == (d_in, d_out)
    assert mixer(jnp.ones((2, d_in)))[0].shape == (2, d_out)


MISFITS = [
    (LRU, "theta", (N + 1,), r"theta has shape \(5,\); it must be \(4,\): \(n,\), where n is 4 in nu"),
    (LRU, "nu", (N, 1), r"nu has shape \(4, 1\); it must be \(4,\): \(n,\), where n is 4 in theta"),
    (
        LRU,
        "b_im",
        (N, D + 1),
        r"b_im has shape \(4, 4\); it must be \(4, 3\): \(n, d\), where n is 4 in nu, d is 3 in b_re",
    ),
    (
        LRU,
        "c_re",
        (D_OUT, N + 1),
        r"c_re has shape \(2, 5\); it must be \(2, 4\): \(d_out, n\), where d_out is 2 in c_im",
    ),
    (LRU, "skip", (D,), r"a diagonal skip, \(3,\), needs as many outputs; c_re has 2"),
    (
        LRU,
        "skip",
        (D, D_OUT),
        r"skip has shape \(3, 2\); it must be \(2, 3\), or \(3,\): \(d_out, d\), or \(d,\), where",
    ),
    (
        LRUOut,
        "w_m_out",
        (5, D_OUT),
        r"w_x_out has shape \(5, 3\); it must be \(5, 2\): \(d_out, z\+1\).* z is 1 in w_m_out",
    ),
    (LRUOut, "w_x_out", (4, D_OUT + 1), r"w_x_out has shape \(4, 3\); it must be \(5, 3\)"),
    (
        LRUInOut,
        "w_x_in",
        (D, 6),
        r"w_x_in has shape \(3, 6\); it must be \(3, 7\): \(d_core, d\+1\).* d is 6 in w_m_in",
    ),
    (
        LRUInOut,
        "w_x_out",
        (5,),
        r"w_x_out has shape \(5,\); it must be \(5, 3\): \(d_out, z\+1\), where .* z is 2 in w_m_out",
    ),
    (LRUInSkip, "w_m_out", (5, D_OUT + 1), r"w_m_out has shape \(5, 3\); it must be \(5, 7\): \(d_out, d\+1\)"),
    (LRUInSkip, "w_x_out", (5, D_OUT + 2), "the core gives 2 numbers; w_x_out reads 3, and a 1"),
    (LSTM, "u", (3, N, D), r"u has shape \(3, 4, 3\); it must be \(4, 4, d\): \(4, n, d\), where n is 4 in v"),
    (LSTM, "v", (4, N, D), r"v has shape \(4, 4, 3\); it must be \(4, 4, 4\): \(4, n, n\), where n is 4 in u"),
    (LSTM, "b", (4 * N,), r"b has shape \(16,\); it must be \(4, 4\)"),
    (LSTM, "peephole", (N,), r"peephole has shape \(4,\); it must be \(3, 4\), or None"),
    (GRU, "u", (3 * N, D), r"u has shape \(12, 3\); it must be \(3, 4, d\)"),
    (GRU, "v", (4, N, N), r"v has shape \(4, 4, 4\); it must be \(3, 4, 4\)"),
    (GRU, "b", (3, N + 1), r"b has shape \(3, 5\); it must be \(3, 4\)"),
    (GRU, "b_h", (3, N), r"b_h has shape \(3, 4\); it must be \(4,\), or None"),
    (TanhRNN, "u", (N + 1, D), r"u has shape \(5, 3\); it must be \(4, d\): \(n, d\), where n is 4 in v"),
    (TanhRNN, "v", (N, D), r"v has shape \(4, 3\); it must be \(4, 4\)"),
    (TanhRNN, "b", (1, N), r"b has shape \(1, 4\); it must be \(4,\)"),
]


@pytest.mark.parametrize(
    ("kind", "name", "shape", "message"), MISFITS, ids=lambda v: getattr(v, "__name__", str(v)[:20])
)
def test_weights_that_do_not_fit(unchecked, kind, name, shape, message):
    """Each weight that does not fit is named, with the shapes that were given and those that are needed."""
    with pytest.raises(InputError, match=message):
        build(kind, **{name: shape})


@pytest.mark.parametrize("kind", [LRUInOut, LRUInSkip], ids=lambda kind: kind.__name__)
def test_an_input_gate_that_the_core_does_not_take(unchecked, kind):
    """An input gate must give as many numbers as the core's tokens have."""
    with pytest.raises(InputError, match="w_m_in gives 5 numbers, the core takes 3"):
        build(kind, w_m_in=(5, 7), w_x_in=(5, 7))


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (LSTM, {"variant": "peephole"}, "there is no LSTM variant 'peephole'; there are torch and chung"),
        (GRU, {"variant": "cudnn"}, "there is no GRU variant 'cudnn'; there are torch and chung"),
        (LRU, {"r_min": 0.9, "r_max": 0.5}, "r_min is 0.9 and r_max 0.5; give 0 <= r_min < r_max <= 1"),
        (LRU, {"r_max": 1.1}, "r_max 1.1; give 0 <= r_min < r_max <= 1"),
        (LRU, {"max_phase": 0.0}, "max_phase is 0.0; give a positive angle, in radians"),
    ],
)
def test_options_that_do_not_exist(kind, options, message):
    """An unknown variant and a ring outside the unit disk are named, with what there is."""
    with pytest.raises(InputError, match=message):
        kind.make(4, key=jr.key(0), **options)


@pytest.mark.parametrize(("kind", "gates"), [(LSTM, 4), (GRU, 3), (TanhRNN, 1)], ids=["LSTM", "GRU", "RNN"])
def test_arrays_that_are_no_torch_layer(unchecked, kind, gates):
    """`from_torch` names the shapes it got and those that PyTorch's layer has."""
    shapes = {
        "weight_ih": (gates * N, D),
        "weight_hh": (gates * N, N),
        "bias_ih": (gates * N,),
        "bias_hh": (gates * N,),
    }
    give = lambda **changed: kind.from_torch(**{name: jnp.ones(s) for name, s in (shapes | changed).items()})
    assert give().d_in == D and give().d_out == N
    for name, shape in (("weight_ih", (D, gates * N + 1)), ("weight_hh", (N,)), ("bias_hh", (N + 1,))):
        with pytest.raises(InputError, match=r"are no layer of torch\.nn\..*\. Give zeros for absent biases"):
            give(**{name: shape})


@pytest.mark.parametrize("ring", [(0.0, 1.0), (0.5, 0.6), (0.9, 0.999)])
def test_an_lru_starts_on_the_ring(ring):
    """Initial moduli lie in (r_min, r_max), uniform in area; phases in (0, max_phase); exp(gamma) = sqrt(1 - |lam|^2)."""
    r_min, r_max = ring
    lru = LRU.make(2, key=jr.key(0), n=4000, r_min=r_min, r_max=r_max, max_phase=1.5)
    lam = np.exp(-np.exp(np.asarray(lru.nu)) + 1j * np.exp(np.asarray(lru.theta)))
    laws.check_close(np.asarray(lru.decay()), lam, laws.ROUNDING, "decay")
    modulus, phase = np.abs(lam), np.angle(lam)
    assert (modulus > r_min).all() and (modulus < r_max).all() and (phase > 0).all() and (phase < 1.5).all()
    area = (modulus**2 - r_min**2) / (r_max**2 - r_min**2)
    # The standard error of the mean of 4,000 uniform numbers is 0.0046.
    assert abs(area.mean() - 0.5) < 0.02 and abs(phase.mean() - 0.75) < 0.03
    laws.check_close(np.exp(np.asarray(lru.gamma)), np.sqrt(1 - modulus**2), 1e-9, "gamma")


def test_initial_weights_are_finite_near_the_circle():
    """Moduli within a rounding error of 1 leave nu and gamma finite, in float32 too."""
    lru = LRU.make(2, key=jr.key(0), n=4000, r_min=0.9999999, r_max=1.0, dtype=jnp.float32)
    assert bool(jnp.isfinite(lru.nu).all()) and bool(jnp.isfinite(lru.gamma).all())


def test_variants_differ_in_what_they_say():
    """Chung's LSTM has peepholes and torch's none; torch's GRU has a second bias and Chung's none."""
    peephole = {v: LSTM.make(4, key=jr.key(0), variant=v).peephole for v in ("torch", "chung")}
    assert peephole["torch"] is None and peephole["chung"] is not None and peephole["chung"].shape == (3, 4)
    second = {v: GRU.make(4, key=jr.key(0), variant=v).b_h for v in ("torch", "chung")}
    assert second["chung"] is None and second["torch"] is not None and second["torch"].shape == (4,)


@pytest.mark.parametrize("name", ["lru", "lstm_chung", "gru", "tanh_rnn"])
def test_numpy_weights_become_arrays(name):
    """Weights given as NumPy arrays are made arrays that JAX can differentiate, optional ones included."""
    mixer = laws.make(name)
    given = {field.name: np.asarray(getattr(mixer, field.name)) for field in dataclasses.fields(mixer) if field.init}
    again = type(mixer)(**given)
    assert all(isinstance(leaf, jax.Array) for leaf in laws.jtu.tree_leaves(again))
    laws.check_same_bits(again, mixer, "weights")


def test_saturated_gates():
    """Biases of +-inf are gates that are exactly open or shut (Table 4 of Zucchet et al.), forward and backward."""
    lstm = laws.make("lstm")
    assert isinstance(lstm, LSTM)
    for value in (jnp.inf, -jnp.inf):
        shut = LSTM(lstm.u, lstm.v, lstm.b.at[1].set(value))
        laws.extremes_stay_finite(shut, laws.sequence(0, 6))
