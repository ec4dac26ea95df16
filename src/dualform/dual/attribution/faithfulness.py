"""Are the tokens that an attribution ranks first the ones that the output needs? A perturbation test."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dualform.arrays import State
from dualform.dual.attribution.target import Question, Target, as_target, question
from dualform.errors import require


class Curves(NamedTuple):
    """What becomes of an output as tokens go, or come, by rank; areas are means over the steps, from no token to all but t.

    - positive: the target's probability as the most relevant tokens are taken away first: the lower, the better.
    - negative: as the least relevant are: the higher, the better. Read from its end, it is the curve of tokens that come, the
      most relevant first: the area is AUAC, too.
    - pruning: the squared change of the logits, as the least relevant are taken away first: AU-MSE, the lower, the better.
    """

    positive: float
    negative: float
    pruning: float

    @property
    def activation(self) -> float:
        """AUAC: the target's probability as tokens come, the most relevant first; `negative`, by another way."""
        return self.negative


def perturbation_curves(
    model: Any,
    x: Any,
    target: Target | tuple[int, ...],
    scores: Float[np.ndarray, " time"],
    *,
    removed: Float[Array, " d"] | None = None,
    state: State | None = None,
    start=None,
    mask=None,
) -> Curves:
    """The areas under three curves: the output as tokens go, or come, in the order of `scores`.

    The token at place t itself stays: it asks the question.

    **Arguments:** model, x, target, state, start, mask: as of `attribute`; scores: (time,), of any method; removed: (d,), what
    stands where a token was taken away: zeros if not given.

    **Returns:** `Curves`. The target's probability is its softmax.

    **Raises:** `InputError` where there is not one score for each token, or only one token.

    **Source:** positive and negative perturbation: Chefer et al. 2021 (arXiv 2012.09838); AUAC and AU-MSE: Ali et al. 2022 (arXiv
    2202.07304), as Zimerman, Ali & Wolf 2024 (arXiv 2405.16504) take them. Their pruning is of logits, as here.
    """
    target = as_target(target)
    q = question(model, x, target, state, start, mask)
    scores = np.asarray(scores)
    require(scores.shape == (len(q.x),), f"scores have shape {scores.shape}; there are {len(q.x)} tokens.")
    others = np.array([s for s in np.argsort(-scores, kind="stable") if s != int(q.t)])
    require(len(others) >= 1, "a perturbation test needs at least one token besides the one that asks.")
    token = jnp.asarray(target.token)
    gone = jnp.zeros(q.x.shape[1], q.x.dtype) if removed is None else jnp.asarray(removed, q.x.dtype)
    ranks = np.zeros(len(q.x), int)
    ranks[others] = np.arange(len(others))
    ranks[int(q.t)] = -1
    p_first, _ = _taken_away(q, token, gone, jnp.asarray(ranks), False)
    p_last, change = _taken_away(q, token, gone, jnp.asarray(ranks), True)
    area = lambda curve: float(np.trapezoid(np.asarray(curve, np.float64)) / (len(others)))
    return Curves(area(p_first), area(p_last), area(change))


@eqx.filter_jit
def _taken_away(q: Question, token, gone, ranks, least_first: bool):
    """The target's probability, and the mean squared change of the logits, with k = 0, 1, ... tokens taken away."""
    count = len(q.x) - 1
    run = lambda x: q.outputs(x)[q.t]
    whole = run(q.x)

    def with_gone(k):
        away = (ranks >= count - k) if least_first else ((ranks < k) & (ranks >= 0))
        logits = run(jnp.where(away[:, None], gone[None], q.x))
        return jax.nn.softmax(logits)[token], jnp.mean((logits - whole) ** 2)

    return jax.lax.map(with_gone, jnp.arange(count + 1), batch_size=min(32, count + 1))
