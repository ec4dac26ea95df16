"""Small fresh models of every published family, as users have them at the first step of training."""

import inspect
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np

from dualform.models import published

TIME = 129
"""Two whole chunks and one token more."""

SMALL = {"vocabulary": 16, "d": 16, "n": 16, "layers": 3, "heads": 2, "kv_heads": 1, "hidden": 16, "slots": 4, "d_k": 8}
SMALL |= {"window": 32, "attention_every": 3, "std": 0.02}


def families() -> list[str]:
    """A preset for each function that makes published models, and for each kind of minimal cell."""
    found = {}
    for name, entry in published().items():
        make = entry.make
        options = make.keywords if isinstance(make, partial) else {}
        found.setdefault((getattr(make, "func", make), options.get("cell"), options.get("attention_every", 0)), name)
    return list(found.values())


def wrong_at_first(name: str, dtype: str) -> list[str]:
    """What is not finite in the loss and in the gradients of a fresh small model, on a batch of two sequences."""
    make = published()[name].make
    options = make.keywords if isinstance(make, partial) else {}
    takes = inspect.signature(getattr(make, "func", make)).parameters
    small = {k: v for k, v in SMALL.items() if k in takes and options.get(k, 0) is not None}
    model = make(key=jr.key(0), dtype=jnp.dtype(dtype), **small)
    tokens = jr.randint(jr.key(1), (2, TIME), 0, SMALL["vocabulary"])

    @eqx.filter_jit
    @eqx.filter_value_and_grad
    def loss_and_gradients(model):
        logits = jax.vmap(lambda tokens: model(tokens)[0])(tokens)
        chosen = jax.nn.log_softmax(logits[:, :-1].astype(jnp.float32))
        return -jnp.mean(jnp.take_along_axis(chosen, tokens[:, 1:, None], axis=2))

    loss, gradients = loss_and_gradients(model)
    leaves = [("the loss", loss), *((jtu.keystr(path), a) for path, a in jtu.tree_leaves_with_path(gradients))]
    wrong = [f"{what} is not finite" for what, a in leaves if not np.isfinite(np.asarray(a, np.float32)).all()]
    return wrong if abs(float(loss) - np.log(SMALL["vocabulary"])) < 1 else [f"the loss is {float(loss):.2f}", *wrong]
