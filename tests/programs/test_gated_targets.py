"""Programs as Hawk, Griffin, Mamba and delta rules: within rounding of the interpreter, and what these cannot hold."""

import functools
from decimal import Decimal, localcontext
from fractions import Fraction

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
import pytest

from dualform.errors import InputError
from dualform.mixers import DeltaRule, GriffinRecurrent, Mamba, SoftmaxAttention
from dualform.models import GatedMLP
from dualform.programs import (
    Input,
    Program,
    certify,
    compile_program,
    concat,
    counter,
    cycle,
    delay,
    equal,
    if_else,
    interpret,
    larger,
    look_up,
    modulo,
    one_hot,
    relu,
    running_maximum,
    shift_register,
    state,
)
from dualform.programs.emit.delta import beta
from dualform.programs.emit.gates import OPEN, SHUT, faintness, sharpness
from dualform.programs.emit.hawk import perfect
from dualform.programs.sugar import CONDITIONALS
from tests.tiers import tiers

TARGETS = ("hawk", "griffin", "mamba", "delta")
DTYPES = ("float64", "float32")
LIMITS = {"float64": 1e-9, "float32": 1e-4}
"""What an error may be: what the library's programs are held to."""


def drawn(random, time):
    """A bit, a number below 3, and two real numbers."""
    whole = random.integers(0, 2, (time, 1)), random.integers(0, 3, (time, 1))
    return np.concatenate([*whole, random.standard_normal((time, 2))], axis=1)


@functools.cache
def everything() -> Program:
    """Counters, delays, look-ups, conditionals in all forms, a sum of products multiplied again, a state that forgets."""
    x = Input(4)
    bit, number, u, v = x
    depth, memory = counter(2 * bit - 1), counter(concat(bit * u, number * v) / 8)
    forms = [if_else(bit, relu(u), relu(v), form=form, large=10, scale=100) for form in CONDITIONALS]
    return Program(
        concat(
            larger(counter(bit), counter(1 - bit)),
            concat(depth, equal(depth, 0)),
            shift_register(bit, 4, "digits"),
            concat(running_maximum(number, 2), one_hot(number, 3), look_up(number, [[3], [1], [4]])),
            *forms,
            memory[0] * u + memory[1] * v,
            concat(state(u, a=[[Fraction(1, 2)]]), delay(u, 5)),
        ),
        draw=drawn,
    )


@functools.cache
def compiled(to: str, dtype: str):
    return compile_program(everything(), to, dtype)


PAIRS = [(to, dtype) for to in TARGETS for dtype in DTYPES]


@pytest.mark.parametrize(("to", "dtype"), tiers(PAIRS, ("mamba", "float32")))
def test_every_construct(to, dtype):
    """A program of every construct is within its limit of the interpreter on 1,000 inputs of 33 tokens (delta: 7, quickly)."""
    length = 7 if to == "delta" else 33
    assert certify(compiled(to, dtype), inputs=1000, lengths=(length,)).error <= LIMITS[dtype]


@pytest.mark.slow
@pytest.mark.parametrize(("to", "dtype"), PAIRS)
def test_lengths(to, dtype):
    """On 1,000 inputs of odd lengths, too."""
    assert certify(compiled(to, dtype), inputs=1000, lengths=(1, 3, 17, 65, 129), seed=1).error <= LIMITS[dtype]


@pytest.mark.slow
@pytest.mark.parametrize("to", TARGETS)
def test_states_do_not_drift(to):
    """After 4,095 tokens the error in float64 is a rounding of what is added up."""
    assert certify(compiled(to, "float64"), inputs=2, lengths=(4095,)).error <= 1e-12


