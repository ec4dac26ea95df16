"""The law of what is not finite: NaN and infinity, in a token or in a carried state, stay in their document."""

import jax.tree_util as jtu
import numpy as np

from tests.laws import laws, programs
from tests.laws.programs import Cases, ask

VALUES = np.array([np.nan, np.inf, -np.inf])


def spoil(asked: Cases) -> tuple[Cases, np.ndarray, np.ndarray]:
    """These calls with one number in each that is not finite: of a token, or, in every fourth case, of the state.

    Returns them, (case, time) which tokens hold one, and (case,) which states do.
    """
    count, time, d = asked.x.shape
    rows = np.arange(count)
    of_state = rows % 4 == 0
    token = (rows[:, None] // 4 % time == np.arange(time)) & ~of_state[:, None]
    value = VALUES[rows % 3]
    x = np.array(asked.x)
    x[:, :, 1] = np.where(token, value[:, None], x[:, :, 1])

    def last_entry(leaf: np.ndarray) -> np.ndarray:
        leaf = np.array(leaf)
        if leaf.size and np.issubdtype(leaf.dtype, np.floating):
            flat = leaf.reshape(count, -1)
            flat[:, -1] = np.where(of_state, value, flat[:, -1])
        return leaf

    return asked._replace(x=x, state=jtu.tree_map(last_entry, asked.state)), token, of_state


def unknown(asked: Cases, token: np.ndarray, of_state: np.ndarray) -> np.ndarray:
    """Which outputs are not to be known, written as the sentence says it: from there on, until the next document begins."""
    found = np.zeros_like(token)
    for case, lost in enumerate(of_state):
        for t in np.flatnonzero(asked.mask[case]):
            lost = (lost and not asked.start[case, t]) or token[case, t]
            found[case, t] = lost
    return found


def they_stay_in_their_document(asked: Cases) -> None:
    """Law 5g: what comes before, what is behind a `start`, the last state and gradients are as if all were finite.

    What is behind them in their own document is NaN. So it is in a call, in steps, in the dual form, and in gradients of
    what is known with respect to weights, tokens and state.
    """
    spoilt, token, of_state = spoil(asked)
    lost = unknown(asked, token, of_state)
    there = np.arange(asked.x.shape[1])
    last = np.array([row[np.flatnonzero(row)[-1]] if row.any() else -1 for row in asked.mask * (there + 1)]) - 1
    final_lost = np.where(last >= 0, lost[np.arange(len(lost)), last], of_state)

    y, final = ask(programs.call, asked)
    known = lambda a: np.where(lost.reshape(*lost.shape, *[1] * (a.ndim - 2)), np.zeros_like(a), a)
    known_state = lambda tree: jtu.tree_map(lambda a: a[~final_lost], tree)
    y_steps, states = ask(programs.steps, spoilt)
    answers = {"call": ask(programs.call, spoilt), "steps": (y_steps, jtu.tree_map(lambda a: a[:, -1], states))}
    for what, (y_found, final_found) in answers.items():
        assert np.isnan(y_found[lost]).all(), f"{what}: an output is given that cannot be known"
        laws.check_each_close(known(y_found), known(y), laws.ROUNDING, f"{what}: outputs that are known")
        laws.check_each_close(known_state(final_found), known_state(final), laws.ROUNDING, f"{what}: the last state")
        numbers = [a for a in jtu.tree_leaves(final_found) if np.issubdtype(a.dtype, np.inexact) and a.size]
        read = final_lost & (last >= 0)
        assert all(np.isnan(a[read]).all() for a in numbers), f"{what}: a state is given that cannot be known"
    untouched = np.flatnonzero(last < 0)
    kept = lambda tree: jtu.tree_map(lambda a: a[untouched], tree)
    laws.check_same_bits(kept(answers["call"][1]), kept(spoilt.state), "a state after no token")

    maps: dict[str, tuple[np.ndarray, ...]] = {}
    for what, each in {"found": spoilt, "expected": asked}.items():
        _, contributions, bias, weights, *_ = ask(programs.dual_form, each)
        maps[what] = tuple(map(known, (contributions, bias, np.moveaxis(weights, 1, -1))))
    laws.check_each_close(maps["found"], maps["expected"], laws.ROUNDING, "the dual form")

    random = np.random.default_rng(0)
    zero = lambda a: np.where(
        final_lost.reshape(-1, *[1] * (a.ndim - 1)), np.zeros_like(a), random.normal(size=a.shape)
    )
    draw = lambda a: zero(a).astype(a.dtype) if np.issubdtype(a.dtype, np.inexact) else None
    cotangents = known(random.normal(size=y.shape)), jtu.tree_map(draw, final)
    found, expected = (ask(programs.pull_back, each, cotangents) for each in (spoilt, asked))
    laws.check_each_close(found, expected, laws.ROUNDING, "gradients of what is known")
