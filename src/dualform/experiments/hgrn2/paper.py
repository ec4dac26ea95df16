"""HGRN2: gated linear RNNs with state expansion."""

from dualform.experiments.hgrn2.state_expansion import STATE_EXPANSION
from dualform.experiments.reproduction import Paper

HGRN2 = Paper(
    name="hgrn2",
    title="HGRN2: gated linear RNNs with state expansion",
    citation="Qin et al. 2024 (arXiv 2404.07904)",
    results={"state-expansion": STATE_EXPANSION},
)