@pytest.mark.parametrize("to", tiers(TARGETS, "hawk"))
def test_documents_begin_anew(to):
    """A document behind another one gives what it gives alone: no state, convolution or first token is another's."""
    model = compiled(to, "float32").model
    x = jnp.asarray(everything().inputs(np.random.default_rng(2), 12), jnp.float32)
    both, _ = model(x, start=jnp.arange(12) == 5)
    alone, _ = model(x[5:])
    np.testing.assert_allclose(both[5:], alone, rtol=1e-6, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("to", TARGETS)
def test_gradients_are_finite(to):
    """A network can be trained on from where it was compiled, also where tokens are missing."""
    model = compiled(to, "float32").model
    x = jnp.asarray(everything().inputs(np.random.default_rng(3), 12), jnp.float32)
    gradient = eqx.filter_grad(lambda model: jnp.sum(model(x, mask=jnp.arange(12) % 5 != 2)[0] ** 2))(model)
    leaves = jtu.tree_leaves(gradient)
    assert all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in leaves) and any(
        bool(jnp.any(leaf != 0)) for leaf in leaves
    )


@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32])
@pytest.mark.parametrize("name", ["silu", "gelu"])
def test_activations_are_linear_and_sharp(name, dtype):
    """2 f(k x) / k is x to the bit, 64 is kept and -1000 is 0; f(K x) / K is ReLU(x) to the bit, but for 0.3 / K next to 0."""
    f = jax.jit(getattr(jax.nn, name))
    x = np.random.default_rng(0).standard_normal(4000) * np.repeat(2.0 ** np.arange(-20, 20), 100)
    x, k, large = jnp.asarray(x, dtype), jnp.asarray(faintness(dtype), dtype), jnp.asarray(sharpness(dtype), dtype)
    np.testing.assert_array_equal(f(k * x) * 2 / k, x)
    small = x / 2**30
    off = jnp.max(jnp.abs(f(large * small) / large - jnp.maximum(small, 0)))
    assert 0 < off < 0.3 / sharpness(dtype)
    far = x[jnp.abs(x) > 64 / sharpness(dtype)]
    np.testing.assert_array_equal(f(large * far) / large, jnp.maximum(far, 0))
    assert float(f(jnp.asarray(OPEN, dtype))) == OPEN and float(f(jnp.asarray(-SHUT, dtype))) == 0


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_hawk_forgets_nothing(dtype):
    """The decay is 1 to the bit, and writes a power of two, also where the sigmoid is off by one in its last place."""
    lam, b_a, scale = perfect(dtype)
    with localcontext() as context:
        context.prec = 40
        exact = np.dtype(dtype).type(1 / (1 + Decimal(-b_a).exp()))
    for r in (exact, *(np.nextafter(exact, np.dtype(dtype).type(side)) for side in (0, 1))):
        log_a = -8 * jax.nn.softplus(jnp.asarray(lam, dtype)) * r
        assert float(jnp.exp(log_a)) == 1 and float(jnp.sqrt(-jnp.expm1(2 * log_a))) == scale
    assert abs(float(jax.nn.sigmoid(jnp.asarray(b_a, dtype))) - exact) <= np.spacing(exact)


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
def test_delta_writes_what_it_is_given(dtype):
    """b is so small that 1 - b is 1, and times its inverse it is 1; without memory b is 1, and 2 where the sign is changed."""
    kind = jnp.float64 if dtype == "float64" else jnp.float32
    logit, b = beta(1.0, dtype)
    assert float(2 * jax.nn.sigmoid(jnp.asarray(logit, dtype).astype(kind))) == b
    assert float(1 - jnp.asarray(b, kind)) == 1 and float(jnp.asarray(b, kind) * jnp.asarray(1 / b, kind)) == 1
    for decay, expected in ((0.0, 1), (-1.0, 2), (0.5, 0.5)):
        logit, b = beta(decay, dtype)
        assert b == expected and abs(float(2 * jax.nn.sigmoid(jnp.asarray(logit, kind))) - expected) < 1e-7


