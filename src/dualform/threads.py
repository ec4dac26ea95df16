"""One BLAS thread for the host's linear algebra, whose matrices are small.

A factorisation of a few thousand rows costs OpenBLAS more in waiting for a second thread than that thread brings, many
times more beside another job; and with one thread the order of every sum is the same on every machine of its kind.
"""

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from threadpoolctl import threadpool_limits

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def one_blas_thread(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """A decorator: NumPy and SciPy use one thread while the function runs. JAX's own threads are not touched."""
    return threadpool_limits.wrap(limits=1, user_api="blas")(function)
