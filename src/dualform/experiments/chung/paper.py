"""Empirical evaluation of gated recurrent neural networks on sequence modeling."""

from dualform.experiments.chung.music import CHORALES
from dualform.experiments.reproduction import Paper

CHUNG = Paper(
    name="chung",
    title="Empirical evaluation of gated recurrent neural networks on sequence modeling",
    citation="Chung et al. 2014 (arXiv 1412.3555)",
    results={"chorales": CHORALES},
)
