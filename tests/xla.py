"""What makes XLA and jax compile the many small programs of the tests sooner."""

import importlib
import importlib.util
import itertools
import mmap
from pathlib import Path
from typing import Any

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
