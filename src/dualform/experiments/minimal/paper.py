"""Were RNNs all we needed?"""

from dualform.experiments.minimal.selective_copy import SELECTIVE_COPY
from dualform.experiments.reproduction import Paper

MINIMAL = Paper(
    name="minimal",
    title="Were RNNs all we needed?",
    citation="Feng et al. 2024 (arXiv 2410.01201)",
    results={"selective-copy": SELECTIVE_COPY},
)
