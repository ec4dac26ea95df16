"""States that each token multiplies by a matrix of its own: one after the other, or as a tree of products."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dualform.compiled import compiled
from dualform.errors import require
from dualform.tasks.hmm.filtering import FORMS, Form


@compiled
def carried(
    matrices: Float[Array, "time n n"],
    drive: Float[Array, "time n"],
    begin: Float[Array, " n"],
    *,
    form: Form = "naive",
) -> Float[Array, "time n"]:
    """b_t = A_t b_{t-1} + drive_t, from b_0 = begin.

    **Arguments:** form: as of `filtered`: "naive" or "associative".

    **Raises:** `InputError` for another form.
    """
    require(form in FORMS, f"there is no form {form!r} of the filter; there are {', '.join(FORMS)}.")
    if form == "associative":
        products, sums = jax.lax.associative_scan(_then, (matrices, drive))
        return jnp.einsum("tij,j->ti", products, begin) + sums

    def step(b: Array, each: tuple[Array, Array]) -> tuple[Array, Array]:
        after = each[0] @ b + each[1]
        return after, after

    return jax.lax.scan(step, begin, (matrices, drive))[1]


def _then(first: tuple[Array, Array], second: tuple[Array, Array]) -> tuple[Array, Array]:
    (a, u), (b, v) = first, second
    return b @ a, jnp.einsum("tij,tj->ti", b, u) + v
