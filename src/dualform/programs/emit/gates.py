"""Gates that do nothing, and functions of one number that are exact: what sigmoids and their kin are far from 0, and next to it.

- In floating point sigma(64) is 1, softplus(64) is 64, and so are silu(64) and gelu(64); far below 0 all of them are 0. A gate
  is held open by a bias.
- An activation is made as sharp as a ReLU by a large factor: f(K x) / K is ReLU(x) to the last bit from |x| = 40 / K on, and off
  by at most 0.28 / K (silu) or 0.17 / K (gelu) within.
- It is made linear by a small one: silu(k x) and gelu(k x) are k x / 2 to the last bit where k x is less than a rounding of 1.

K and k are powers of two, and round nothing.
"""

from typing import Any

import jax.numpy as jnp

OPEN = 64.0
"""Where sigmoid is 1, and softplus, silu and gelu are their argument, in every dtype."""

SHUT = 1000.0
"""Minus it is where sigmoid, softplus, silu, gelu and exp are 0, in every dtype."""


def sharpness(dtype: Any) -> float:
    """K: so large that 0.28 / K counts nowhere, and its square does not leave the dtype for numbers up to 1e10."""
    return 2.0**60 if jnp.dtype(dtype) == jnp.float64 else 2.0**30


def faintness(dtype: Any) -> float:
    """k: 2 silu(k x) / k and 2 gelu(k x) / k are x, to the bit, for |x| up to 2^46 in float64, and up to 2^35 below it."""
    return 2.0**-100 if jnp.dtype(dtype) == jnp.float64 else 2.0**-60
