"""The stages of a discovery, each alone, on networks whose answer is known."""

import numpy as np
import pytest

from dualform.discover import (
    ablate,
    arrange,
    keep_units,
    kv_score,
    least_power,
    merge_equivalent,
    prune,
    q_score,
    reduce,
    relative_loss,
    saliency,
    set_decays,
    split_decays,
)
from dualform.discover.units import outputs
from dualform.errors import InputError
from dualform.mixers import GatedRNN
from dualform.training.second_order import Weights, network, weights_of
from tests.discover.students import constructed, disguised, noisy, sequences, teacher

EXACT = 1e-20  # of squared errors over power, in float64


def same_function(a: GatedRNN, b: GatedRNN, tolerance: float = EXACT) -> bool:
    x = sequences()
    return float(np.mean((outputs(a, x) - outputs(b, x)) ** 2) / np.mean(outputs(a, x) ** 2)) <= tolerance


def with_dead_units(rnn: GatedRNN) -> GatedRNN:
    """Two more units that nobody reads, and two more products that nobody uses."""
    decay, a, b, u, w, readout = weights_of(rnn)
    grow = lambda side: np.pad(side, ((0, 2), (0, 2)))
    u, w = grow(u), grow(w)
    u[-2:, 0], w[-2:, 1] = 1.0, 1.0
    return network(
        Weights(
            np.append(decay, [0.3, 0.7]),
            np.concatenate([a, a[:2] + 1]),
            np.concatenate([b, b[:2] - 1]),
            u,
            w,
            np.pad(readout, ((0, 0), (0, 2))),
        )
    )


def spread(rnn: GatedRNN, size: float, seed: int = 0) -> GatedRNN:
    """Every weight off by Gaussian noise, `size` of its matrix's mean; decays stay."""
    rng, weights = np.random.default_rng(seed), weights_of(rnn)
    off = [w + size * np.sqrt(np.mean(w**2)) * rng.standard_normal(w.shape) for w in weights[1:]]
    return network(Weights(weights.decay, *off))


def rescaled(rnn: GatedRNN, seed: int = 0) -> GatedRNN:
    """The same function with every free scale changed."""
    rng, (decay, a, b, u, w, readout) = np.random.default_rng(seed), weights_of(rnn)
    s, r, p, q = (np.exp(rng.standard_normal(size)) for size in (len(a), len(a), len(u), len(u)))
    unit = (s * r)[None]
    return network(
        Weights(decay, a * s[:, None], b * r[:, None], u * p[:, None] / unit, w * q[:, None] / unit, readout / (p * q))
    )


class TestSaliency:
    def test_ignores_scale(self):
        """Saliency does not change under rescalings that leave the function as it is."""
        _, rnn = constructed()
        before, after = saliency(rnn, sequences()), saliency(rescaled(rnn), sequences())
        np.testing.assert_allclose(after.hidden, before.hidden, rtol=1e-8)
        np.testing.assert_allclose(after.readout, before.readout, rtol=1e-8)

    def test_is_the_power_lost(self):
        """The saliency of a unit is the loss of the network without it against the network with it."""
        _, rnn = constructed()
        x = sequences()
        lost = outputs(rnn, x) - outputs(keep_units(rnn, hidden=np.arange(1, len(rnn.w_m_in))), x)
        expected = np.mean(lost**2) / np.mean(outputs(rnn, x) ** 2)
        np.testing.assert_allclose(saliency(rnn, x).hidden[0], expected, rtol=1e-8)

    def test_dead_units_are_pruned_and_no_others(self):
        """Pruning a share of nothing takes out the dead units alone, and the function stays."""
        _, rnn = constructed()
        pruned = prune(with_dead_units(rnn), sequences(), 1e-14)
        assert (len(pruned.w_m_in), pruned.readout.shape[1]) == (len(rnn.w_m_in), rnn.readout.shape[1])
        assert same_function(rnn, pruned)


