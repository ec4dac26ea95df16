"""The attention map of a selective state space, summed over its channels, without a map for each channel.

What lies between two halves of a stretch of tokens passes through the state in their middle: entries there are one product of
what later tokens read of that state with what earlier ones leave in it. Halving the stretch until nothing is left gives all
entries from matrix products alone: time^2 / 2 * d * n multiplications, and time * d * n * log2(time) exponentials, each of a sum
of steps of one sign, so that nothing is divided and nothing overflows. Memory beside the map is time * n * `block`. With negative
eigenvalues a sum of steps does not tell the product, which is multiplied out: as many exponentials, and about two multiplications
more for each; nothing is divided there either. On a CPU it takes two to three times as long.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dualform.arrays import accumulator
from dualform.compiled import compiled
from dualform.errors import require
from dualform.recurrences.selective_scan import transition

BLOCK = 64
"""Channels worked on at once: their states for 512 tokens fit into a core's cache."""


@compiled
def naive(q, w, delta, a, b, c, negative=False) -> Float[Array, "head time source"]:
    """The specification: one channel map after the other, token by token of a written 1; arguments as of `selective_map`."""
    time, taps = len(delta), len(w)
    total = jnp.zeros((q.shape[0], time, time), q.dtype)
    for s in range(time):
        drive = jnp.zeros_like(delta)
        for j in range(min(taps, time - s)):
            drive = drive.at[s + j].set(w[j, s])

        def step(h, inputs):
            x_t, delta_t, b_t, c_t = inputs
            h = transition(delta_t[:, None] * a, negative) * h + (delta_t * x_t)[:, None] * b_t[None]
            return h, h @ c_t

        _, y = jax.lax.scan(step, jnp.zeros_like(a), (drive, delta, b, c))
        total = total.at[:, :, s].set(jnp.sum(q * y[None], axis=-1))
    return total


@compiled
def selective_map(
    q: Float[Array, "head time d"],
    w: Float[Array, "tap time d"],
    delta: Float[Array, "time d"],
    a: Float[Array, "d n"],
    b: Float[Array, "time n"],
    c: Float[Array, "time n"],
    *,
    block: int = BLOCK,
    negative: bool = False,
) -> Float[Array, "head time source"]:
    """map[h, t, s] = sum_j sum_d q[h, t, d] * (C_t . P B_{s+j}) * delta_{s+j} * w[j, s, d], P the decay from s + j to t.

    P = exp(A_d (delta_{s+j+1} + ... + delta_t)) for each state; negative: the product of 2 exp(A_d delta) - 1 over these tokens.
    It is what q reads at t of the recurrence of `selective.selective`, driven by token s alone, which puts w[j, s] into the
    input of time s + j: the taps of a short convolution; without one, a single tap.

    **Arguments:** q (head, time, d); w (tap, time, d); delta (time, d), at least 0; a (d, n), at most 0; b, c (time, n); block:
    channels at once; negative: as of `selective`.

    **Returns:** (head, time, source), 0 where s > t.

    **Raises:** `InputError` where the shapes do not fit.

    **Source:** the sum over channels of the hidden attention of Ali et al. 2024 (arXiv 2403.01590), Eq. 11 on; the halving is
    that of a parallel prefix.
    """
    (heads, time, d), taps, n = q.shape, len(w), a.shape[1]
    require(
        w.shape[1:] == delta.shape == (time, d) and a.shape == (d, n) and b.shape == c.shape == (time, n) and taps >= 1,
        f"q must be (head, time, d), w (tap, time, d), delta (time, d), a (d, n), b and c (time, n); got {q.shape}, {w.shape}, "
        f"{delta.shape}, {a.shape}, {b.shape}, {c.shape}.",
    )
    wide = accumulator(q.dtype, w.dtype, delta.dtype, a.dtype, b.dtype)
    size = min(block, d)
    whole, spare = 1 << (time - 1).bit_length(), -d % size
    grow = lambda v, axis: jnp.pad(
        v.astype(wide), [(0, whole - time if i == axis else spare if i == v.ndim - 1 else 0) for i in range(v.ndim)]
    )
    # By blocks of channels; where there is no token or channel all is 0, and so is what it reads and leaves.
    cut = lambda v: jnp.moveaxis(v.reshape(*v.shape[:-1], -1, size), -2, 0)
    parts = (cut(grow(q, 1)), cut(grow(w, 1)), cut(grow(delta, 0)))
    rates = jnp.pad(a.astype(wide), ((0, spare), (0, 0))).reshape(-1, size, n)
    b, c = (jnp.pad(v.astype(wide), ((0, whole - time), (0, 0))) for v in (b, c))

    def add(total, part):
        q, w, delta, a = part
        return total + _of_channels(q, w, delta, a, b, c, negative), None

    # Taps that lie before the first token have columns of their own, cut off at the end.
    nothing = jnp.zeros((heads, whole, whole + taps - 1), wide)
    total, _ = jax.lax.scan(add, nothing, (*parts, rates))
    return total[:, :time, taps - 1 : taps - 1 + time]


