"""A unified implicit attention formulation for gated-linear recurrent sequence models."""

from dualform.experiments.implicit_attention.faithfulness import FAITHFULNESS
from dualform.experiments.reproduction import Paper

IMPLICIT_ATTENTION = Paper(
    name="implicit-attention",
    title="A Unified Implicit Attention Formulation for Gated-Linear Recurrent Sequence Models",
    citation="Zimerman et al. 2024 (arXiv 2405.16504)",
    results={"faithfulness": FAITHFULNESS},
)
