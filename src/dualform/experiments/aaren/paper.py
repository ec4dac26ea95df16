"""Attention as an RNN."""

from dualform.experiments.aaren.forecast import FORECAST
from dualform.experiments.reproduction import Paper

AAREN = Paper(
    name="aaren",
    title="Attention as an RNN",
    citation="Feng et al. 2024 (arXiv 2405.13956)",
    results={"forecast": FORECAST},
)
