"""Into Hawk: residual blocks of a recurrent block (a gate, a short convolution, an RG-LRU) and a GeGLU.

What its equations leave to a program, and what they do not:

- h_t = a h_{t-1} + sqrt(1 - a^2) u_t with gates that do not depend on the token: a decay in [0, 1], and no other. A perfect
  memory is log a = -2^-(2k+1), which makes a = 1 to the bit, while sqrt(1 - a^2) = 2^-k is not 0: writes are scaled up by 2^k.
  At log a = -8000 a is 0 to the bit, and the unit holds the present token alone.
- The first token of a document is not scaled down: there sqrt(1 - a^2) is left out. So units that remember are written one token
  late, by the convolution (its entry for the token before), which has nothing to give at the first token; what they hold at
  token t is s_{t-1}, and s_t = A s_{t-1} + v_t is put together from it and from units that hold the present token alone, whose
  scale is 1 at every token. Nothing is approximated.
- The convolution, over four tokens, holds delays of up to three; longer ones take a layer for each three.
- gelu(K x) / K is ReLU(x), to 0.17 / K, and 2 gelu(k x) y / k is x y, to the bit; K is 2^60 and k 2^-100 in float64, 2^30 and
  2^-60 below it.
"""

from decimal import Decimal, localcontext
from functools import lru_cache, partial
from typing import Any

import jax.numpy as jnp
import ml_dtypes
import numpy as np

from dualform.mixers import RGLRU, GriffinRecurrent
from dualform.models import SequenceModel
from dualform.programs.emit.channels import REACH, Reach, cut, gathered
from dualform.programs.emit.diagonal import gated_mlp, stream
from dualform.programs.emit.gates import OPEN, SHUT, faintness, sharpness
from dualform.programs.emit.registration import register
from dualform.programs.graph import Graph
from dualform.programs.path import Path, PathLayer, as_path

HELD = Reach("Hawk's RG-LRU", 0, "mamba or delta (decays down to -1) or gated-linear-rnn (complex decays)")


def hawk_path(graph: Graph) -> Path:
    """States that an RG-LRU can hold, then units."""
    return as_path(cut(graph))


@register("hawk", "residual blocks of an RG-LRU behind a convolution, and a GeGLU", hawk_path)
def hawk(path: Path, dtype: Any) -> SequenceModel:
    """A `GriffinRecurrent` and a `GatedMLP` with gelu in each block.

    **Raises:** `InputError`, with file and line, where a state grows, turns, changes its sign, or has no eigenvectors.
    """
    return stream(path, dtype, partial(recurrent_of, dtype=dtype, reach=HELD), geglu(dtype))


def geglu(dtype: Any) -> Any:
    """The MLP of a layer's units."""
    return partial(gated_mlp, activation="gelu_tanh", sharp=sharpness(dtype), faint=faintness(dtype))


def recurrent_of(
    layer: PathLayer, lanes: dict[int, int], width: int, cast: Any, *, dtype: Any, reach: Reach
) -> GriffinRecurrent:
    """The layer's states as channels of a recurrent block; one that holds nothing where there are none."""
    found = gathered(layer, lanes, width, reach, late=True)
    n = max(1, len(found))
    lam, b_a, scale = np.zeros(n), np.full(n, OPEN), np.ones(n)
    w_x, b_x, w_o, kernel = np.zeros((n, width)), np.zeros(n), np.zeros((width, n)), np.zeros((REACH + 1, n))
    for i, each in enumerate(found):
        lam[i], b_a[i], scale[i] = decayed(each.decay, dtype)
        w_x[i], b_x[i], w_o[:, i] = each.enter / scale[i], each.bias / scale[i], each.leave / OPEN
        kernel[REACH - each.lag, i] = 1
    none = np.zeros((n, 1, 1))
    return GriffinRecurrent(
        w_y=cast(np.zeros((n, width))),
        b_y=cast(np.full(n, OPEN)),
        w_x=cast(w_x),
        b_x=cast(b_x),
        kernel=cast(kernel),
        b_conv=cast(np.zeros(n)),
        core=RGLRU(
            w_a=cast(none), w_x=cast(none), b_a=cast(b_a[:, None]), b_x=cast(np.full((n, 1), OPEN)), lam=cast(lam)
        ),
        w_o=cast(w_o),
        b_o=cast(np.zeros(width)),
    )


def decayed(decay: float, dtype: Any) -> tuple[float, float, float]:
    """lam and b_a of an RG-LRU unit with such a decay, and what its writes are multiplied by."""
    if decay == 1:
        return perfect(jnp.dtype(dtype).name)
    if decay == 0:
        return SHUT, OPEN, 1.0
    rate = -np.log(decay)
    return float(np.log(np.expm1(rate / 8)) if rate < 8 * 30 else rate / 8), OPEN, float(np.sqrt(-np.expm1(-2 * rate)))


@lru_cache
def perfect(dtype: str) -> tuple[float, float, float]:
    """lam, b_a and 2^-k of a unit that forgets nothing: exp(log a) is 1, and sqrt(-expm1(2 log a)) is 2^-k, both to the bit.

    2 log a = -16 lam sigma(b_a), where lam is so large that softplus(lam) is lam. The square root halves relative errors: all
    from a quarter of a step below 2^-2k to a step and a half above it ends in 2^-k. So the two are chosen for that product to lie
    in the middle, 5/8 of a step above, where an error in the last place of the sigmoid leaves it.
    """
    kind = np.dtype(getattr(ml_dtypes, dtype, dtype))
    wide, k = (np.float64, 30) if dtype == "float64" else (np.float32, 15)  # gates are computed in float32 at the least
    found = []
    with localcontext() as context:
        context.prec = 40
        target = Decimal(2) ** (-2 * k) / 16 * (1 + Decimal(float(np.finfo(wide).eps)) * 5 / 8)
        for i in range(512):
            b_a = float(np.asarray(-(k * 4 / 3) - i / 16, kind))
            r = 1 / (1 + Decimal(-b_a).exp())
            lam = float(np.asarray(float(target / r), kind))
            last = float(np.spacing(wide(r))) / float(r)
            if OPEN <= lam <= 8 * OPEN:
                found.append((abs(float(Decimal(lam) * r / target - 1)) + last, lam, b_a))
    _, lam, b_a = min(found)
    return lam, b_a, 2.0**-k
