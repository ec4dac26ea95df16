"""Gated slot attention for efficient linear-time sequence modeling."""

from dualform.experiments.gsa.equal_state import EQUAL_STATE
from dualform.experiments.reproduction import Paper

GSA = Paper(
    name="gsa",
    title="Gated slot attention for efficient linear-time sequence modeling",
    citation="Zhang et al. 2024 (arXiv 2409.07146)",
    results={"equal-state": EQUAL_STATE},
)
