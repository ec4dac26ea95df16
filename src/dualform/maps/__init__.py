"""Frozen modules as maps: affine and causal in what they take, composed by `@` and added by `+`."""

from dualform.maps.causal_map import Called, CausalMap, Composed, Summed
from dualform.maps.frozen import LINEAR, NONLINEAR, Frozen, joint
from dualform.maps.pointwise import Centred, Identity, Linear, Masked, Scale, present
from dualform.maps.turned import Beside, Turned

__all__ = [
    "LINEAR",
    "NONLINEAR",
    "Beside",
    "Called",
    "CausalMap",
    "Centred",
    "Composed",
    "Frozen",
    "Identity",
    "Linear",
    "Masked",
    "Scale",
    "Summed",
    "Turned",
    "joint",
    "present",
]
