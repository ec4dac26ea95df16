"""Does transformer interpretability transfer to RNNs?"""

from dualform.experiments.reproduction import Paper
from dualform.experiments.transfer.distances import LENSES
from dualform.experiments.transfer.quirky import QUIRKY
from dualform.experiments.transfer.steering import STEERING

TRANSFER = Paper(
    name="transfer",
    title="Does transformer interpretability transfer to RNNs?",
    citation="Paulo et al. 2024 (arXiv 2404.05971)",
    results={"lenses": LENSES, "steering": STEERING, "quirky": QUIRKY},
)
