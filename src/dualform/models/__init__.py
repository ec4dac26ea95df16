"""Models: mixers put together."""

from dualform.models.stack import Stack

__all__ = ["Stack"]
