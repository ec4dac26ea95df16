"""Networks made to be taken for what they are not, each with its right verdict, over a stated number of tokens."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest

from dualform import construct
from dualform.discover import Discovery, discover, merge_equivalent, prune
from dualform.discover.units import targets
from dualform.mixers import GatedRNN, LinearAttention
from dualform.training.second_order import Weights, hidden_states, network, weights_of
from tests.discover.disguises import mixed
from tests.discover.students import constructed, disguised, sequences, teacher
from tests.tiers import tiers

D = 2
LONG = 8192
"""The horizon of `discover` where none is given: a network that fades shows it, one that does not stays as it is."""

Case = tuple[GatedRNN, LinearAttention, np.ndarray]


class Adversary(NamedTuple):
    """A network, its teacher and inputs; the verdicts on it as given and on its reduction; a word that a reason has."""

    make: Callable[[], Case]
    given: str
    reduced: str
    why: str
    horizon: int = LONG


def construction(form: str = "compact", time: int = 12) -> Case:
    attention, rnn = constructed(D, form)
    return rnn, attention, sequences(D, 64, time)


def with_decays(one: float, zero: float, time: int = 12) -> Case:
    rnn, attention, x = construction(time=time)
    weights = weights_of(rnn)
    return network(weights._replace(decay=np.where(weights.decay == 1, one, zero))), attention, x


def on_tokens(kind: str) -> Case:
    rnn, attention, x = construction("full")
    rng = np.random.default_rng(3)
    tokens = np.eye(D)[rng.integers(D, size=x.shape[:2])] if kind == "one-hot" else rng.choice([-1.0, 1.0], x.shape)
    return disguised(rnn, 3), attention, tokens


def with_units(rnn: GatedRNN, decay, w_m, w_x, w_m_out, w_x_out, readout) -> GatedRNN:
    """More hidden units, and more products, each of which reads old and new units."""
    old = weights_of(rnn)
    wide = lambda gate: np.pad(gate, ((0, 0), (0, len(decay))))
    stack = lambda a, b: np.concatenate([a, np.asarray(b, float)])
    return network(
        Weights(
            stack(old.decay, decay),
            stack(old.w_m_in, w_m),
            stack(old.w_x_in, w_x),
            stack(wide(old.w_m_out), w_m_out),
            stack(wide(old.w_x_out), w_x_out),
            np.concatenate([old.readout, np.asarray(readout, float)], axis=1),
        )
    )


def cancelling() -> Case:
    """Two units at 0.5 with one input, read with opposite signs, each by a product of its own."""
    rnn, attention, x = construction()
    n = len(rnn.w_m_in)
    pick = lambda *units: np.eye(n + 2)[list(units)]
    gate = np.array([[1.0, 2.0, 0.5]] * 2)
    other = np.array([[0.3, -1.0, 1.0]] * 2)
    return (
        with_units(rnn, [0.5, 0.5], gate, other, pick(n, n + 1), pick(n - 1, n - 1), [[3.0, -3.0], [1.0, -1.0]]),
        attention,
        x,
    )


def hidden_behind_three_products() -> Case:
    """One unit at 0.5 in three products, none proportional to another, whose sum is nothing."""
    rnn, attention, x = construction()
    n = len(rnn.w_m_in)
    unit = np.eye(n + 1)
    left = np.stack([unit[n], unit[n], unit[n]])
    right = np.stack([unit[0], unit[1], unit[0] + unit[1]])
    readout = np.array([[1.0, 1.0, -1.0], [-2.0, -2.0, 2.0]])
    return with_units(rnn, [0.5], [[1.0, 1, 0]], [[1.0, -1, 1]], left, right, readout), attention, x


def product_of_the_past(size: float) -> Case:
    rnn, attention, x = construction()
    n = len(rnn.w_m_in)
    unit = np.eye(n)
    return with_units(rnn, [], np.zeros((0, 3)), np.zeros((0, 3)), unit[:1], unit[1:2], [[size], [size]]), attention, x


def product_of_queries(size: float, time: int = 12) -> Case:
    """A cubic term of the present token alone: a unit at 0 that holds x1 x2, read with a query."""
    rnn, attention, x = construction(time=time)
    n = len(rnn.w_m_in)
    unit = np.eye(n + 1)
    return (
        with_units(rnn, [0.0], [[1.0, 0, 0]], [[0.0, 1, 0]], unit[n:], unit[n - 1 : n], [[size], [0.0]]),
        attention,
        x,
    )


def another_teacher() -> Case:
    rnn, _, x = construction()
    return rnn, teacher(D, seed=9), x


def only_on_the_training_length() -> Case:
    """A construction, and the difference of two units at 1 and at 0.9999: next to nothing in 12 tokens, then it grows."""
    rnn, attention, x = construction()
    n = len(rnn.w_m_in)
    unit = np.eye(n + 2)
    gate, other = [[1.0, 1.0, 0.0]] * 2, [[1.0, -1.0, 0.0]] * 2
    readout = [[1.0], [1.0]]
    return (
        with_units(rnn, [1.0, 0.9999], gate, other, unit[n:-1] - unit[n + 1 :], unit[n - 1 : n], readout),
        attention,
        x,
    )


def noise(size: float) -> Case:
    rnn, attention, x = construction()
    rng, weights = np.random.default_rng(1), weights_of(rnn)
    off = [w + size * np.sqrt(np.mean(w**2)) * rng.standard_normal(w.shape) for w in weights[1:]]
    return network(Weights(weights.decay, *off)), attention, x


def rank_deficient(weight: str) -> Case:
    full = teacher(3)
    weights = {name: np.array(getattr(full, name)[0], np.float32) for name in ("w_v", "w_k", "w_q")}
    weights[weight] = weights[weight] @ np.diag([1.0, 1.0, 0.0]).astype(np.float32)
    attention = LinearAttention(**weights)
    rnn = construct.gated_rnn(LinearAttention(*(w.astype(np.float64) for w in weights.values())), "low_rank")
    return disguised(rnn, 2), attention, sequences(3, 64)


def in_disguise() -> Case:
    rnn, attention, x = construction()
    return disguised(mixed(rnn, 5), 5, copies=2), attention, x


def lucky() -> Case:
    """Random units with random decays, and more products than there are outputs to fit: exact where they were fitted."""
    _, attention, x = construction()
    rng, few = np.random.default_rng(0), x[:4, :5]
    n, m = 12, 60
    draw = rng.standard_normal
    weights = Weights(
        rng.uniform(0, 1, n), draw((n, D + 1)), draw((n, D + 1)), draw((m, n)), draw((m, n)), np.zeros((D, m))
    )
    h = hidden_states(weights, few.swapaxes(0, 1)).swapaxes(0, 1).reshape(-1, n)
    products = (h @ weights.w_m_out.T) * (h @ weights.w_x_out.T)
    readout = np.linalg.lstsq(products, targets(attention, few).reshape(-1, D), rcond=None)[0].T
    return network(weights._replace(readout=readout)), attention, few


def lucky_on_one_token() -> Case:
    """Exact for a first token, everywhere, with decays spread over (0, 1)."""
    rnn, attention, x = construction(time=1)
    weights = weights_of(rnn)
    return network(weights._replace(decay=np.linspace(0.1, 0.9, len(weights.decay)))), attention, x


YES, FUNCTION, NO = "identified", "function only", "not identified"

ADVERSARIES = {
    "a construction": Adversary(construction, YES, YES, "as it was given, and so does its reduction"),
    "permuted, rescaled, mixed and split": Adversary(in_disguise, YES, YES, "3 units that keep everything"),
    "decays of 0.9994": Adversary(lambda: with_decays(0.9994, 0.0), FUNCTION, FUNCTION, "changes with the lag"),
    "decays of 0.9994 over 16 tokens": Adversary(lambda: with_decays(0.9994, 0.0), YES, YES, "over 16 tokens", 16),
    "decays of 1 - 1e-7": Adversary(lambda: with_decays(1 - 1e-7, 0.0), YES, YES, "over 8,192 tokens"),
    "0.995 and 0.005 on one token": Adversary(lambda: with_decays(0.995, 0.005, 1), FUNCTION, FUNCTION, "0.995"),
    "queries that linger a little": Adversary(lambda: with_decays(1.0, 0.004), YES, YES, "over 8,192 tokens"),
    "queries that linger": Adversary(lambda: with_decays(1.0, 0.05), NO, NO, "not the teacher's"),
    "queries that linger, on one token": Adversary(
        lambda: with_decays(1.0, 0.05, 1), FUNCTION, FUNCTION, "products of two past tokens"
    ),
    "one-hot tokens": Adversary(lambda: on_tokens("one-hot"), YES, YES, "3 units that keep everything"),
    "tokens of +-1": Adversary(lambda: on_tokens("signs"), YES, YES, "3 units that keep everything"),
    "units at 0.5 that cancel": Adversary(cancelling, YES, YES, "and none is in between"),
    "a unit at 0.5 in products that cancel": Adversary(
        hidden_behind_three_products, YES, YES, "and none is in between"
    ),
    "memory times memory": Adversary(
        lambda: product_of_the_past(3e-4), FUNCTION, FUNCTION, "products of two past tokens"
    ),
    "a little memory times memory": Adversary(lambda: product_of_the_past(1e-9), YES, YES, "over 8,192 tokens"),
    "query times query": Adversary(lambda: product_of_queries(0.3), FUNCTION, FUNCTION, "its polynomial is"),
    "query times query, drowned by long sequences": Adversary(
        lambda: product_of_queries(3.0, 128), FUNCTION, FUNCTION, "its polynomial is"
    ),
    "a teacher swapped after training": Adversary(another_teacher, NO, NO, "outputs are not the teacher's"),
    "attention on the training length alone": Adversary(only_on_the_training_length, FUNCTION, FUNCTION, "no further"),
    "noise of 1e-7": Adversary(lambda: noise(1e-7), YES, YES, "over 8,192 tokens"),
    "noise of 1e-4": Adversary(lambda: noise(1e-4), FUNCTION, FUNCTION, "runs of 8,192 tokens"),
    "noise of 1e-4 over 64 tokens": Adversary(lambda: noise(1e-4), YES, YES, "over 64 tokens", 64),
    "noise of 1e-1": Adversary(lambda: noise(1e-1), NO, NO, "outputs are not the teacher's"),
    "W_V of rank 2": Adversary(lambda: rank_deficient("w_v"), YES, YES, "5 units that keep everything"),
    "W_K of rank 2": Adversary(lambda: rank_deficient("w_k"), YES, YES, "2 that forget at once"),
    "W_Q of rank 2": Adversary(lambda: rank_deficient("w_q"), YES, YES, "2 that forget at once"),
    "random units that fit by luck": Adversary(lucky, FUNCTION, FUNCTION, "its polynomial is"),
    "random decays on one token": Adversary(lucky_on_one_token, FUNCTION, FUNCTION, "changes with the lag"),
}


def found(adversary: Adversary) -> Discovery:
    return discover(*adversary.make(), horizon=adversary.horizon)


AGAIN = (
    *("decays of 1 - 1e-7", "queries that linger, on one token", "tokens of +-1", "units at 0.5 that cancel"),
    *(
        "query times query, drowned by long sequences",
        "noise of 1e-7",
        "W_K of rank 2",
        "W_Q of rank 2",
        "random decays on one token",
    ),
)
"""Siblings of others, for the thorough tier."""


@pytest.mark.parametrize("name", tiers(ADVERSARIES, *(name for name in ADVERSARIES if name not in AGAIN)))
def test_each_adversary_gets_its_verdict(name):
    """As given and reduced, with the headline that follows from the two, and a reason that says why."""
    adversary = ADVERSARIES[name]
    result = found(adversary)
    told = "\n".join(result.reasons)
    assert (result.given.verdict, result.reduced.verdict) == (adversary.given, adversary.reduced), told
    assert result.verdict == (YES if YES in (adversary.given, adversary.reduced) else adversary.given)
    assert adversary.why in told, told


@pytest.mark.parametrize("make", [cancelling, hidden_behind_three_products])
def test_merging_leaves_units_that_cancel_unread(make):
    """A merge, by algebra, leaves nothing that reads units which do nothing together; pruning then takes them."""
    rnn, _, x = make()
    left = prune(merge_equivalent(rnn).rnn, x, 1e-24)
    plain = construction()[0]
    assert (len(left.w_m_in), left.readout.shape[1]) == (len(plain.w_m_in), plain.readout.shape[1])
    if make is cancelling:  # either unit alone does much
        assert len(prune(rnn, x, 1e-24).w_m_in) == len(rnn.w_m_in)
