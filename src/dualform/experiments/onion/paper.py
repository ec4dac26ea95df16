"""Recurrent neural networks learn to store and generate sequences using non-linear representations."""

from dualform.experiments.onion.mixers import MIXERS
from dualform.experiments.onion.storing import STORING
from dualform.experiments.reproduction import Paper

ONION = Paper(
    name="onion",
    title="Recurrent neural networks learn to store and generate sequences using non-linear representations",
    citation="Csordás et al. 2024 (arXiv 2408.10920)",
    results={"storing": STORING, "mixers": MIXERS},
)
