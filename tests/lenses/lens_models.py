"""Models whose lenses are known: layers that add nothing, and a last layer that is an affine map."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from dualform.mixers import LinearAttention
from dualform.models import LanguageModel, RMSNorm
from dualform.models.chain import Residual
from dualform.models.stages import Affine
from tests.models.families import VOCABULARY, D

DRAW = np.random.default_rng(3)
EMBEDDING, HEAD = (DRAW.normal(size=(VOCABULARY, D)) for _ in range(2))
ATTENTION = DRAW.normal(size=(3, D, D)) / (2 * D)
A, B = DRAW.normal(size=(D, D)) / (2 * D**0.5), DRAW.normal(size=D) / 2
"""What the last block of the planted model adds: A h + B."""


def idle() -> Any:
    """Three blocks that add nothing, whatever they read; the final norm is one that does something."""
    block = Residual(LinearAttention(jnp.zeros((D, D)), *ATTENTION[1:]))
    norm = RMSNorm(jnp.asarray(DRAW.uniform(0.5, 2.0, size=D)))
    return LanguageModel(EMBEDDING, (block,) * 3, norm, HEAD)


def planted() -> Any:
    """A block that attends, then one that is h + A h + B."""
    return LanguageModel(EMBEDDING, (Residual(LinearAttention(*ATTENTION)), Residual(Affine(A, B))), None, HEAD / 2)
