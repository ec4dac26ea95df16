"""Law 3: no output depends on a later token."""

import numpy as np
import pytest

from dualform.mixers import registry
from tests.laws import laws, programs


@pytest.mark.parametrize("name", registry())
def test_nothing_comes_from_the_future(name):
    """Changing x[t] changes no y[s] for s < t, for every t, with documents and absent tokens and without."""
    asked = laws.table(name)
    t = np.arange(len(asked.x)) % laws.TIME
    laws.nothing_comes_from_the_future(asked, None, t, seed=0)
    laws.nothing_comes_from_the_future(laws.alone(asked), None, t, seed=1)


@pytest.mark.parametrize("name", laws.registered(*laws.KINDS))
def test_nothing_comes_from_the_future_across_chunks(name):
    """Changing x[t] changes no y[s] for s < t, on both sides of a border between chunks."""
    x = np.stack([laws.sequence(0, laws.LONG)] * 3)
    laws.nothing_comes_from_the_future(laws.make(name), x, [63, 64, 65], 0, programs.plain_call)
