"""Modules whose call is changed while their parts stay as they are: what a certificate must not miss."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp


def broken(module: Any, **methods: Callable) -> Any:
    """The module with other methods, everything else as it is."""
    kind: Any = type(module)
    made = object.__new__(type(kind)(f"Broken{kind.__name__}", (kind,), methods))
    for field in dataclasses.fields(module):
        object.__setattr__(made, field.name, getattr(module, field.name))
    return made


def part(module: Any, **parts: Any) -> Any:
    """The module with other parts."""
    made = object.__new__(type(module))
    for field in dataclasses.fields(module):
        object.__setattr__(made, field.name, parts.get(field.name, getattr(module, field.name)))
    return made


def larger(module: Any, factor: float = 3.0) -> Any:
    """One whose call gives `factor` times as much."""
    kind = type(module)

    def call(self, x, state=None, *, start=None, mask=None):
        y, state = kind.__call__(self, x, state, start=start, mask=mask)
        return jnp.asarray(factor, y.dtype) * y, state

    return broken(module, __call__=call)


def ignoring(module: Any, *names: str) -> Any:
    """One whose call takes no notice of its state, or of a flag."""
    kind = type(module)

    def call(self, x, state=None, *, start=None, mask=None):
        given = {"state": state, "start": start, "mask": mask} | dict.fromkeys(names)
        return kind.__call__(self, x, given["state"], start=given["start"], mask=given["mask"])

    return broken(module, __call__=call)
