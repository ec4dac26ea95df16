"""The laws themselves: each catches the mixers that break it, and lets the unbroken one pass."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dualform.mixers import SideGatedRNN
from dualform.recurrences import diagonal
from tests.laws import broken, laws
from tests.recurrences.law import fast_gives_naive
from tests.recurrences.loops import diagonal_loop
from tests.recurrences.test_diagonal import arguments
from tests.tiers import tiers

START = np.array([False, False, True, False, False, True])
MASK = np.array([True, False, True, True, False, True])
RIGHT = np.array([True, True, True, True, False, False])
NOTHING = np.zeros(6, bool)


def side_gated() -> SideGatedRNN:
    return laws.make("side_gated_rnn")  # pyright: ignore[reportReturnType] - of that name


def x():
    return laws.sequence(0, 6)


def batch():
    return jnp.stack([laws.sequence(i, 6) for i in range(3)])


def tiny_decays(kind):
    inner = side_gated()
    nu = jnp.full(len(inner.readout.T), 4.235)
    return laws.cast(kind(eqx.tree_at(lambda m: m.nu, inner, nu)), jnp.float32)


def state():
    return laws.some_state(side_gated(), 0)


def disk(mixer, folder):
    laws.a_state_survives_the_disk(mixer, x(), 2, folder)


def flags(values):
    return jnp.stack([jnp.asarray(values)] * 3)


steps = lambda mixer: laws.steps_give_the_parallel_form(mixer, x(), 3)
causal = lambda mixer: laws.nothing_comes_from_the_future(mixer, x(), 3, 0)
sums = lambda mixer: laws.contributions_sum_to_the_output(mixer, x())
sums_with_state = lambda mixer: laws.contributions_sum_to_the_output(mixer, x(), state(), jnp.asarray(NOTHING))
gaps = lambda mixer: laws.absent_tokens_change_nothing(mixer, x(), state(), jnp.asarray(MASK))
right = lambda mixer: laws.absent_tokens_change_nothing(mixer, x(), state(), jnp.asarray(RIGHT))
absent = lambda mixer: laws.absent_tokens_change_nothing(mixer, x(), state(), jnp.asarray(NOTHING))
gap_gradients = lambda mixer: laws.absent_tokens_leave_no_gradient(mixer, x(), state(), jnp.asarray(MASK))
packing = lambda mixer: laws.packed_documents_stay_apart(mixer, x(), state(), jnp.asarray(START))
late_start = lambda mixer: laws.a_start_at_an_absent_token_is_ignored(
    mixer, x(), state(), jnp.asarray(~MASK), jnp.asarray(MASK)
)
batching = lambda mixer: laws.batching_is_a_loop(mixer, batch(), flags(START), flags(MASK))
ensemble = lambda mixer: laws.an_ensemble_is_a_loop([mixer, type(mixer)(laws.make("side_gated_rnn", seed=1))], x())
precision = lambda mixer: laws.low_precision_stays_close(mixer, laws.sequence(0, 4 * laws.LONG), "bfloat16")
drift = lambda mixer: laws.long_sequences_do_not_drift(lambda mixer, x: mixer(x), (mixer, laws.sequence(0, 65536)))
through = lambda mixer: laws.gradients_pass_through_the_state(mixer, x(), state(), split=4)
tiny = lambda mixer: laws.extremes_stay_finite(mixer, jnp.zeros((6, 4)))
decays = lambda mixer: laws.extremes_stay_finite(tiny_decays(type(mixer)), laws.sequence(0, 150).astype(jnp.float32))

CAUGHT = {
    "stale carry": (steps, broken.StaleCarry),
    "reads before update": (steps, broken.ReadsBeforeUpdate),
    "future": (causal, broken.SeesTheFuture),
    "future, in the residual": (sums, broken.SeesTheFuture),
    "dropped bias": (sums, broken.DropsBias),
    "state dropped from the bias": (sums_with_state, broken.ForgetsTheStateInItsMap),
    "not affine": (sums, broken.NotAffine),
    "acausal weights": (sums, lambda _: broken.AcausalWeights(laws.make("linear_attention"))),
    "ignored mask": (gaps, broken.IgnoresMask),
    "ignored mask, at the end": (right, broken.IgnoresMask),
    "moved state": (absent, broken.MovesTheState),
    "NaN gradient": (gap_gradients, broken.NormOfZero),
    "ignored start": (packing, broken.IgnoresStart),
    "leak through start": (packing, broken.LeaksThroughStart),
    "gradient through start": (packing, broken.GradientThroughStart),
    "start at an absent token": (late_start, broken.StartsAtAbsentTokens),
    "mixed batch": (batching, broken.MixesTheBatch),
    "mixed ensemble": (ensemble, broken.MixesTheBatch),
    "sums in bfloat16": (precision, broken.SumsInTheDtypeOfWeights),
    "drift": (drift, broken.Drifts),
    "gradient cut at the state": (through, broken.CutsTheGradientOfTheState),
    "NaN gradient at 0": (tiny, broken.NormOfZero),
    "underflow": (decays, broken.DividesByDecays),
}


AGAIN = (
    "future, in the residual",
    "ignored mask, at the end",
    "leak through start",
    "mixed ensemble",
    "NaN gradient at 0",
)
"""Wrong in the same way as others, at another place: for the thorough tier."""


@pytest.mark.parametrize("case", tiers(CAUGHT, *(case for case in CAUGHT if case not in AGAIN)))
def test_a_broken_mixer_is_caught(case):
    """The law passes on the mixer and fails on the same mixer broken."""
    law, breaks = CAUGHT[case]
    law(broken.Around(side_gated()))
    with pytest.raises(AssertionError):
        law(breaks(side_gated()))


def test_a_state_that_no_file_holds_is_caught(tmp_path):
    """Law 7 fails on a state that is not made of plain arrays."""
    disk(broken.Around(side_gated()), tmp_path)
    with pytest.raises(AssertionError):
        disk(broken.StateOfKeys(side_gated()), tmp_path)


@pytest.mark.parametrize("which", ["decay", "drive", "state"])
def test_a_wrong_gradient_is_caught(which):
    """Law 2 fails where the values are right and one argument's gradient is not."""
    cut = lambda name, a: jax.lax.stop_gradient(a) if name == which else a
    args = arguments(0, (3,), True, jnp.float64)
    wrong = lambda decay, drive, h0: diagonal(cut("decay", decay), cut("drive", drive), cut("state", h0))
    with pytest.raises(AssertionError, match="gradients"):
        fast_gives_naive(wrong, diagonal_loop, args)


def test_wrong_values_are_caught():
    """Law 2 fails where the state is dropped."""
    with pytest.raises(AssertionError, match="values"):
        fast_gives_naive(
            lambda decay, drive, h0: diagonal(decay, drive), diagonal_loop, arguments(0, (3,), True, jnp.float64)
        )
