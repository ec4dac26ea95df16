"""What makes XLA and jax compile the many small programs of the tests sooner."""

import functools
import importlib
import importlib.util
import itertools
import math
import mmap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

PLAINLY = {
    "xla_backend_optimization_level": "0",
    "xla_cpu_use_fusion_emitters": "false",
    "xla_cpu_parallel_codegen_split_count": "1",  # cutting a small program into parts costs more than it saves
}


def xla_flags() -> str:
    """Of the flags that make XLA compile plainly, those that the installed XLA knows: it ends the process at any other."""
    found = importlib.util.find_spec("jaxlib")
    folders = found.submodule_search_locations if found else None
    for library in Path(folders[0]).glob("libjax_common*") if folders else ():
        with library.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return " ".join(f"--{flag}={value}" for flag, value in PLAINLY.items() if data.find(flag.encode()) >= 0)
    return ""


PROGRAMS_IN_A_CONTEXT = 64
"""Enough that making a context costs nothing, few enough that what it keeps of its programs goes soon."""


def share_contexts() -> None:
    """Let one MLIR context serve many programs: jax makes one for each, which takes longer than lowering a small program.

    A context is what holds types and constants of a program while it is lowered; nothing of a program's meaning is in it.
    A jax that makes its contexts elsewhere stays as it is.
    """
    mlir: Any = importlib.import_module("jax._src.interpreters.mlir")
    make = getattr(mlir, "make_ir_context", None)
    if make is None:
        return
    count, shared = itertools.count(), []

    def context():
        if next(count) % PROGRAMS_IN_A_CONTEXT == 0:
            shared[:] = [make()]
        return shared[0]

    mlir.make_ir_context = context


DRAWN = 4096
"""Numbers that a shared draw makes: more than nearly every matrix of the tests has."""


def share_draws() -> None:
    """Let one program draw for all shapes: jax compiles one for each, which takes as long as compiling a small mixer.

    Each of jax's random numbers is a function of its key and its place alone, so a small array is the beginning of a longer
    one, to the bit: `tests/test_xla.py`. What is drawn inside a program, or from keys of another kind, is left as it is.
    """
    random: Any = importlib.import_module("jax.random")
    for name in ("normal", "uniform", "randint"):
        setattr(random, name, _sharing(getattr(random, name)))


def _sharing(draw: Callable[..., Any]) -> Callable[..., Any]:
    """`draw(key, shape, ...)`, from the program that draws `DRAWN` numbers where it can."""
    import jax

    @functools.wraps(draw)
    def shared(key: Any, shape: Any = (), *more: Any, **named: Any) -> Any:
        plain = all(np.ndim(a) == 0 for a in (*more, *named.values()))
        if _size(shape) > DRAWN or not plain or not _eager() or not _is_partitionable(key):
            return draw(key, shape, *more, **named)
        return jax.device_put(np.asarray(draw(key, (DRAWN,), *more, **named))[: math.prod(shape)].reshape(shape))

    return shared


def _eager() -> bool:
    """Whether no program is being traced; a jax that does not say so is taken to be tracing."""
    core: Any = importlib.import_module("jax._src.core")
    return getattr(core, "trace_state_clean", lambda: False)()


def _size(shape: Any) -> float:
    """Numbers of an array of this shape, without end where it is no shape."""
    sizes = isinstance(shape, tuple | list) and all(isinstance(n, int) and n >= 0 for n in shape)
    return math.prod(shape) if sizes else math.inf


def _is_partitionable(key: Any) -> bool:
    """Whether numbers of this key depend on their place alone: a single key of jax's own kind."""
    import jax
    import jax.numpy as jnp

    single = isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key) and key.ndim == 0
    config: Any = jax.config
    return single and config.jax_threefry_partitionable and str(jax.random.key_impl(key)) == "threefry2x32"
