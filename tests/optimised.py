"""Long trainings, in a process of their own with XLA's optimiser on, which the tests' own process is without."""

import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any


def optimised(function: Callable[..., Any], *arguments: Any) -> Any:
    """What `function(*arguments)` gives in a process of its own, optimised and with 32 bits as users have it.

    What is compiled plainly is there sooner and runs slower: a training step takes six times as long. From some thousand steps
    on, a process of their own costs less. The function is one that can be imported.
    """
    flags = os.environ.pop("XLA_FLAGS", None)
    try:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            return pool.submit(function, *arguments).result()
    finally:
        if flags is not None:
            os.environ["XLA_FLAGS"] = flags
