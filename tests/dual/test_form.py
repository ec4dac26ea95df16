"""The dual form's own parts: blocks, bias, aggregation, kind, and the map of an attention written into an RNN."""

import jax.numpy as jnp
import numpy as np
import pytest

from dualform import construct, dual_form
from dualform.dual.form import aggregate
from dualform.errors import InputError
from dualform.mixers import GatedRNN, LinearAttention, registry
from tests.laws import laws

LINEAR = {
    *("linear_attention", "side_gated_rnn", "lru", "lru_in_skip", "causal_convolution"),
    *("min_gru", "min_gru_log", "min_lstm", "min_lstm_log", "rg_lru", "griffin_recurrent"),
    *("aaren", "softmax_attention", "multi_query_attention", "local_attention", "rwkv4"),
    *("cross_attention", "position_aware_cross_attention"),
}
"""Mixers that read their memory linearly: gates, softmax weights and the like are chosen by tokens, and nothing else is frozen.

Not among them: those that norm what they read (HGRN, HGRN2, GLA, GSA, RetNet, the delta rules, Mamba-2), or put a silu between a
value's convolution and the memory (the delta rules, Mamba, Mamba-2); and those whose gate or activation reads the memory.
"""


@pytest.mark.parametrize("form", ["full", "compact"])
def test_an_rnn_that_implements_attention_has_its_map(form):
    """The dual form of a constructed gated RNN is the attention's own: the same contributions, token by token."""
    attention, x = LinearAttention(*np.random.default_rng(0).normal(size=(3, 4, 4))), laws.sequence(1, 6)
    rnn = construct.gated_rnn(attention, form=form)
    found, expected = dual_form(rnn, x), dual_form(attention, x)
    laws.check_close(found.y, expected.y, laws.EXACT, "outputs")
    laws.check_close(found.contributions, expected.contributions, laws.EXACT, "contributions")


def test_kind():
    """A layer whose map is its own says so, and one with a frozen nonlinearity says that."""
    assert {name for name in registry() if laws.make(name).linear_given_gates} == LINEAR
    x = laws.sequence(0, 2)
    assert dual_form(laws.make("linear_attention"), x).kind == "linear given its gates"
    assert dual_form(laws.make("gated_rnn"), x).kind == "frozen nonlinearity"


def test_weights_are_the_aggregate_where_there_is_no_closed_form():
    """A mixer without scalar maps of its own gets the documented aggregation of its channels."""
    form = dual_form(GatedRNN.make(4, key=laws.jr.key(0)), laws.sequence(0, 6))
    laws.check_same_bits(form.weights, form.aggregate(), "weights")
    assert form.over == "tokens" and float(form.map_residual) <= laws.EXACT


def test_aggregate_by_hand():
    """Each entry is the projection on the output, head by head; a row of an output of 0 is 0."""
    contributions = jnp.array([[[1.0, 2.0], [0.0, 0.0]], [[3.0, 0.0], [1.0, 0.0]]])
    y = contributions.sum(1)  # [[1, 2], [4, 0]]
    assert aggregate(contributions, y).tolist() == [[[1.0, 0.0], [0.75, 0.25]]]
    assert aggregate(contributions, y, heads=2).tolist() == [[[1.0, 0.0], [0.75, 0.25]], [[1.0, 0.0], [0.0, 0.0]]]


def test_the_residual_sees_what_is_missing():
    """The certificate is the relative error of the sum: take one contribution away and it says how much is gone."""

    class Deaf(LinearAttention):
        def at(self, x, state, segments):
            frozen = super().at(x, state, segments)
            return frozen._replace(y=2 * frozen.y)

    form = dual_form(Deaf(*np.random.default_rng(0).normal(size=(3, 4, 4))), laws.sequence(1, 6))
    assert float(form.residual) == pytest.approx(0.5, abs=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: dual_form(laws.make("gated_rnn"), laws.sequence(0, 3), block=0),
            "block is 0; it must be at least 1 token",
        ),
        (
            lambda: dual_form(laws.make("gated_rnn"), laws.sequence(0, 3)).aggregate(3),
            "3 heads do not divide the output width of 4",
        ),
        (lambda: dual_form(laws.make("gated_rnn"), laws.sequence(0, 3)).aggregate(0), "0 heads do not divide"),
    ],
)
def test_bad_input(call, message):
    """A block or a number of heads that cannot be used is named."""
    with pytest.raises(InputError, match=message):
        call()
