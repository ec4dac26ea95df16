"""Models: mixers put together."""

from dualform.models.stack import Stack
from dualform.models.tpgn import TPGN

__all__ = ["Stack", "TPGN"]