def test_layers():
    """Hawk has a GeGLU in each block, Griffin attention that gives 0 in every third, Mamba no MLP, delta rules a SwiGLU."""
    blocks = {to: compiled(to, "float32").model.blocks for to in TARGETS}
    assert all(
        isinstance(block.mixer, GriffinRecurrent) and block.mlp.activation == "gelu_tanh" for block in blocks["hawk"]
    )
    assert all(
        isinstance(block.mixer, Mamba) and block.mlp is None and not block.mixer.negative for block in blocks["mamba"]
    )
    assert all(isinstance(block.mixer, DeltaRule) and block.mlp.activation == "silu" for block in blocks["delta"])
    assert len(blocks["griffin"]) >= 3
    for i, block in enumerate(blocks["griffin"]):
        assert isinstance(block.mixer, SoftmaxAttention) == (i % 3 == 2)
        if i % 3 == 2:
            assert not np.any(block.mixer.w_o) and isinstance(block.mlp, GatedMLP | None)


def test_griffin_puts_attention_between_states():
    """A chain of delays needs states in each layer: the third block attends and passes its input on, the fourth goes on."""
    found = compile_program(Program(delay(Input(1), 8)), "griffin")
    assert [isinstance(block.mixer, SoftmaxAttention) for block in found.model.blocks] == [False, False, True, False]
    assert len(found.path.layers) == 4 and len(compile_program(Program(delay(Input(1), 8)), "hawk").path.layers) == 3


@pytest.mark.parametrize("to", tiers(["mamba", "delta"], "mamba"))
def test_signs_change(to):
    """Where decays reach -1, tokens are counted modulo 2, to the bit; a Mamba has negative eigenvalues in that block alone."""
    found = compile_program(Program(concat(Input(1) * 0, cycle(2, "ring"))), to)
    y, _ = found.model(jnp.zeros((21, 1)))
    np.testing.assert_array_equal(y[:, 1:], [[1 - t % 2, t % 2] for t in range(21)])
    if to == "mamba":
        assert [block.mixer.negative for block in found.model.blocks].count(True) == 1


@pytest.mark.parametrize(
    ("to", "says"),
    [
        (
            "hawk",
            r"test_gated_targets.py:\d+: cycle changes its sign, with a decay of -1; those of Hawk's RG-LRU lie in \[0, 1\]",
        ),
        ("griffin", "Griffin's RG-LRU .* counts modulo nothing .*theorem 1.* Compile to mamba or delta"),
        ("mamba", "turns, with a decay of .*Mamba lie in .* modulo powers of two alone .*theorem 2"),
        ("delta", "turns, .* a delta rule's head of one key lie in"),
    ],
)
def test_refused(to, says):
    """What counts modulo something is refused where decays cannot, with file and line, the theorem, and what to take instead."""
    n = 2 if to in ("hawk", "griffin") else 3
    with pytest.raises(InputError, match=says):
        compile_program(Program(Input(1) * 0 + modulo(n, "ring", name="cycle")), to)


@pytest.mark.parametrize("to", TARGETS)
def test_a_state_that_grows_is_refused(to):
    """It has no decay here."""
    with pytest.raises(InputError, match="doubled grows by 2 at each token"):
        compile_program(Program(state(Input(1), a=[[2]], name="doubled")), to)


@pytest.mark.parametrize("to", TARGETS)
def test_weights_beyond_float32(to):
    """A weight that its sharpness makes larger than the dtype is named, rather than written as infinity."""
    with pytest.raises(InputError, match=r"needs a weight of 1\.07e\+39; float32 ends at 3\.4e\+38"):
        compile_program(Program(relu(Input(1) * 10**30 + 1)), to, "float32")


def test_interpreted_and_stepped():
    """Token by token, a network gives what the interpreter gives."""
    found = compiled("hawk", "float64")
    x = everything().inputs(np.random.default_rng(4), 5)
    carried, outputs = found.model.init_state(), []
    for token in x:
        y, carried = found.model.step(jnp.asarray(token), carried)
        outputs.append(y)
    np.testing.assert_allclose(np.stack(outputs), interpret(everything(), x), rtol=0, atol=1e-9)
