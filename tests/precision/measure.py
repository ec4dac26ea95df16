"""How far values and gradients in a user's dtype are from float64, and whether they depend on their neighbours in a batch."""

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import ml_dtypes
import numpy as np

EPSILON = {"float32": 2.0**-24, "bfloat16": 2.0**-9}
"""Half of what lies between 1 and the next number: the most that rounding once to the dtype moves a number, relatively."""

ROUNDINGS = {"float32": 64.0, "bfloat16": 4.0}
"""How many roundings to the dtype an output or a gradient may be worth. Sums are in float32 for both, and so a result in
bfloat16 is rounded when it is handed out, and at most once or twice before, at a projection's gradient; in float32 every one
of the sums over some hundred tokens is rounded."""

INSIDE = 16.0
"""How many times as many where a case's chunks are solved for as a whole: measured 13."""

ERASED = 4.0
"""How many times as many again in the gradient of such a case's first state, of which a whole chunk's erasing leaves what
rounding leaves: measured 2.8, at 64 tokens."""

ALIKE = 4.0
"""How many times what the specification itself is off by in the user's dtype, where that is more: of a gradient that is what is
left of parts many times its size (1 - tanh^2 where tanh is 1; a query's length, which a norm behind it takes away) rounding
leaves nothing in any order of summation."""

NEIGHBOURS = {"NaN": np.nan, "infinity": np.inf, "huge numbers": 1e30, "zeros": 0.0}


class Case(NamedTuple):
    """Something to run on a batch of variants.

    - fast: what users call; exact: its specification. Functions of `arguments`, a pytree of which every leaf has the variants
      in front, to outputs of real numbers.
    - arguments: in float64; what is to be in the user's dtype is in `low`, the rest in `wide`, kept in float32.
    - inside: whether rounding inside is allowed for too, and `INSIDE` times as many roundings. A delta rule whose beta is 1 in
      float32 forgets all of what float64 keeps a little of, and divides what is left by its size; and a chunk's tokens are
      solved for together, with rounding of the size of what was erased: no rounding of the inputs moves it as far.
    """

    fast: Callable[..., Any]
    exact: Callable[..., Any]
    low: Any
    wide: Any = ()
    inside: bool = False


def rounded(tree: Any, dtype: str) -> Any:
    """Float64 numbers that the dtype holds."""
    kind = {"float32": np.float32, "bfloat16": ml_dtypes.bfloat16}[dtype]
    return jtu.tree_map(lambda a: np.asarray(a).astype(kind).astype(np.float64), tree)


def pulled_back(function: Callable[..., Any]) -> Callable[..., Any]:
    """Outputs, and the gradients of everything for given cotangents, for each variant of a batch; compiled."""

    def run(low, wide, cotangents):
        outputs, pull = jax.vjp(function, low, wide)
        return outputs, pull(cotangents)

    return jax.jit(jax.vmap(run))


def as_arrays(tree: Any, dtype: str) -> Any:
    """As arrays of jax in `dtype`."""
    return jtu.tree_map(lambda a: jnp.asarray(a, dtype), tree)


