"""The nonlinear recurrence against a plain loop over tokens."""

from functools import partial

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from dualform.errors import InputError
from dualform.recurrences.cells import cell
from tests.laws import laws
from tests.laws.laws import check_same_bits
from tests.recurrences.law import fast_gives_naive, normal
from tests.recurrences.test_diagonal import ALL_THERE, FLAGS, NO_START, TIME, flags_of
from tests.tiers import tiers

N = 3


def arguments():
    """A matrix, inputs (one array for each of two names) and a state of two parts."""
    keys = jr.split(jr.key(0), 5)
    inputs = {"a": normal(keys[1], (TIME, N)), "b": normal(keys[2], (TIME,))}
    return normal(keys[0], (N, N)), inputs, (normal(keys[3], (N,)), normal(keys[4], ()))


def step_with(v):
    """A step with two parts in its state, both nonlinear, and outputs of two shapes."""

    def step(state, inputs_t):
        h, c = state
        h = jnp.tanh(v @ h * c + inputs_t["a"])
        c = jnp.cos(c + inputs_t["b"] * h.sum())
        return (h, c), {"h": h, "square": c * c}

    return step


def loop(v, inputs, state, start=NO_START, mask=ALL_THERE):
    """One token after the other; a start zeroes the state before it, an absent token leaves it."""
    step, outputs = step_with(v), []
    for t in range(TIME):
        past = tuple(jnp.where(start[t], jnp.zeros_like(part), part) for part in state)
        after, out = step(past, {name: values[t] for name, values in inputs.items()})
        state = tuple(jnp.where(mask[t], new, old) for new, old in zip(after, state, strict=True))
        outputs.append(out)
    return {name: jnp.stack([out[name] for out in outputs]) for name in outputs[0]}, state


def test_cell_gives_the_loop():
    """Outputs, last state and the gradients of weights, inputs and state are the loop's, with flags and without."""
    fast = lambda v, inputs, state, *flags: cell(step_with(v), inputs, state, **flags_of(*flags))
    fast_gives_naive(fast, loop, arguments(), ((), *FLAGS))


def test_one_flag_alone_is_enough():
    """`start` without `mask`, and `mask` without `start`, are what both give with the other one silent."""
    v, inputs, state = arguments()
    run = jax.jit(lambda start, mask: cell(step_with(v), inputs, state, start=start, mask=mask))
    start, mask = FLAGS[2]
    check_same_bits(run(start, None), run(start, ALL_THERE), "start alone")
    check_same_bits(run(None, mask), run(NO_START, mask), "mask alone")


def test_absent_tokens_leave_the_state_to_the_bit():
    """Where no token is there, no bit of the state moves, -0 and subnormal numbers included; a start there is ignored."""
    v, inputs, _ = arguments()
    state = jnp.array([-0.0, 1e-320, 1 / 3]), jnp.array(-0.0)
    _, final = jax.jit(lambda state: cell(step_with(v), inputs, state, start=ALL_THERE, mask=~ALL_THERE))(state)
    check_same_bits(final, state, "the state")


def test_a_start_passes_no_gradient():
    """What was before a document does not reach its outputs, nor do their gradients reach it: exactly 0."""
    v, inputs, state = arguments()
    start = jnp.arange(TIME) == 2

    @jax.jit
    @jax.grad
    def gradient(past):
        outputs, _ = cell(step_with(v), past[0], past[1], start=start)
        return jnp.sum(outputs["h"][2:])

    inputs_bar, state_bar = gradient((inputs, state))
    assert not any(np.asarray(leaf[:2]).any() for leaf in inputs_bar.values())
    assert not any(np.asarray(leaf).any() for leaf in state_bar) and np.asarray(inputs_bar["a"][2]).any()


@pytest.mark.parametrize(
    ("time", "flags", "message"),
    [
        (0, {}, "the sequence has length 0; a recurrence needs at least one time step"),
        (TIME, {"start": jnp.ones(3, bool)}, r"start must be .* each of the 4 time steps; got shape \(3,\) of bool"),
        (TIME, {"mask": jnp.ones(TIME)}, r"mask must be .* got shape \(4,\) of float64"),
    ],
    ids=["no step", "short start", "0/1 mask"],
)
def test_bad_input(unchecked, time, flags, message):
    """No time step, and flags of another length or kind, are named."""
    v, inputs, state = arguments()
    with pytest.raises(InputError, match=message):
        cell(step_with(v), {name: values[:time] for name, values in inputs.items()}, state, **flags)


def _steps(held):
    """A recurrence of two products, one of them of what the other gave: with matrices of its own, and with those handed in."""

    def own(weights):
        def step(h, x_t):
            gate = jax.nn.sigmoid(weights[0] @ h + x_t)
            h = jnp.tanh(weights[1] @ (gate * h) + held * x_t)
            return h, (gate, h)

        return step

    def given(product, h, x_t):
        gate = jax.nn.sigmoid(product(0, h) + x_t)
        h = jnp.tanh(product(1, gate * h) + held * x_t)
        return h, (gate, h)

    return own, given


@pytest.mark.parametrize("flagged", tiers([False, True], True), ids=["no flags", "flags"])
def test_weights_that_are_handed_in_change_nothing(flagged):
    """Outputs, gradients, their batch, forward derivatives and second ones are those of a step that holds its matrices."""
    weights = tuple(laws.sequence(seed, 3, 3) for seed in (1, 2))
    x, h, held = laws.sequence(3, 5, 3), laws.sequence(4, 3)[0, :3], laws.sequence(5, 1, 3)[0]
    flags: dict = {"start": jnp.arange(5) == 2, "mask": jnp.arange(5) != 3} if flagged else {}

    def total(handed, weights, held, x, h):
        own, given = _steps(held)
        if handed:
            (gate, y), final = cell(given, x, h, weights=weights, **flags)
        else:
            (gate, y), final = cell(own(weights), x, h, **flags)
        there = flags.get("mask", jnp.ones(5, bool))[:, None]
        return jnp.sum(jnp.where(there, gate * y, 0.0)) + jnp.sum(final**3)

    @jax.jit
    def asked(weights, held, x, h):
        found = []
        for handed in (True, False):
            f = partial(total, handed)
            gradient = jax.grad(f, argnums=(0, 1, 2, 3))
            batch = jax.vmap(gradient, in_axes=(None, None, 0, None))(weights, held, jnp.stack([x, 2 * x]), h)
            _, forward = jax.jvp(f, (weights, held, x, h), (weights, held, x, h))
            second = jax.grad(lambda w, f=f: jnp.sum(jax.grad(f)(w, held, x, h)[1] ** 2))(weights)
            found.append((f(weights, held, x, h), gradient(weights, held, x, h), batch, forward, second))
        return found

    handed, own = asked(weights, held, x, h)
    laws.check_close(jax.tree.leaves(handed), jax.tree.leaves(own), 1e-12, "matrices that are handed in")


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (
            lambda product, h, x: (product(0, h) + product(0, x), h),
            r"by weights\[0\] twice; hand the matrix in once for each",
        ),
        (lambda product, h, x: (h + x, h), r"does not multiply by weights \[0\]; leave them out"),
    ],
    ids=["twice", "never"],
)
def test_each_weight_is_used_once(step, message):
    """A second product by one matrix would have half of its gradient, and is refused; so is a matrix that nothing reads."""
    with pytest.raises(InputError, match=message):
        cell(step, jnp.ones((2, 3)), jnp.ones(3), weights=(jnp.eye(3),))