class TestMerge:
    @pytest.mark.parametrize("seed", range(3))
    def test_duplicates_are_folded_exactly(self, seed):
        """A disguised construction comes back with its own counts and the same function."""
        _, rnn = constructed()
        found = merge_equivalent(disguised(rnn, seed))
        assert len(found.rnn.w_m_in) == len(rnn.w_m_in)
        assert found.rnn.readout.shape[1] == rnn.readout.shape[1]
        assert max(found.hidden_error, found.readout_error) < 1e-12
        assert same_function(rnn, found.rnn)

    def test_units_of_other_decays_are_not_folded(self):
        """Two units with one input and different decays hold different numbers: both stay."""
        _, rnn = constructed()
        decay, a, b, u, w, readout = weights_of(rnn)
        twice = Weights(
            np.append(decay, 0.5),
            np.vstack([a, a[:1]]),
            np.vstack([b, b[:1]]),
            np.hstack([u, u[:, :1]]),
            np.hstack([w, w[:, :1]]),
            readout,
        )
        assert len(merge_equivalent(network(twice)).rnn.w_m_in) == len(rnn.w_m_in) + 1

    def test_dependent_forms_are_folded(self):
        """The full construction, d^2 + d units, is merged to the d (d + 1) / 2 + d that its forms span."""
        _, rnn = constructed(form="full")
        found = merge_equivalent(rnn)
        assert len(rnn.w_m_in) == 9 + 3 and len(found.rnn.w_m_in) == 6 + 3
        assert same_function(rnn, found.rnn)


class TestReduce:
    @pytest.mark.parametrize("form", ["full", "compact"])
    def test_gives_the_compact_counts(self, form):
        """Whatever the gauge, a full-rank attention reduces to d (d + 1) / 2 + d units and d (d + 1) / 2 products."""
        _, rnn = constructed(form=form)
        found = reduce(disguised(rnn, seed=4), sequences(), keep=1e-16)
        split = split_decays(found.rnn)
        assert (len(split.memory), len(split.forget), len(split.between)) == (6, 3, 0)
        assert found.rnn.readout.shape[1] == 6
        assert same_function(rnn, found.rnn, 1e-14)
        assert max(found.memory_memory, found.query_query) < 1e-20

    @pytest.mark.parametrize("size", [1e-5, 1e-4])
    def test_a_noisy_student_is_reduced_without_its_teacher(self, size):
        """Reduced to the compact counts, a student is nearer to the function than it was, and nothing was fitted."""
        attention, rnn = constructed(form="full")
        student, x = spread(disguised(rnn, seed=4), size), sequences()
        loss = relative_loss(student, attention, x)
        keep = least_power(student, attention, x, 1.1 * loss)
        assert keep is not None
        found = reduce(student, x, keep=keep, product_tolerance=0.1 * loss).rnn
        split = split_decays(found)
        assert (len(split.memory), len(split.forget), found.readout.shape[1]) == (6, 3, 6)
        assert relative_loss(found, attention, sequences(seed=9)) < 1.1 * relative_loss(
            student, attention, sequences(seed=9)
        )

    def test_no_rank_is_enough_where_a_product_is_missing(self):
        """Where even all products of memory and query miss the outputs, no power is given."""
        attention, rnn = constructed()
        weights = weights_of(rnn)
        u, w = weights.w_m_out.copy(), weights.w_x_out.copy()
        u[0], w[0] = w[0], w[0]
        student = network(weights._replace(w_m_out=u, w_x_out=w))
        assert least_power(student, attention, sequences(), 1e-6) is None
        assert least_power(student, attention, sequences(), 1e-6, spare=1e-4) is None
        assert least_power(student, attention, sequences(), 1e-6, spare=10.0) is not None

    def test_directions_that_no_input_shows_are_kept(self):
        """One-hot tokens show no product of two entries; the reduction keeps them, as a part of the function."""
        attention, rnn = constructed(form="full")
        tokens = np.eye(3)[np.random.default_rng(0).integers(3, size=(64, 12))]
        found = reduce(disguised(rnn, seed=4), tokens, keep=1e-12).rnn
        assert len(found.w_m_in) == 9 and same_function(rnn, found, 1e-18)

    def test_gap_is_reported(self):
        """The powers along the memory axis fall by many orders after the last direction that is kept."""
        _, rnn = constructed()
        power = reduce(rnn, sequences(), keep=1e-16).memory_power
        assert power[5] > 1e-6 and np.all(power[6:] < 1e-20)

    def test_other_decays_are_refused(self):
        """A decay that is neither 0 nor 1 is refused, with what to do."""
        _, rnn = constructed()
        with pytest.raises(InputError, match="settle the decays first"):
            reduce(noisy(rnn, 1e-3), sequences(), keep=1e-10)

    def test_no_product_is_refused(self):
        """A student without a product of memory and query computes no attention, and is told so."""
        _, rnn = constructed()
        weights = weights_of(rnn)
        ones = network(weights._replace(decay=np.ones_like(weights.decay)))
        with pytest.raises(InputError, match="does not compute an attention"):
            reduce(ones, sequences(), keep=1e-10)


