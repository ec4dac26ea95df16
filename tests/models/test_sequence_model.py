"""Regressors and classifiers, per token and pooled, and mixers that read in both directions."""

from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from dualform.errors import InputError
from dualform.mixers import GRU, registry
from dualform.models import Bidirectional, Block, SequenceModel
from tests.laws import laws
from tests.models.families import FAMILIES, TIME, sequence_model, shaken
from tests.tiers import tiers

START, MASK = np.array([0, 0, 1, 0, 1, 0], bool), np.array([0, 1, 1, 0, 1, 1], bool)
X = laws.sequence(0, TIME, 3)
MODELS = {pool: sequence_model(*FAMILIES[: 1 + (pool == "none")], pool=pool) for pool in ("none", "mean", "last")}


@pytest.mark.parametrize("pool", MODELS)
def test_a_model_is_its_parts_in_turn(pool):
    """In, blocks, norm, the pool and out, one after the other."""
    model = MODELS[pool]
    assert model.norm is not None
    h = X @ model.w_in.T + model.b_in[None]
    for each in model.blocks:
        h, _ = laws.call(each, h)
    h = np.asarray(model.norm(h)[0])
    h = {"none": h, "mean": h.mean(0), "last": h[-1]}[pool]
    expected = h @ np.asarray(model.w_out).T + np.asarray(model.b_out)
    laws.check_close(laws.call(model, X)[0], expected, laws.ROUNDING, pool)
    assert (model.d_in, model.d_out) == (3, 2)
    assert model.parameters() == sum(leaf.size for leaf in jax.tree_util.tree_leaves(model))


CARRIED = ("none", "flags"), ("mean", "plain")


@pytest.mark.parametrize(("pool", "with_flags"), tiers(product(MODELS, ["plain", "flags"]), *CARRIED))
def test_a_state_is_carried(pool, with_flags):
    """Steps give what one call gives; where it pools, each step gives the output so far."""
    model, flags = MODELS[pool], (START, MASK) if with_flags == "flags" else (None, None)
    state = laws.call(model, laws.sequence(1, TIME, 3))[1]
    y, final = laws.call(model, X, state, *flags)
    outputs, last = laws.step_by_step(model, X, state, *flags)
    laws.check_close((outputs if pool == "none" else outputs[-1], last), (np.asarray(y), final), laws.EXACT, "steps")
    cut = (None if f is None else f[:4] for f in flags)
    before = laws.call(model, X[:4], state, *cut)[0]
    laws.check_close(before, jnp.asarray(outputs[:4] if pool == "none" else outputs[3]), laws.EXACT, "after 4 tokens")


@pytest.mark.parametrize("pool", MODELS)
def test_packing_and_padding_change_nothing(pool):
    """A document gives what it gives alone, whatever lies before it and in the gaps; a pool is of the last document."""
    model, holes = MODELS[pool], jnp.where(MASK[:, None], X, jnp.nan)
    y, final = laws.call(model, holes, None, START, MASK)
    kept = [4, 5]  # a start where there is a token
    alone, last = laws.call(model, X[jnp.array(kept)])
    laws.check_close(
        (y[jnp.array(kept)] if pool == "none" else y, final), (alone, last), laws.EXACT, "the last document"
    )
    nothing, same = laws.call(model, holes, final, None, np.zeros(TIME, bool))
    laws.check_same_bits(same, final, "the state after absent tokens only")
    if pool == "none":
        assert not np.asarray(nothing).any()
    else:
        laws.check_close(nothing, y, laws.ROUNDING, "the output after absent tokens only")


def both(name: str, join: str = "sum", seed: int = 0) -> Any:
    """Two mixers of one kind, with weights of their own."""
    ahead, back = (registry()[name](laws.D, key=key) for key in jr.split(jr.key(seed)))
    return shaken(Bidirectional(ahead, back, join))


@pytest.mark.parametrize("join", ["sum", "concatenate"])
def test_both_directions(join):
    """One mixer reads from the start, the other from the end."""
    mixer, x = both("griffin_recurrent", join), laws.sequence(0, TIME)
    ahead, back = laws.call(mixer.forward, x)[0], laws.call(mixer.backward, x[::-1])[0][::-1]
    expected = ahead + back if join == "sum" else jnp.concatenate([ahead, back], axis=1)
    y, state = laws.call(mixer, x)
    laws.check_close(y, expected, laws.ROUNDING, join)
    assert state == () and mixer.d_out == expected.shape[1]
    assert mixer.parameters() == sum(leaf.size for leaf in jax.tree_util.tree_leaves(mixer))


