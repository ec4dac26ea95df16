"""State dicts of PyTorch's LSTM and GRU, one layer or several."""

from collections.abc import Collection
from typing import Any

import jax.numpy as jnp
import numpy as np

from dualform.checkpoints.layouts.config import COUNT, FLAG, Config, fixed, ignored, read
from dualform.checkpoints.layouts.keys import form
from dualform.checkpoints.layouts.tensors import Tensors
from dualform.errors import FileError
from dualform.mixers import GRU, LSTM
from dualform.models.stack import Stack

KIND = "torch.nn.LSTM or GRU"
FIRST = "weight_ih_l0"
FORMS = (
    form(
        "torch",
        "torch_rnn",
        (),
        read("input_size", COUNT),
        read("hidden_size", COUNT),
        read("num_layers", COUNT),
        read("bias", FLAG),
        fixed("bidirectional", False),
        fixed("proj_size", 0),
        *ignored("how a program calls the model", "batch_first"),
    ),
)


def recognised(names: Collection[str]) -> bool:
    """Whether these are an LSTM's or a GRU's tensors, perhaps all behind one prefix."""
    return any(name.endswith(FIRST) for name in names)


def build(tensors: Tensors, config: Config) -> Stack:
    """The layers one above the other, from (time, input_size) to (time, hidden_size): a stack whose two maps change nothing.

    Which of the two it is, the number of gates tells.

    **Raises:** `FileError` where they are not as they should be, read in both directions, or have a projection.
    """
    first = min(name for name in tensors.names() if name.endswith(FIRST))
    part = tensors.under(first.removesuffix(FIRST))
    for sign, what in (
        ("_reverse", "reads in both directions, and a causal model in one"),
        ("weight_hr", "has a projection"),
    ):
        if any(sign in name for name in part.names()):
            raise FileError(f"the network in {tensors.where} {what}. Such a one cannot be read here; take another.")
    rows, n = part.shape("weight_hh_l0", 2)
    if rows not in (3 * n, 4 * n):
        raise FileError(
            f"weight_hh_l0 in {tensors.where} has shape {(rows, n)}; an LSTM has four times as many rows as columns, a GRU "
            "three times. It is of neither."
        )
    layers, width = [], part.shape(FIRST, 2)[1]
    while f"weight_ih_l{len(layers)}" in part:
        layers.append(_layer(part, f"l{len(layers)}", rows, n, n if layers else width))
    for asked, found in (("input_size", width), ("hidden_size", n), ("num_layers", len(layers))):
        config.agrees(asked, found)
    config.agrees("bias", "bias_ih_l0" in part)
    unchanged = lambda size: jnp.eye(size, size + 1, dtype=layers[0].u.dtype)
    return Stack(unchanged(width), tuple(layers), unchanged(n))


def _layer(part: Tensors, name: str, rows: int, n: int, width: int) -> Any:
    biased = f"bias_ih_{name}" in part or f"bias_hh_{name}" in part
    weights = part.take(f"weight_ih_{name}", rows, width), part.take(f"weight_hh_{name}", rows, n)
    bias = lambda which: part.take(f"bias_{which}_{name}", rows) if biased else np.zeros(rows, weights[0].dtype)
    arrays = (jnp.asarray(a) for a in (*weights, bias("ih"), bias("hh")))
    return (LSTM if rows == 4 * n else GRU).from_torch(*arrays)
