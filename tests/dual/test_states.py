"""States that a form or a trace gives fit back into the call."""

from typing import Any

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import pytest

from dualform.dual import freeze, model_form
from dualform.lenses import trace
from tests.dual.test_broken_models import WHOLE, given
from tests.laws import laws

REMEMBER = [name for name, module in WHOLE.items() if not module.tokenwise]


def form(state: Any) -> Any:
    """How a state is put together, and the shape and dtype of each of its arrays."""
    return jtu.tree_structure(state), [(leaf.shape, leaf.dtype) for leaf in jtu.tree_leaves(state)]


USUAL = ("language model", "chain")
CASES = [
    pytest.param(name, dtype, id=f"{name}-{dtype.__name__}", marks=[] if usual and name in USUAL else pytest.mark.slow)
    for name in REMEMBER
    for dtype, usual in ((jnp.float32, True), (jnp.bfloat16, False))
]


@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_states_fit_back(name, dtype):
    """Each is of the form of `init_state()`, also where 64 bits are enabled and the model has fewer; each is the call's own.

    With it the call goes on, and so does what gave it.
    """
    with jax.disable_jit():
        module = laws.cast(WHOLE[name], dtype)
        x, state, start, mask = given(module, dtype)
        flags = {"start": start, "mask": mask}
        y, own = module(x, state, **flags)
        found = {"freeze": freeze(module, x, state, **flags).state}
        if hasattr(module, "stages"):
            stages = module.passes(*module.checked(x, state, start, mask))
            for (_, frozen), (_, stage) in zip(stages, module.stages(), strict=True):
                assert form(frozen.state) == form(stage.init_state())
            found["passes"] = module.joined([frozen.state for _, frozen in stages])
            traced = trace(module, x, record=(), state=state, **flags)
            assert traced.y.dtype == y.dtype and (y.ndim == 1 or traced.y.shape == y.shape)
            found["trace"] = traced.state
            found["model_form"] = model_form(module, x, state, **flags).after
        for entry, after in found.items():
            assert form(after) == form(module.init_state()) == form(own), entry
            laws.check_close(after, own, 2.0**-7 if dtype == jnp.bfloat16 else 1e-5, entry)
        module(x, found["freeze"], **flags)
        if hasattr(module, "stages"):
            trace(module, x, record=(), state=found["trace"], **flags)
