"""Does transformer interpretability transfer to RNNs?"""

from dualform.experiments.reproduction import Paper
from dualform.experiments.transfer.steering import STEERING

TRANSFER = Paper(
    name="transfer",
    title="Does transformer interpretability transfer to RNNs?",
    citation="Paulo et al. 2024 (arXiv 2404.05971)",
    results={"steering": STEERING},
)
