"""Griffin: mixing gated linear recurrences with local attention for efficient language models."""

from dualform.experiments.griffin.extrapolation import EXTRAPOLATION
from dualform.experiments.reproduction import Paper

GRIFFIN = Paper(
    name="griffin",
    title="Griffin: mixing gated linear recurrences with local attention for efficient language models",
    citation="De et al. 2024 (arXiv 2402.19427)",
    results={"extrapolation": EXTRAPOLATION},
)
