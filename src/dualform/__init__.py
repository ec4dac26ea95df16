"""dualform: the recurrence and the attention of every causal sequence mixer, each turned into the other and proved."""

import importlib
from typing import TYPE_CHECKING, Any

from dualform import dual, maps, mixers, recurrences
from dualform.dual import DualForm, dual_form
from dualform.errors import DualformError, InputError

if TYPE_CHECKING:
    from dualform import checkpoints, construct, discover, generation, lenses, models, tasks, training

__version__ = "0.1.0"
__all__ = [
    "DualForm",
    "DualformError",
    "InputError",
    "checkpoints",
    "construct",
    "discover",
    "dual",
    "dual_form",
    "generation",
    "lenses",
]
__all__ += ["maps", "mixers", "models", "recurrences", "tasks", "training"]

_LAZY = ("checkpoints", "construct", "discover", "generation", "lenses", "models", "tasks", "training")


def __getattr__(name: str) -> Any:
    """Import a part on first use: `import dualform` stays as quick as importing jax."""
    if name in _LAZY:
        return importlib.import_module(f"dualform.{name}")
    raise AttributeError(f"module 'dualform' has no attribute {name!r}")


def __dir__() -> list[str]:
    """The public names, for completion; those of parts that are not imported yet are among them."""
    return sorted([*__all__, "__version__"])
