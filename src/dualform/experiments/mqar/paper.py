"""Zoology: measuring and improving recall in efficient language models."""

from dualform.experiments.mqar.recall import RECALL
from dualform.experiments.reproduction import Paper

MQAR = Paper(
    name="mqar",
    title="Zoology: Measuring and improving recall in efficient language models",
    citation="Arora et al. 2023 (arXiv 2312.04927)",
    results={"recall": RECALL},
)
