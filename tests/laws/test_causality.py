"""Law 3: no output depends on a later token."""

import numpy as np
import pytest

from dualform.mixers import registry
from tests.laws import laws, programs


def choose_nothing(asked):
    """The tokens that choose nothing in cross-attention: those of a text, and a frame that sees fewer than two of them.

    A state of another text lies before the first document.
    """
    text, rows = (asked.x[:, :, -1] <= 0) & asked.mask, range(asked.x.shape[1])
    document = np.cumsum(asked.start & asked.mask, axis=1)
    carried = np.asarray(asked.state[0].filled)
    seen = np.stack([(text & (document == document[:, t : t + 1]))[:, : t + 1].sum(axis=1) for t in rows], axis=1)
    return text | (seen + np.where(document == 0, carried[:, None], 0) < 2)


WITHOUT = dict.fromkeys(laws.READ_A_TEXT, choose_nothing)
"""Mixers of which some outputs are the same whatever their own token is, and which these are."""


@pytest.mark.parametrize("name", registry())
def test_nothing_comes_from_the_future(name):
    """Changing x[t] changes no y[s] for s < t, for every t, with documents and absent tokens and without."""
    asked = laws.table(name)
    asked = asked._replace(x=laws.text_first(name, asked.x))
    t, without = np.arange(len(asked.x)) % laws.TIME, WITHOUT.get(name)
    laws.nothing_comes_from_the_future(asked, None, t, seed=0, without=without)
    alone = laws.alone(asked)
    laws.nothing_comes_from_the_future(alone, None, t, seed=1, without=without)
    assert without is None or not without(alone)[:, laws.TIME // 3 :].any(), "outputs that are not asked for"


@pytest.mark.parametrize("name", laws.registered(*laws.KINDS))
def test_nothing_comes_from_the_future_across_chunks(name):
    """Changing x[t] changes no y[s] for s < t, on both sides of a border between chunks."""
    x, without = laws.text_first(name, np.stack([laws.sequence(0, laws.LONG)] * 3)), WITHOUT.get(name)
    laws.nothing_comes_from_the_future(laws.make(name), x, [63, 64, 65], 0, programs.plain_call, without)
