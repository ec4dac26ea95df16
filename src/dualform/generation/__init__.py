"""Generation: a prompt read in parallel, then one token after the other in constant memory."""

from dualform.generation.generate import generate
from dualform.generation.sampling import choose_token

__all__ = ["choose_token", "generate"]
