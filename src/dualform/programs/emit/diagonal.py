"""Into residual blocks of linear recurrent units: states in the recurrence, ReLUs and products in the MLP.

Every atom has a lane of the stream, which holds it from the layer that gives it on; lane 0 is 1.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from dualform.errors import InputError, require
from dualform.mixers import LRU
from dualform.models import MLP, Block, GatedMLP, SequenceModel
from dualform.programs.emit.registration import register
from dualform.programs.emit.spectrum import spectrum
from dualform.programs.path import Path, PathLayer, Placed, lanes_of, rows

REMEMBERED, FORGOTTEN, UNTURNED = -45.0, 10.0, -1000.0
"""nu of a decay of 1, nu of one of 0 and theta of one that does not turn: exp(-exp(-45)) is 1, exp(-exp(10)) is 0 and exp(-1000)
is 0, to the bit in every dtype. Infinity would be so, too, but no training goes on from what is not finite."""


@register("linear-rnn", "residual blocks of an LRU and a ReLU MLP")
def linear_rnn(path: Path, dtype: Any) -> SequenceModel:
    """An `LRU` and an `MLP` with ReLU in each block.

    **Raises:** `InputError` where the program multiplies, or a state has no eigenvectors or grows.
    """
    refuse_products(path, "a linear RNN", "gated-linear-rnn")
    return stream(path, dtype, lru_of, relu_mlp)


@register("gated-linear-rnn", "residual blocks of an LRU and a gated ReLU MLP")
def gated_linear_rnn(path: Path, dtype: Any) -> SequenceModel:
    """An `LRU` and a `GatedMLP` with ReLU in each block: ReLU(f) as ReLU(f) * 1, x y as ReLU(x) y - ReLU(-x) y.

    **Raises:** `InputError` where a state has no eigenvectors or grows.
    """
    return stream(path, dtype, lru_of, gated_mlp)


def stream(path: Path, dtype: Any, mixer: Any, mlp: Any) -> SequenceModel:
    """The path as residual blocks: (layer, lanes, width, cast) -> the block's mixer, and its MLP."""
    cast = partial(_cast, dtype)
    graph = path.graph
    lanes, width = lanes_of(range(graph.atoms), first=1), graph.atoms + 1
    w_in = np.zeros((width, graph.width))
    w_in[1 : graph.width + 1] = np.eye(graph.width)
    b_in = np.zeros(width)
    b_in[0] = 1
    blocks = tuple(
        Block(None, mixer(layer, lanes, width, cast), None, mlp(layer, lanes, width, cast)) for layer in path.layers
    )
    w_out, b_out = rows(graph.outputs, lanes, width)
    return SequenceModel(cast(w_in), cast(b_in), blocks, cast(w_out), cast(b_out))


def _cast(dtype: Any, w: Any) -> Array:
    """Weights in the network's dtype.

    **Raises:** `InputError` where one is too large for it.
    """
    w = np.asarray(w, np.float64)
    largest, limit = float(np.max(np.abs(w[np.isfinite(w)]), initial=0)), float(jnp.finfo(dtype).max)
    require(
        bool(largest < limit),
        f"the network needs a weight of {largest:.3g}; {jnp.dtype(dtype).name} ends at {limit:.3g}. Compile it in float64, or "
        "use smaller constants.",
    )
    return jax.device_put(w.astype(jnp.dtype(dtype)))  # asarray compiles a program for each shape


def lru_of(layer: PathLayer, lanes: dict[int, int], width: int, cast: Any) -> LRU:
    """The layer's states, each block in the basis of its eigenvectors; they write to their lanes and read the lanes below."""
    parts = [spectrum(block) for block in layer.blocks]
    n = sum(len(part.decay) for part in parts)
    b, c = np.zeros((n, width), complex), np.zeros((width, n), complex)
    decay, at = np.zeros(n, complex), 0
    for block, part in zip(layer.blocks, parts, strict=True):
        end = at + len(part.decay)
        drive, bias = driven(block, lanes, width)
        drive[:, 0] += bias
        decay[at:end], b[at:end] = part.decay, part.enter @ drive
        c[[lanes[atom] for atom in block.atoms], at:end] = part.leave
        at = end
    with np.errstate(divide="ignore"):
        nu = np.clip(np.log(-np.log(np.abs(decay))), REMEMBERED, FORGOTTEN)
        theta = np.maximum(np.log(np.abs(np.angle(decay))), UNTURNED)
    return LRU(
        nu=cast(nu),
        theta=cast(theta),
        gamma=cast(np.zeros(n)),
        b_re=cast(np.real(b)),
        b_im=cast(np.imag(b)),
        c_re=cast(np.real(c)),
        c_im=cast(np.imag(c)),
        skip=cast(np.zeros(width)),
    )


def refuse_products(path: Path, architecture: str, instead: str) -> None:
    """Raise `InputError` where the path multiplies two values."""
    for layer in path.layers:
        for each in layer.products:
            raise InputError(
                f"{each.step.place}: {architecture} has no product of two values: its layers are linear but for ReLUs. Write the "
                f"condition in another form (if_else(..., form='direct')), or compile to an architecture with gates: {instead}."
            )


def driven(block: Placed, lanes: dict[int, int], width: int) -> tuple[np.ndarray, np.ndarray]:
    """What drives a block, as a matrix and a bias."""
    return rows(block.step.forms, lanes, width)


def relu_mlp(layer: PathLayer, lanes: dict[int, int], width: int, cast: Any) -> MLP | None:
    """A hidden unit for each ReLU, written to its lane."""
    if not layer.relus:
        return None
    w, b = rows([each.step.forms[0] for each in layer.relus], lanes, width)
    down = np.zeros((width, len(w)))
    down[[lanes[each.first] for each in layer.relus], np.arange(len(w))] = 1
    return MLP(cast(w), cast(down), cast(b), activation="relu")


def gated_mlp(
    layer: PathLayer,
    lanes: dict[int, int],
    width: int,
    cast: Any,
    activation: str = "relu",
    sharp: float = 1,
    faint: float | None = None,
) -> GatedMLP | None:
    """A hidden unit for each ReLU, beside a 1; for each product two that are mirrored, or one whose gate is linear.

    **Arguments:** sharp: K of f(K x) / K, which is ReLU(x).  faint: k of 2 f(k x) / k, which is x; None for an activation that is
    linear nowhere around 0. See `gates`.
    """
    if not layer.units:
        return None
    w, b = rows([each.step.forms[0] for each in layer.relus], lanes, width)
    left, b_left = rows([each.step.forms[0] for each in layer.products], lanes, width)
    right, b_right = rows([each.step.forms[1] for each in layer.products], lanes, width)
    by = [1.0, -1.0] if faint is None else [faint]
    relus, products = len(w), len(left)
    down = np.zeros((width, relus + len(by) * products))
    down[[lanes[each.first] for each in layer.relus], np.arange(relus)] = 1 / sharp
    to = [lanes[each.first] for each in layer.products]
    for i, factor in enumerate(by):
        down[to, relus + i * products + np.arange(products)] = factor if faint is None else 2 / factor
    return GatedMLP(
        w_gate=cast(np.concatenate([sharp * w, *(factor * left for factor in by)])),
        w_up=cast(np.concatenate([np.zeros_like(w), *(right for _ in by)])),
        w_down=cast(down),
        b_gate=cast(np.concatenate([sharp * b, *(factor * b_left for factor in by)])),
        b_up=cast(np.concatenate([np.ones(relus), *(b_right for _ in by)])),
        activation=activation,
    )
