"""The mixers as cases: weights of three sizes, tokens and a state, against the same mixer in float64 on naive recurrences."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np

from dualform.mixers import registry
from dualform.recurrences import choice
from tests.precision.measure import Case

D = 4
SIZES = (1e-2, 1.0, 10.0)
"""What the weights of each variant are times those of a fresh mixer: gates that hardly move, fresh ones, and saturated ones."""

AS_THEY_ARE = {"gamma", "transition", "u"}
"""Not scaled: bounds in [0, 1), and matrices with which a longer sequence grows without bound."""

NAIVE = dict.fromkeys(
    ("diagonal", "outer", "delta", "selective", "wkv", "softmax_scan", "many_to_one"),
    {"cpu": "naive", "other": "naive"},
)


def case(name: str, time: int) -> Case:
    """The mixer `name` over `time` tokens, with outputs and gradients of its weights, tokens and first state."""
    mixer = registry()[name](D, key=jr.key(0), dtype=jnp.float32)
    random = np.random.default_rng(time)
    weights, rest = eqx.partition(mixer, eqx.is_inexact_array)
    state, counts = eqx.partition(mixer.init_state(), eqx.is_inexact_array)
    variants = np.asarray(SIZES)

    def scaled(path, a):
        sizes = np.ones_like(variants) if str(path[-1])[1:] in AS_THEY_ARE else variants
        return np.asarray(a, np.float64)[None] * sizes.reshape(-1, *[1] * a.ndim)

    each = lambda a: np.broadcast_to(a[None], (len(variants), *a.shape))
    low = jtu.tree_map_with_path(scaled, weights), each(random.standard_normal((time, D)))
    wide = jtu.tree_map(lambda a: each(0.5 * np.abs(random.standard_normal(a.shape))), state)

    def fast(low, wide) -> Any:
        (weights, x), state = low, eqx.combine(wide, counts)
        y, state = eqx.combine(weights, rest)(x, state)
        return y, eqx.filter(state, eqx.is_inexact_array)

    def exact(low, wide) -> Any:
        preferred, choice._PREFERRED = choice._PREFERRED, NAIVE
        try:
            return fast(low, wide)
        finally:
            choice._PREFERRED = preferred

    return Case(fast, exact, low, wide, inside="delta" in name)
