"""Probes: what can be read off activations and states, scored on texts that were not fitted, beside a control task."""

from dualform.lenses.probes.affine import AffineProbe
from dualform.lenses.probes.ccs import ContrastProbe, fit_ccs
from dualform.lenses.probes.difference import fit_difference
from dualform.lenses.probes.example_rows import Examples, examples
from dualform.lenses.probes.lda import fit_lda
from dualform.lenses.probes.linear import fit_linear
from dualform.lenses.probes.measured import Probed, probed, transferred
from dualform.lenses.probes.mlp import fit_mlp
from dualform.lenses.probes.onion import OnionProbe, fit_onion
from dualform.lenses.probes.peeling import Peeled, peeled
from dualform.lenses.probes.places import activations, layers_of
from dualform.lenses.probes.scores import Rate

__all__ = [
    "AffineProbe",
    "ContrastProbe",
    "Examples",
    "OnionProbe",
    "Peeled",
    "Probed",
    "Rate",
    "activations",
    "examples",
    "fit_ccs",
    "fit_difference",
    "fit_lda",
    "fit_linear",
    "fit_mlp",
    "fit_onion",
    "layers_of",
    "peeled",
    "probed",
    "transferred",
]