def _of_channels(q, w, delta, a, b, c, negative):
    """The map of a block of channels: the diagonals, and every halving."""
    (heads, time, _), taps = q.shape, len(w)
    total = jnp.zeros((heads, time, time + taps - 1), q.dtype)
    own, places = delta * jnp.sum(b * c, axis=1)[:, None], jnp.arange(time)
    for j in range(taps):
        entries = jnp.einsum("htd,td,td->ht", q, own, jnp.roll(w[j], j, axis=0))
        total = total.at[:, places, places + taps - 1 - j].add(jnp.where(places >= j, entries, jnp.zeros_like(entries)))
    half = time // 2
    while half >= 1:
        total = _between_halves(total, half, q, w, delta, a, b, c, negative)
        half //= 2
    return total


def _between_halves(total, half: int, q, w, delta, a, b, c, negative):
    """Entries of the later half of every stretch of 2 * half tokens with what came in during the earlier half."""
    (_, time, d), taps, n = q.shape, len(w), a.shape[1]
    count = time // (2 * half)
    pairs = lambda v, axis=0: jnp.reshape(v, (*v.shape[:axis], count, 2, half, *v.shape[axis + 1 :]))
    steps = pairs(delta)
    after, left = _decays(steps[:, 1], steps[:, 0], a, negative)
    reading = after * pairs(c)[:, 1][..., None, :]
    writing = left * pairs(b)[:, 0][..., None, :] * steps[:, 0, :, :, None]
    reading = jnp.moveaxis(pairs(q, 1)[:, :, 1][..., None] * reading[None], 0, 1)  # count, head, half, d, n
    # Column s holds what the taps of token s leave: tap j comes in at s + j, and only what comes in here counts.
    early = jnp.pad(w, ((0, 0), (taps - 1, 0), (0, 0)))
    columns = jnp.zeros((count, half + taps - 1, d, n), q.dtype)
    for j in range(taps):
        first = taps - 1 - j
        tokens = pairs(early[j, first : first + time])[:, 0]  # w[j, s] for s + j in the earlier half
        columns = columns.at[:, first : first + half].add(tokens[..., None] * writing)
    flat = lambda v: v.reshape(*v.shape[:-2], d * n)
    found = jnp.einsum("khtz,ksz->hkts", flat(reading), flat(columns))
    for k in range(count) if count <= 2 else ():
        middle = (2 * k + 1) * half
        total = total.at[:, middle : middle + half, middle - half : middle + taps - 1].add(found[:, k])
    if count > 2:
        rows = (2 * jnp.arange(count) + 1)[:, None, None] * half + jnp.arange(half)[None, :, None]
        places = (2 * jnp.arange(count) * half)[:, None, None] + jnp.arange(half + taps - 1)[None, None]
        total = total.at[:, rows, places].add(found)
    return total


def _decays(late, early, a, negative):
    """From the middle to each later token, that one included, and after each earlier one up to the middle; (..., half, d, n)."""
    turned = jnp.flip(early, 1)
    if not negative:
        decayed = lambda steps: jnp.exp(steps[..., None] * a[None, None])
        return decayed(jnp.cumsum(late, axis=1)), decayed(jnp.flip(jnp.cumsum(turned, axis=1), 1) - early)
    each = lambda steps: transition(steps[..., None] * a[None, None], negative)
    ahead = jnp.concatenate([jnp.zeros_like(turned[:, :1]), turned[:, :-1]], axis=1)  # a step of 0 keeps all
    return jnp.cumprod(each(late), axis=1), jnp.flip(jnp.cumprod(each(ahead), axis=1), 1)
