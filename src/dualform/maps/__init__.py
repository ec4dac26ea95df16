"""Frozen modules as maps: affine and causal in what they take, composed by `@` and added by `+`."""

from dualform.maps.attention_map import AttentionMap, attention_of
from dualform.maps.causal_map import Called, CausalMap, Composed, Summed
from dualform.maps.frozen import LINEAR, NONLINEAR, Frozen, joint
from dualform.maps.memory import Complex, Convolution, Delta, Dense, Diagonal, Memory, Outer, Rescaled
from dualform.maps.pointwise import (
    Along,
    Centred,
    Divided,
    Flat,
    Held,
    Identity,
    Linear,
    Masked,
    Pointwise,
    Scale,
    Written,
    masked,
    present,
)
from dualform.maps.turned import Beside, Turned

__all__ = [
    "LINEAR",
    "NONLINEAR",
    "Along",
    "AttentionMap",
    "Beside",
    "Called",
    "CausalMap",
    "Centred",
    "Complex",
    "Composed",
    "Convolution",
    "Delta",
    "Dense",
    "Diagonal",
    "Divided",
    "Flat",
    "Frozen",
    "Held",
    "Identity",
    "Linear",
    "Masked",
    "Memory",
    "Outer",
    "Pointwise",
    "Rescaled",
    "Scale",
    "Summed",
    "Turned",
    "Written",
    "attention_of",
    "joint",
    "masked",
    "present",
]