class TestDecays:
    def test_split(self):
        """Decays are sorted into 1, 0 and between with the stated margin."""
        _, rnn = constructed()
        weights = weights_of(rnn)
        decay = weights.decay.copy()
        decay[:3] = 0.995, 0.5, 0.005
        split = split_decays(network(weights._replace(decay=decay)))
        assert 0 in split.memory and 1 in split.between and 2 in split.forget

    def test_ablation_of_a_construction(self):
        """Without units at 1 or at 0 nothing is left; without those between, everything is."""
        attention, rnn = constructed()
        found = ablate(with_dead_units(rnn), split_decays(with_dead_units(rnn)), attention, sequences())
        assert found.whole < EXACT and found.without_between < EXACT
        assert found.without_memory > 0.5 and found.without_forget > 0.5 and found.only_between > 0.5

    def test_set_decays(self):
        """Decays within the margin are set to exactly 0 and 1, others stay."""
        _, rnn = constructed()
        weights = weights_of(rnn)
        decay = np.where(weights.decay == 1, 0.999, 0.001)
        decay[0] = 0.5
        near = network(weights._replace(decay=decay))
        found = weights_of(set_decays(near, split_decays(near))).decay
        np.testing.assert_array_equal(found[1:], weights.decay[1:])
        assert found[0] == 0.5


class TestScores:
    def test_construction_scores_zero(self):
        """A construction holds key-values and queries exactly."""
        attention, rnn = constructed()
        tokens, split = sequences().reshape(-1, 3), split_decays(rnn)
        assert kv_score(rnn, split, attention, tokens) < 1e-20
        assert q_score(rnn, split, attention, tokens) < 1e-20

    def test_no_units_score_one(self):
        """Without units at 1 the key-values are wholly unexplained, without units at 0 the queries."""
        attention, rnn = constructed()
        tokens = sequences().reshape(-1, 3)
        none = split_decays(network(weights_of(rnn)._replace(decay=np.full(len(rnn.w_m_in), 0.5))))
        assert kv_score(rnn, none, attention, tokens) == pytest.approx(1, abs=1e-12)
        assert q_score(rnn, none, attention, tokens) == pytest.approx(1, abs=1e-12)

    def test_another_teacher_is_not_explained_by_too_few_units(self):
        """Units that hold one query alone leave the other queries unexplained."""
        attention, rnn = constructed()
        split = split_decays(rnn)
        less = split._replace(forget=split.forget[:1])
        assert q_score(rnn, less, attention, sequences().reshape(-1, 3)) > 0.1

    def test_unseen_queries_do_not_count(self):
        """Where W_K^T W_Q lacks a rank, only what the output can depend on is asked of the student."""
        full = teacher()
        singular = np.array(full.w_q[0]) @ np.diag([1.0, 1.0, 0.0])
        attention = type(full)(full.w_v, full.w_k, singular)
        from dualform.construct import gated_rnn

        rnn = gated_rnn(attention, "low_rank")
        split, tokens = split_decays(rnn), sequences().reshape(-1, 3)
        assert len(split.forget) == 2
        assert kv_score(rnn, split, attention, tokens) < 1e-20 and q_score(rnn, split, attention, tokens) < 1e-20


class TestArrange:
    def test_keeps_the_function_and_shows_the_blocks(self):
        """Units at 1 come first, W_m reads memory, W_x reads queries, queries pass beside the constant."""
        attention, rnn = constructed(d=3)
        found = arrange(rescaled(disguised(rnn, copies=1)))
        assert same_function(rnn, found)
        decay = weights_of(found).decay
        memory = int(decay.sum())
        assert np.all(decay[:memory] == 1) and np.all(decay[memory:] == 0)
        assert np.abs(np.asarray(found.w_m_out)[:, memory:]).max() < 1e-12
        assert np.abs(np.asarray(found.w_x_out)[:, :memory]).max() < 1e-12
        np.testing.assert_allclose(np.abs(np.asarray(found.w_x_in)[memory:, -1]), 1.0, atol=1e-12)
        assert relative_loss(found, attention, sequences()) < EXACT
