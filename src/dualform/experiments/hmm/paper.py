"""On limitation of transformer for learning HMMs."""

from dualform.experiments.hmm.beliefs import BELIEFS
from dualform.experiments.hmm.depth import DEPTH
from dualform.experiments.hmm.exact import EXACT_FILTERS
from dualform.experiments.reproduction import Paper

HMM = Paper(
    name="hmm",
    title="On limitation of transformer for learning HMMs",
    citation="Hu, Liu and Jin 2024 (arXiv 2406.04089)",
    results={"fit-length": DEPTH, "beliefs": BELIEFS, "filters": EXACT_FILTERS},
)
