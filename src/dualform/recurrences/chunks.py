"""What is inside the chunks of the outer-product recurrence, for each kind of decay, without the state carried into them.

No logarithm is taken. At the border between two blocks, a token t behind it takes from a token s before it by

    (q_t * before_t) . (k_s * after_s),     before_t: the product of the decays from the border to t,
                                            after_s: the product of the decays behind s, up to the border,

block by block, each twice as long as those below it. Every factor is a product of decays, so at most 1: nothing overflows, a
decay of 0 forgets exactly (a `start` is one), and a product that underflows is one that is as small.

Where all decays of a call are moderate (`moderate`), one product does for the whole chunk: (q_t * before_t) . (k_s / before_s),
with before the product from the chunk's beginning. A quotient loses no digits there, and its gradient is written without a
square, so that neither leaves the range of the dtype.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

CHUNK = 64
"""Tokens in a chunk, unless another number is asked for."""

GROUP, BATCH = 8, 64
"""Chunks that a chunked form works on at once, at most; and chunks times heads, so that they fit in a cache."""

LEAST = 0.1
"""The least decay that is divided by. Its gradient is then a difference whose rounding is divided by the decay, and so must stay
small beside it."""


def least_product(dtype) -> float:
    """The least product of the decays in a chunk that is divided by: a third of the dtype's digits of smallness.

    2e-13 in float32. Queries times it, keys divided by it and gradients of either stay in range, with a third to spare on
    each side.
    """
    return float(jnp.finfo(dtype).tiny) ** (1 / 3)


def in_groups(parts, fills, chunk, most):
    """Time cut into chunks and these into groups: (group, chunk, time, ...), with at most `most` chunks in a group.

    `fills`: what each of the parts is padded with behind its end.
    """
    time = len(parts[0])
    size = min(chunk, 1 << (time - 1).bit_length())
    chunks = -(-time // size)
    groups = -(-chunks // max(1, most))
    together = -(-chunks // groups)  # no group is much emptier than the others
    padding = groups * together * size - time

    def cut(a, fill):
        padded = jnp.pad(a, ((0, padding), *[(0, 0)] * (a.ndim - 1)), constant_values=fill)
        return padded.reshape(groups, together, size, *a.shape[1:])

    return tuple(cut(a, fill) for a, fill in zip(parts, fills, strict=False))


class Chunk(NamedTuple):
    """What chunks say without the state that is carried into them, S, (chunk, d_k, d_v).

    - y: what their tokens take from each other, (chunk, time, d_v).
    - queries, gain: they take gain * S^T query from S; gain (chunk, time, d_v), or None, which is 1.
    - write, left: they leave left * S + write.
    """

    y: Array
    queries: Array
    gain: Array | None
    write: Array
    left: Array

    def read(self, state):
        """All that the tokens read."""
        taken = jnp.einsum("ctk,ckv->ctv", self.queries, state)
        return self.y + (taken if self.gain is None else self.gain * taken)


def without_decay(q, k, v):
    """Chunks in which nothing is forgotten."""
    y = jnp.tril(jnp.einsum("ctk,csk->cts", q, k)) @ v
    return Chunk(y, q, None, jnp.einsum("csk,csv->ckv", k, v), jnp.ones((len(q), 1, 1), q.dtype))


def _of_a_head(form, q, k, v, decay):
    """Chunks with one decay for the whole state, (chunk, time, 1)."""
    left, before = form(decay)
    y = (jnp.einsum("ctk,csk->cts", q, k) * left) @ v
    write = jnp.einsum("csk,csv->ckv", k * left[:, -1, :, None], v)
    return Chunk(y, q * before, None, write, before[:, -1:])


def _head_by_halving(decay):
    """The products of the decays from each token to each later one, and those up to each."""
    left = products(decay[:, :, 0])
    return left, left[:, :, :1] * decay[:, :1]


def _head_by_quotients(decay):
    """The same, where no product of the decays is too small to be divided by."""
    before, inverse = _up_to(decay)
    return jnp.tril(before * inverse[:, :, 0][:, None]), before


def _of_rows(form, q, k, v, decay):
    """Chunks with a decay for each row of the state."""
    left, before, after = form(q, k, decay)
    return Chunk(left @ v, q * before, None, jnp.einsum("csk,csv->ckv", k * after, v), before[:, -1][:, :, None])


def _rows_by_halving(q, k, decay):
    """What tokens take from each other, and the products of the decays up to and behind each."""
    left, before, after = jnp.sum(q * k, axis=-1).reshape(-1, 1, 1), *_alone(decay)
    while before.shape[1] < q.shape[1]:
        # The border runs through the middle of each block: (block, half, token, channel).
        (before_l, before_r), (after_l, after_r) = _halves(before), _halves(after)
        q_r, k_l = (a.reshape(-1, 2, *before.shape[1:])[:, i] for a, i in ((q, 1), (k, 0)))
        left = _below(left, jnp.einsum("ctk,csk->cts", q_r * before_r, k_l * after_l))
        before, after = _across(before_l, before_r, after_l, after_r)
    return left, before, after


def _rows_by_quotients(q, k, decay):
    """The same, where no product of the decays is too small to be divided by."""
    before, inverse = _up_to(decay)
    left = jnp.tril(jnp.einsum("ctk,csk->cts", q * before, k * inverse))
    return left, before, before[:, -1:] * inverse


def _of_columns(form, q, k, v, decay):
    """Chunks with a decay for each column of the state."""
    y, before, after = form(q, k, v, decay)
    return Chunk(y, q, before, jnp.einsum("csk,csv->ckv", k, v * after), before[:, -1][:, None])


def _columns_by_halving(q, k, v, decay):
    """What tokens take from each other, and the products of the decays up to and behind each."""
    y, before, after = jnp.sum(q * k, axis=-1, keepdims=True) * v, *_alone(decay)
    while before.shape[1] < q.shape[1]:
        (before_l, before_r), (after_l, after_r) = _halves(before), _halves(after)
        time = before.shape[1]
        q_r, k_l, v_l = (a.reshape(-1, 2, time, a.shape[2])[:, i] for a, i in ((q, 1), (k, 0), (v, 0)))
        taken = before_r * (jnp.einsum("ctk,csk->cts", q_r, k_l) @ (v_l * after_l))
        y = (y.reshape(-1, 2, time, y.shape[2]) + jnp.stack([jnp.zeros_like(taken), taken], 1)).reshape(y.shape)
        before, after = _across(before_l, before_r, after_l, after_r)
    return y, before, after


def _columns_by_quotients(q, k, v, decay):
    """The same, where no product of the decays is too small to be divided by."""
    before, inverse = _up_to(decay)
    taken = jnp.tril(jnp.einsum("ctk,csk->cts", q, k)) @ (v * inverse)
    return before * taken, before, before[:, -1:] * inverse


@jax.custom_vjp
def _up_to(decay):
    """The products of moderate decays up to each token, (chunk, time, channel), by halving, and one divided by each."""
    before, time = decay, 1
    while time < decay.shape[1]:
        left, right = jnp.moveaxis(before.reshape(len(decay), -1, 2, time, decay.shape[2]), 2, 0)
        before, time = jnp.stack([left, right * left[:, :, -1:]], 2).reshape(decay.shape), 2 * time
    return before, 1 / before


def _up_to_forward(decay):
    before, inverse = _up_to(decay)
    return (before, inverse), (decay, before, inverse)


def _up_to_backward(kept, g):
    """A decay is a factor of every product from its token on: the sum of g * before - g' / before over those, divided by it.

    What the one adds for tokens that are both behind a decay the other takes away; and 1 / before^2, which float32 does not
    hold, is never formed.
    """
    (decay, before, inverse), (g_before, g_inverse) = kept, g
    time, change = decay.shape[1], g_before * before - g_inverse * inverse
    return (jnp.einsum("ut,ctk->cuk", jnp.triu(jnp.ones((time, time), change.dtype)), change) / decay,)


_up_to.defvjp(_up_to_forward, _up_to_backward)


def moderate(decay):
    """True where all products of these decays, (..., time, head, channel), may be divided by."""
    least = jnp.min(jnp.prod(decay, axis=-3))
    return (jnp.min(decay) >= LEAST) & (least >= least_product(decay.dtype))


def by_moderation(moderately, otherwise, decay, *arguments):
    """`moderately(*arguments)` where these decays are moderate, else `otherwise(*arguments)`.

    Each sequence of a batch is judged by itself, so that none depends on its neighbours: they run one after the other, which
    keeps what each needs in a cache. Where the decays are the same for the whole batch, it runs at once.
    """

    @jax.custom_batching.custom_vmap
    def run(decay, arguments):
        return jax.lax.cond(moderate(decay), moderately, otherwise, *arguments)

    @run.def_vmap
    def run_batch(size, batched, decay, arguments):
        if batched[0]:
            leaves, tree = jax.tree_util.tree_flatten((decay, arguments))
            each = jax.tree_util.tree_leaves(batched)

            def one(own):
                own = iter(own)
                return run(
                    *tree.unflatten([next(own) if alone else leaf for leaf, alone in zip(leaves, each, strict=True)])
                )

            found = jax.lax.map(one, [leaf for leaf, alone in zip(leaves, each, strict=True) if alone])
        else:
            axes = jax.tree_util.tree_map(lambda is_batched: 0 if is_batched else None, tuple(batched[1]))
            both = (jax.vmap(form, in_axes=axes, axis_size=size) for form in (moderately, otherwise))
            found = by_moderation(*both, decay, *arguments)
        return found, jax.tree_util.tree_map(lambda _: True, found)

    return run(decay, arguments)


OF_A_HEAD = partial(_of_a_head, _head_by_quotients), partial(_of_a_head, _head_by_halving)
OF_ROWS = partial(_of_rows, _rows_by_quotients), partial(_of_rows, _rows_by_halving)
OF_COLUMNS = partial(_of_columns, _columns_by_quotients), partial(_of_columns, _columns_by_halving)


def _alone(decay):
    """Of blocks of a single token: the product of the decays up to the token, and behind it; (block, 1, channel)."""
    before = decay.reshape(-1, 1, decay.shape[-1])
    return before, jnp.ones_like(before)


def _halves(a):
    """Of blocks taken two and two: the left ones, and the right ones."""
    pairs = a.reshape(-1, 2, *a.shape[1:])
    return pairs[:, 0], pairs[:, 1]


def _across(before_l, before_r, after_l, after_r):
    """The products up to and behind each token in blocks twice as long, from those of their halves."""
    before = jnp.concatenate([before_l, before_r * before_l[:, -1:]], 1)
    return before, jnp.concatenate([after_l * before_r[:, -1:], after_r], 1)


def _below(left, across):
    """Lower triangular blocks twice as long, from those on the diagonal and what lies between them."""
    upper, lower = _halves(left)
    return jnp.concatenate(
        [jnp.concatenate([upper, jnp.zeros_like(across)], -1), jnp.concatenate([across, lower], -1)], -2
    )


def products(decay: Float[Array, "*batch time"]) -> Float[Array, "*batch time time"]:
    """left[t, s] = product of decay_u for s < u <= t: 1 on the diagonal and 0 above; time must be a power of two.

    By halving, without division or logarithm.
    """
    *batch, time = decay.shape
    before = decay.reshape(-1, 1)
    left, after = jnp.ones_like(before)[..., None], jnp.ones_like(before)
    while before.shape[1] < time:
        (before_l, before_r), (after_l, after_r) = _halves(before), _halves(after)
        left = _below(left, before_r[:, :, None] * after_l[:, None])
        before, after = _across(before_l, before_r, after_l, after_r)
    return left.reshape(*batch, time, time)
