"""Law 5: absent tokens, packing and batching change nothing."""

import numpy as np
import pytest

from dualform.mixers import registry
from tests.laws import laws


@pytest.mark.parametrize("name", registry())
def test_absent_tokens_change_nothing(name):
    """Absent tokens at the left, at the right, in between and everywhere change nothing, be they NaN: every mask of six."""
    asked = laws.table(name)
    assert len({mask.tobytes() for mask in asked.mask}) == 2**laws.TIME
    laws.absent_tokens_change_nothing(asked._replace(start=np.zeros_like(asked.start)))


@pytest.mark.parametrize("name", laws.registered(*laws.KINDS))
def test_absent_tokens_leave_no_gradient(name):
    """NaN in absent tokens reaches no gradient, and they get none: every mask of six."""
    laws.absent_tokens_leave_no_gradient(laws.table(name))


@pytest.mark.parametrize("name", laws.registered(*laws.KINDS))
def test_packed_documents_stay_apart(name):
    """Packed documents give what each gives alone, and pass no gradient to one another: every packing of six tokens."""
    asked = laws.table(name)
    assert len({start.tobytes() for start in asked.start}) == 2**laws.TIME
    laws.packed_documents_stay_apart(asked._replace(mask=np.ones_like(asked.mask)))


@pytest.mark.parametrize("name", registry())
def test_a_start_at_an_absent_token_is_ignored(name):
    """A document cannot begin where there is no token."""
    laws.a_start_at_an_absent_token_is_ignored(laws.table(name))


@pytest.mark.parametrize("name", laws.registered(*laws.KINDS))
def test_batching_is_a_loop(name):
    """vmap over sequences, each with its own flags, and over mixers of several seeds, is a loop over them."""
    asked = laws.table(name).take([9, 27, 53])
    laws.batching_is_a_loop([laws.make(name, seed=seed) for seed in range(3)], asked.x, asked.start, asked.mask)


@pytest.mark.parametrize("name", laws.registered("gated_rnn", "lru", "mamba"))
def test_an_ensemble_is_a_loop(name):
    """vmap over mixers of several seeds alone is a loop over them; in every run the law above has it with sequences inside."""
    laws.an_ensemble_is_a_loop([laws.make(name, seed=seed) for seed in range(3)], laws.sequence(0, laws.TIME))