@pytest.mark.parametrize(
    "mask",
    tiers(
        [[1] * TIME, [0, 1, 1, 0, 1, 1], [1, 1, 0, 1, 1, 0], [0, 1, 0, 1, 0, 1]], [0, 1, 1, 0, 1, 1], [0, 1, 0, 1, 0, 1]
    ),
)
@pytest.mark.parametrize("start", [[0, 0, 1, 0, 1, 0], [1, 0, 0, 1, 0, 0], [0, 0, 0, 0, 0, 1]])
def test_documents_stay_apart_in_both_directions(start, mask):
    """Each packed document gives what it gives alone, from the start and from the end, with gaps wherever they lie."""
    mixer, x = both("griffin_recurrent"), laws.sequence(0, TIME)
    start, mask = np.array(start, bool), np.array(mask, bool)
    y = np.asarray(laws.call(mixer, jnp.where(mask[:, None], x, jnp.nan), (), start, mask)[0])
    document = np.cumsum(start & mask)
    for number in np.unique(document[mask]):
        own = np.flatnonzero((document == number) & mask)
        laws.check_close(y[own], np.asarray(laws.call(mixer, x[own], ())[0]), laws.EXACT, f"document {number}")
    assert not y[~mask].any()


def test_a_classifier_in_both_directions():
    """Blocks around bidirectional mixers make a classifier, whose every token has a part in the output."""
    blocks = tuple(Block.make(both("hgrn", seed=i), key=jr.key(i), mlp="gelu", hidden=5) for i in range(2))
    model = SequenceModel.make(blocks, 3, 2, key=jr.key(0), pool="mean")
    gradient = jax.jit(jax.grad(lambda x: jnp.sum(model(x)[0])))(X)
    assert np.asarray(gradient).any(axis=1).all()


GRU4, KEY = registry()["gru"](4, key=jr.key(0)), jr.key(0)
BLOCK4 = Block(None, GRU4)
ONES = lambda *shape: np.ones(shape)
BAD = {
    "width": (lambda: MODELS["none"](X.T), "takes tokens of width 3; got 6"),
    "token ids": (lambda: MODELS["none"](X.astype(int)), "real floating-point activations; got int64. Embed token ids"),
    "no token": (lambda: MODELS["mean"](X[:0]), "a sequence of length 0"),
    "start": (lambda: MODELS["mean"](X, start=jnp.ones(6)), r"start must be .* got shape \(6,\) of float64"),
    "state": (lambda: MODELS["mean"](X, ()), "the state does not belong to this SequenceModel"),
    "pool": (
        lambda: SequenceModel.make((BLOCK4,), 3, 2, key=KEY, pool="max"),
        "no pool 'max'; there are none, mean, last",
    ),
    "no block": (lambda: SequenceModel.make((), 3, 2, key=KEY), "a model needs at least one block"),
    "block": (
        lambda: SequenceModel(ONES(3, 3), None, (BLOCK4,), ONES(2, 3), None),
        "block 1 takes tokens of width 4; the map in gives 3",
    ),
    "w_in": (
        lambda: SequenceModel(ONES(3), None, (BLOCK4,), ONES(2, 4), None),
        r"w_in \(3,\) and w_out \(2, 4\) must be",
    ),
    "w_out": (
        lambda: SequenceModel(ONES(4, 3), None, (BLOCK4,), ONES(2, 3), None),
        r"w_out has shape \(2, 3\); .* \(2, 4\)",
    ),
    "join": (lambda: Bidirectional(GRU4, GRU4, "mean"), "there is no join 'mean'; there are sum, concatenate"),
    "widths in": (lambda: Bidirectional(GRU4, GRU.make(3, key=KEY)), "forward takes tokens of width 4, backward of 3"),
    "widths out": (
        lambda: Bidirectional(GRU4, GRU.make(4, n=3, key=KEY)),
        "a width of 4, backward of 3, .* Concatenate",
    ),
    "a state": (lambda: both("gru")(laws.sequence(0, 3), (jnp.ones(4),)), "has no state to go on from"),
    "a step": (lambda: both("gru").step(jnp.ones(4), ()), "has no step: the output at a token needs those after it"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(unchecked, case):
    """What is wrong is said, with which value, and what to do."""
    make, message = BAD[case]
    with pytest.raises(InputError, match=message):
        make()
