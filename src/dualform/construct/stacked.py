"""Attention written into a stack of LRU or LSTM layers, with a certificate: what the command line builds."""

from dataclasses import dataclass
from typing import Any

from jaxtyping import Array

from dualform.arrays import count_parameters
from dualform.construct.certificate import checked_inputs, double_sum
from dualform.construct.into_lru import lru
from dualform.construct.into_lstm import lstm
from dualform.construct.layers_needed import hidden_units
from dualform.construct.scale import error_on, stack_error
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
    return StackConstruction(
        stack,
        asked,
        len(stack.layers),
        dtype,
        stack_error(lambda dtype: stack, attention, dtype, key=key),
        None if given is None else error_on(lambda dtype: stack, dtype, given, double_sum(attention, given)),
        sum(hidden_units(layer) for layer in stack.layers),
        stack.parameters(),
        count_parameters(attention),
    )
