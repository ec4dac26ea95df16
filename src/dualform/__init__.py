"""dualform: the recurrence and the attention of every causal sequence mixer, each turned into the other and proved."""

import importlib
from typing import TYPE_CHECKING, Any

from dualform import mixers
from dualform.dual import DualForm, dual_form

if TYPE_CHECKING:
    from dualform import construct, discover, generation, models, tasks, training

__version__ = "0.1.0"
__all__ = ["DualForm", "construct", "discover", "dual_form", "generation", "mixers", "models", "tasks", "training"]

_LAZY = ("construct", "discover", "generation", "models", "tasks", "training")


def __getattr__(name: str) -> Any:
    """Import a part on first use: `import dualform` stays as quick as importing jax."""
    if name in _LAZY:
        return importlib.import_module(f"dualform.{name}")
    raise AttributeError(f"module 'dualform' has no attribute {name!r}")
