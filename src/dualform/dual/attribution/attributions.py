"""One interface for all methods of attribution."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from dualform.arrays import State
from dualform.dual.attribution.direct import exact, gradient, integrated_gradients, occlusion
from dualform.dual.attribution.maps import gradient_weighted, raw, rollout
from dualform.dual.attribution.target import Question, Target, as_target, question
from dualform.errors import require

_METHODS: dict[str, Callable[[Question], Any]] = {
    "exact": exact,
    "raw": raw,
    "rollout": rollout,
    "gradient-weighted": gradient_weighted,
    "gradient": gradient,
    "integrated gradients": integrated_gradients,
    "occlusion": occlusion,
}

METHODS: tuple[str, ...] = tuple(_METHODS)
"""The methods by name."""


class Attribution(NamedTuple):
    """What a target owes to each input token.

    - scores: (time,).  method, target: what was asked.
    - bias: what no token brought, and residual: of scores and bias against the target's value; None but for "exact".
    """

    scores: Float[np.ndarray, " time"]
    method: str
    target: Target
    bias: float | None = None
    residual: float | None = None

    def ranking(self) -> np.ndarray:
        """The tokens' places, from the most relevant to the least."""
        return np.argsort(-self.scores, kind="stable")


def attribute(
    model: Any,
    x: Any,
    target: Target | tuple[int, ...],
    method: str = "exact",
    *,
    state: State | None = None,
    start=None,
    mask=None,
) -> Attribution:
    """What an output of a model owes to each input token.

    - exact: the sum of the frozen model, whose scores and bias add up to the target.
    - raw, rollout, gradient-weighted: made of the layers' maps, with no sum to keep.
    - gradient (times input), integrated gradients, occlusion: of the model's own function.

    **Arguments:** model: with `stages()`; x: its tokens, (time,), or what its first stage takes, (time, d); target: (t, token)
    or (t, token, against): the output `token` at place t, less output `against` there; method: one of `METHODS`; state, start,
    mask: as of the model's call.

    **Returns:** an `Attribution`.

    **Raises:** `InputError` for a method, place or output that there is not.

        >>> import jax, jax.random as jr
        >>> from dualform import mixers, models
        >>> from dualform.dual.attribution import attribute
        >>> block = models.Block.make(mixers.GLA.make(8, key=jr.key(0)), key=jr.key(1))
        >>> model = models.LanguageModel.make((block,), 16, key=jr.key(2))
        >>> found = attribute(model, jax.numpy.arange(6), (5, 3))
        >>> found.scores.shape, found.residual < 1e-5
        ((6,), True)
    """
    require(method in _METHODS, f"there is no method {method!r}; there are {', '.join(METHODS)}.")
    target = as_target(target)
    found = _METHODS[method](question(model, x, target, state, start, mask))
    scores, bias, residual = found if isinstance(found, tuple) else (found, None, None)
    return Attribution(np.asarray(scores), method, target, bias, residual)