def measure(case: Case, dtype: str, seed: int = 0) -> list[str]:
    """What is wrong with a case: nothing, if the law holds.

    Every output and every gradient is finite, and as close to float64 as rounding asks for: its error, relative to its norm, is
    at most `ROUNDINGS` times the greater of `EPSILON` and what the specification itself moves where every number that it is
    given is rounded once more, and for a case `inside` also of what it is off by in float32; or `ALIKE` times what the
    specification is off by in the same dtype. And no bit of a variant changes where its neighbours in the batch do.
    """
    random, epsilon = np.random.default_rng(seed), EPSILON[dtype]
    low, wide = rounded(case.low, dtype), rounded(case.wide, "float32")
    given = as_arrays(low, dtype), as_arrays(wide, "float32")
    like = jax.eval_shape(jax.vmap(case.fast), *given)
    normal = jtu.tree_map(lambda a: random.standard_normal(a.shape[1:]), like)
    normal = jtu.tree_map(lambda a, b: rounded(np.broadcast_to(a[None], b.shape), dtype), normal, like)
    cotangents = jtu.tree_map(lambda a, b: jnp.asarray(a, b.dtype), normal, like)
    fast = pulled_back(case.fast)
    found = jtu.tree_map(lambda a: np.asarray(a).astype(np.float64), fast(*given, cotangents))
    with jax.enable_x64(True):
        exact, moved = pulled_back(case.exact), []
        expected = exact(*as_arrays((low, wide, normal), "float64"))
        for _ in range(2):
            by = lambda a: a * (1 + epsilon * random.choice([-1.0, 1.0], a.shape))
            again = exact(*as_arrays(jtu.tree_map(by, (low, wide)), "float64"), as_arrays(normal, "float64"))
            moved.append(jtu.tree_map(np.asarray, again))
        if case.inside:
            own = exact(*as_arrays((low, wide, normal), "float32"))
            moved.append(jtu.tree_map(lambda a: np.asarray(a, np.float64), own))
        expected = jtu.tree_map(np.asarray, expected)
    roundings = ROUNDINGS[dtype] * (INSIDE if case.inside else 1.0)
    first_state = roundings * (ERASED if case.inside else 1.0)
    wrong = _too_far(found, expected, moved, epsilon, (roundings, first_state))
    if wrong:
        alike = pulled_back(case.exact)(*given, cotangents)
        wrong = _too_far(found, expected, moved, epsilon, (roundings, first_state), jtu.tree_leaves(alike))
    return wrong + _dependent(fast, given, cotangents, found)


def _too_far(found, expected, moved, epsilon, roundings, alike=None) -> list[str]:
    """Lines on what is not finite or too far off.

    `roundings`: allowed, and in gradients of what is wide (the first state); `alike`: the specification's leaves in the user's
    dtype, where it is asked.
    """
    wrong = []
    others = [jtu.tree_leaves(each) for each in moved]
    for i, (path, leaf) in enumerate(jtu.tree_leaves_with_path(found)):
        what = ("output" if path[0] == jtu.SequenceKey(0) else "gradient") + jtu.keystr(path[1:])
        exact = jtu.tree_leaves(expected)[i]
        allowed = roundings[path[:2] == (jtu.SequenceKey(1), jtu.SequenceKey(1))]
        for variant in range(len(leaf)):
            a, b = leaf[variant], exact[variant]
            if not np.isfinite(a).all():
                wrong.append(f"{what}, variant {variant}: not finite")
                continue
            size = float(np.linalg.norm(b)) or 1.0
            off = lambda a, b=b, size=size: float(np.linalg.norm(np.asarray(a, np.float64) - b)) / size
            itself = max(off(other[i][variant]) for other in others)
            bound = allowed * max(epsilon, itself)
            if not off(a) <= (bound if alike is None else max(bound, ALIKE * off(alike[i][variant]))):
                wrong.append(f"{what}, variant {variant}: off by {off(a):.1e}, by rounding {itself:.1e}, of {size:.1e}")
    return wrong


def _dependent(fast, given, cotangents, found) -> list[str]:
    """Each variant beside others, in its place; what the others hold changes no bit of it."""
    wrong, variants = [], len(jtu.tree_leaves(found)[0])
    for variant, (name, value) in itertools.product(range(variants), NEIGHBOURS.items()):

        def beside(a, variant=variant, value=value):
            others = np.arange(len(a)).reshape(-1, *[1] * (a.ndim - 1)) != variant
            return jnp.where(others, jnp.asarray(value, a.dtype), a)

        again = fast(*jtu.tree_map(beside, given), cotangents)
        for (path, a), b in zip(jtu.tree_leaves_with_path(again), jtu.tree_leaves(found), strict=True):
            if np.asarray(a[variant]).astype(np.float64).tobytes() != b[variant].tobytes():
                wrong.append(f"{jtu.keystr(path)}, variant {variant}: depends on neighbours of {name}")
    return wrong
