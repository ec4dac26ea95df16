"""Transformers are multi-state RNNs."""

from dualform.experiments.reproduction import Paper
from dualform.experiments.tova.small_memory import SMALL_MEMORY

TOVA = Paper(
    name="tova",
    title="Transformers are Multi-State RNNs",
    citation="Oren et al. 2024 (arXiv 2401.06104)",
    results={"small-memory": SMALL_MEMORY},
)
