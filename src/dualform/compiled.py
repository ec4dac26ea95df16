"""Functions that are compiled once for the shapes that they meet, wherever they are called from.

Called op by op, a function with a loop in it (`jax.lax.scan`, `jax.lax.map`) makes that loop anew at each call, and JAX
compiles it anew. What a user calls goes through `compiled`: a second call of the same shapes compiles nothing.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jax.core import Tracer

P = ParamSpec("P")
R = TypeVar("R")


def compiled(function: Callable[P, R], *, before: Callable[..., None] | None = None) -> Callable[P, R]:
    """`function`, run as one program that is compiled once for each structure, shapes and dtypes of its arguments.

    Arguments and results are pytrees, modules among them; leaves that are no arrays are constants of the program, told apart
    by type and value. What is being traced already (under `jax.jit`, in the body of a loop) takes the function as it is
    written; under an eager `jax.grad` or `jax.vmap`, the program is what is differentiated or batched.

    **Arguments:** function: pure, and defined once, not anew in each call of another one; before: called first with the same
    arguments, outside of the program: what is to be checked of arrays' values.

    **Raises:** what `function` raises while it is traced, which no array's values can tell, and what `before` raises.
    """

    @functools.wraps(function)
    def program(constants: "_Constants", arrays: list[Any]) -> tuple[list[Any], "_Constants"]:
        args, kwargs = _joined(arrays, constants)
        given: Callable[..., R] = function
        return _split(given(*args, **kwargs))

    jitted = jax.jit(program, static_argnums=0)

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        arrays, constants = _split((args, kwargs))
        if any(isinstance(array, Tracer) for array in arrays) and _is_staged():
            return function(*args, **kwargs)
        try:
            hash(constants)
        except TypeError:  # nothing by which the program would be found again
            return function(*args, **kwargs)
        if before is not None:
            before(*args, **kwargs)
        return _joined(*jitted(constants, arrays))

    return call


@jtu.register_static
@dataclass(frozen=True)
class _Constants:
    """What is left of a pytree without its arrays: its structure, and each leaf's type and value, None for an array."""

    structure: Any
    leaves: tuple[tuple[type, Any] | None, ...]


def _split(tree: Any) -> tuple[list[Any], _Constants]:
    leaves, structure = jtu.tree_flatten(tree)
    known = [isinstance(leaf, jax.Array | np.ndarray | np.generic) for leaf in leaves]
    arrays = [leaf for leaf, is_array in zip(leaves, known, strict=True) if is_array]
    # 1, 1.0 and True are equal, and make different programs.
    rest = (None if is_array else (type(leaf), leaf) for leaf, is_array in zip(leaves, known, strict=True))
    return arrays, _Constants(structure, tuple(rest))


def _joined(arrays: list[Any], constants: _Constants) -> Any:
    left = iter(arrays)
    return constants.structure.unflatten([next(left) if leaf is None else leaf[1] for leaf in constants.leaves])


def _is_staged() -> bool:
    """Whether what is called now becomes a part of a program, rather than being run."""
    return isinstance(jnp.zeros(()), Tracer)
