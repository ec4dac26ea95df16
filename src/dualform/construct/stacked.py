"""Attention written into a stack of LRU or LSTM layers, with a certificate: what the command line builds."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float

from dualform.construct.certificate import checked_inputs, double_sum
from dualform.construct.into_lru import lru
from dualform.construct.into_lstm import lstm
from dualform.construct.layers_needed import hidden_units
from dualform.errors import require
from dualform.mixers import LinearAttention
from dualform.models import Stack

STACKS = ("lru-out", "lru-in-out", "lru-in-skip", "lstm")
"""Forms of `build_stack`; as Table 3 of Zucchet et al. 2023 has them."""


@dataclass(frozen=True)
class StackConstruction:
    """A stack that implements an attention, its gates linearised at the best scale for its dtype.

    - stack.  form, layers: what it is.  dtype: of its weights.
    - random_error: ||stack(x) - attention(x)|| / ||attention(x)||, x ~ N(0, 1), 4 sequences of 64 tokens, run in that dtype
      against the float64 double sum.  input_error: the same on the given inputs; None where there are none.
    - hidden_units: that remember, of all layers.  parameters: of the stack.  attention_parameters: of the attention.
    """

    stack: Stack
    form: str
    layers: int
    dtype: str
    random_error: float
    input_error: float | None
    hidden_units: int
    parameters: int
    attention_parameters: int


def build_stack(
    attention: LinearAttention | Any,
    form: str,
    inputs: Any = None,
    *,
    layers: int | None = None,
    dtype: str = "float64",
    key: Array | None = None,
) -> StackConstruction:
    """Write an attention into LRU or LSTM layers and measure the result.

    **Arguments:**

    - form: "lru-out", "lru-in-out", "lru-in-skip" or "lstm".  layers: the fewest that serve if not given.
    - inputs: (sequence, time, d) or (time, d), real data to be measured on too.
    - dtype: of the weights, "float64" (needs JAX's float64 enabled) or "float32".
    - key: of the random inputs.

    **Raises:** `InputError` for an unknown form, a number of layers that cannot be, or inputs that do not fit.

    **Source:** App. A of Zucchet et al. 2023 (arXiv 2309.01775).
    """
    asked = form.replace("_", "-")
    require(asked in STACKS, f"there is no stack {form!r}; there are {', '.join(STACKS)}.")
    given = None if inputs is None else checked_inputs(inputs, attention.d_in)
    if asked == "lstm":
        stack = lstm(attention, layers=layers, dtype=dtype)
    else:
        stack = lru(attention, asked.removeprefix("lru-").replace("-", "_"), layers=layers, dtype=dtype)
    drawn = np.asarray(jr.normal(jr.key(0) if key is None else key, (4, 64, attention.d_in), jnp.float32))
    return StackConstruction(
        stack,
        asked,
        len(stack.layers),
        dtype,
        _error(stack, attention, drawn.astype(np.float64), dtype),
        None if given is None else _error(stack, attention, given, dtype),
        sum(hidden_units(layer) for layer in stack.layers),
        stack.parameters(),
        sum(leaf.size for leaf in jax.tree_util.tree_leaves(attention)),
    )


def _error(stack: Stack, attention: LinearAttention, x: Float[np.ndarray, "sequence time d"], dtype: str) -> float:
    found = np.asarray(jax.vmap(lambda x: stack(x)[0])(jnp.asarray(x, dtype))).astype(np.float64)
    expected = double_sum(attention, x)
    return float(np.linalg.norm(found - expected) / (np.linalg.norm(expected) or 1.0))
