"""Softmax attention as a recurrent network: each output is the last one of a scan with that token's query."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dualform.compiled import compiled
from dualform.errors import require
from dualform.maps import Written, attention_of
from dualform.mixers import SoftmaxAttention
from dualform.mixers.softmax_attention import Attend
from dualform.recurrences.prefixes import Form, many_to_one


@compiled
def attention_as_rnn(
    attention: SoftmaxAttention, x: Float[Array, "time d"], *, form: Form | None = None, block: int = 64
) -> Float[Array, "time d_out"]:
    """What `attention(x)` gives, row by row: for each token a recurrence over all before it, its query held fixed.

    A row is read in the memory of one state, (m, u, w) of each head; another token has another query, and its recurrence
    begins anew. That is why attention needs its cache, and `mixers.Aaren`, whose query never changes, does not.

    **Arguments:** form, block: how a row is read, see `recurrences.many_to_one`.

    **Raises:** `InputError` for a mixer of another kind, and as its call does.

    **Source:** Feng et al. 2024 (arXiv 2405.13956), Sec. 3.1.
    """
    require(
        isinstance(attention, SoftmaxAttention),
        f"a {type(attention).__name__} has no queries of its own; give softmax attention.",
    )
    own = attention_of(attention.frozen(x).map)
    assert own is not None and isinstance(own.memory, Attend) and isinstance(own.write, Written)
    q, k, rows = own.memory.q, own.memory.k, jnp.arange(len(x), dtype=jnp.int32)
    keys, values = (jnp.repeat(a, q.shape[1] // k.shape[1], axis=1) for a in (k, own.write.own))

    def row(inputs):
        query, t = inputs
        seen = (rows <= t) & (rows > t - attention.reach)
        o, _ = many_to_one(jnp.einsum("hk,shk->sh", query, keys), values, mask=seen, form=form, block=block)
        return o

    return own.read(jax.lax.map(row, (q, rows))).astype(x.dtype)
