"""Law 2: every fast recurrence gives the naive one, in values and in all gradients, the state's included."""

import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np

from tests.laws.laws import EXACT, check_close


def normal(key, shape, dtype=jnp.float64):
    """Standard normal numbers, real or complex."""
    return jr.normal(key, shape, dtype)


def readout(values, seed):
    """Random numbers in the shape of `values`: the cotangents that read all of them out."""
    random = np.random.default_rng(seed)
    draw = lambda v: random.normal(size=v.shape) + (1j * random.normal(size=v.shape) if v.dtype.kind == "c" else 0)
    return jtu.tree_map(lambda v: jnp.asarray(draw(v), v.dtype), values)


def fast_gives_naive(fast, naive, arguments, flags=((),), tolerance=EXACT, seed=0):
    """`fast` and `naive`, functions of differentiable `arguments` and of `flags`, agree in values and in every gradient.

    Each entry of `flags` is tried, with one compiled program for all those of the same shapes.
    """

    def pull_back(function):
        @jax.jit
        def run(arguments, flags, cotangents):
            values, pull = jax.vjp(lambda *a: function(*a, *flags), *arguments)
            return values, pull(cotangents)

        return run

    fast_runs, naive_runs = pull_back(fast), pull_back(naive)
    for each in flags:
        cotangents = readout(jax.eval_shape(naive, *arguments, *each), seed)
        values, gradients = fast_runs(arguments, each, cotangents)
        values_naive, gradients_naive = naive_runs(arguments, each, cotangents)
        check_close(values, values_naive, tolerance, f"values, flags {each}")
        check_close(gradients, gradients_naive, tolerance, f"gradients, flags {each}")
