"""Attention weights read back out of a gated RNN, with the error of the whole function.

Attention has the pairs of a past token with the present one alone, the same at every lag, quadratic in the past token and
linear in the present one: T[o, (ij), l] = sum_h (V_oi C_jl + V_oj C_il) / 2. The network's tensor (`lags`) is averaged over the
lags, fitted by such heads, and everything that the fit leaves, all pairs of lags included, is the error. No sample is drawn
and no unit is taken to be at 0 or 1: a decay of 0.999 costs what it costs within the horizon.

Limits. One head is found by algebra wherever it is exact, so its no is a no. More heads are searched for from 7 to 49
starts: a yes is proved by the error, a no says only that the search found none. Where T has about as many entries as
the heads have parameters (6 heads at d = 4) the search for that number may fail; from there on every T is some
attention (d^2 heads always suffice, and are then given by algebra), and the number of heads means little. V and C of
one head are determined up to a scale between them, several heads up to more than that; W_K and W_Q by their product.
"""

import functools
from typing import Any, TypeAlias

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from dualform.discover.forms import (
    as_function,
    attention_block,
    circuit_block,
    embed_attention_block,
    form_basis,
    form_kinds,
)
from dualform.discover.lags import decays, lag_tensors
from dualform.errors import require
from dualform.mixers import GatedRNN, LinearAttention, SideGatedRNN
from dualform.threads import one_blas_thread


class Recovered(eqx.Module):
    """What attention a gated RNN implements, if it does.

    - attention: the nearest found. W_V of each head has the Frobenius norm sqrt(rows) and its largest entry is
      positive; W_K and W_Q are (d, d), the balanced factors of C (they share its singular values' square roots).
    - error: ||rnn - attention|| / ||rnn|| over the function's tensors at all pairs of lags within the horizon.
    - implements: error <= tolerance.  reasons: why (not), in words.
    - evidence: the parts whose squares sum to error^2. "structure": T against its nearest attention; "other_forms": the
      past read linearly, or a query that is not; "decays": T changing with the lag; "memory_memory": products of two
      past tokens; "present": the present token with itself.

    The numbers prove the function. They do not say that the network's *units* are those of a construction.
    """

    attention: LinearAttention
    error: float
    implements: bool = eqx.field(static=True)
    reasons: tuple[str, ...] = eqx.field(static=True)
    evidence: dict[str, float]


_Heads: TypeAlias = tuple[Float[np.ndarray, "head d_out d"], Float[np.ndarray, "head d d"]]
"""V_h and C_h."""

_Fewer: TypeAlias = tuple[np.ndarray, np.ndarray] | None
"""The same of a fit with fewer heads."""


@one_blas_thread
def recover_attention(
    rnn: GatedRNN | SideGatedRNN | Any,
    heads: int | None = 1,
    *,
    tolerance: float = 1e-2,
    horizon: int = 32,
    most_heads: int | None = None,
    seed: int = 0,
) -> Recovered:
    """The attention that `rnn` implements, up to the known invariances, and whether it does.

    **Arguments:**

    - heads: of the attention; None tries 1, 2, ... until the error is within the tolerance (1 alone, where the parts of
      the function that attention has not are above it already).
    - tolerance: the error up to which the answer is yes.
    - horizon: tokens over which the function is compared, at least 2.
    - most_heads: where None stops. If not given it stops at 8, or before where every tensor is some attention, and then
      takes d * min(d, d_out) heads, of which each has one row or column.
    - seed: of the starts of the search for several heads.

    **Returns:** `Recovered`; its attention joins several heads by a `w_o` of identities: each writes all of d_out.

    **Raises:** `InputError` for another mixer, weights that are not finite, or numbers out of range.

        >>> import jax.random as jr
        >>> from dualform import construct, mixers
        >>> from dualform.discover.recover import recover_attention
        >>> teacher = mixers.LinearAttention.make(3, heads=1, key=jr.key(0))
        >>> found = recover_attention(construct.gated_rnn(teacher))
        >>> found.implements, found.error < 1e-5
        (True, True)
    """
    _check(rnn, heads, horizon, most_heads)
    found = lag_tensors(rnn, horizon)
    block = attention_block(found.past_present)
    outside = found.past_present - embed_attention_block(block)
    size = found.size() or 1.0
    evidence = {
        "other_forms": found.lags**0.5 * np.linalg.norm(outside) / size,
        "decays": found.spread / size,
        "memory_memory": found.past_past / size,
    }
    floor = float(np.sqrt(sum(part**2 for part in evidence.values())))
    to_share = (
        found.lags / 2
    ) ** 0.5 / size  # a block's square counts half in the basis of forms, and once for each lag
    allowed, target = (max(tolerance**2 - floor**2, 0.0)) ** 0.5 / to_share, max(1e-10, floor) / to_share
    output_value, key_query = _fit(block, heads, most_heads, allowed, target, np.random.default_rng(seed))
    fitted = circuit_block(output_value, key_query)
    evidence["structure"] = to_share * np.linalg.norm(block - fitted)
    evidence["present"] = np.linalg.norm(as_function(found.present - embed_attention_block(fitted))) / size
    evidence = {name: float(part) for name, part in evidence.items()}
    error = float(np.sqrt(sum(part**2 for part in evidence.values())))
    return Recovered(
        attention=_canonical(output_value, key_query),
        error=error,
        implements=error <= tolerance,
        reasons=_reasons(rnn, error, evidence, len(key_query), tolerance, horizon),
        evidence=evidence,
    )


def _check(rnn: Any, heads: int | None, horizon: int, most_heads: int | None) -> None:
    require(
        isinstance(rnn, GatedRNN | SideGatedRNN),
        f"recover_attention reads a GatedRNN or a SideGatedRNN; got {type(rnn).__name__}.",
    )
    require(heads is None or heads >= 1, f"heads is {heads}; it must be at least 1, or None to search.")
    require(most_heads is None or most_heads >= 1, f"most_heads is {most_heads}; it must be at least 1.")
    require(horizon >= 2, f"horizon is {horizon}; with fewer than 2 tokens nothing is remembered.")
    names = [*_weight_names(rnn), "decay"]
    for name in names:
        require(
            bool(np.isfinite(np.asarray(getattr(rnn, name)).astype(np.float64)).all()),
            f"{name} holds a NaN or an infinity; this network computes nothing that could be read back.",
        )


def _weight_names(rnn: GatedRNN | SideGatedRNN) -> tuple[str, ...]:
    side = isinstance(rnn, SideGatedRNN)
    return ("w_m_in", "w_x_in", *(("w_side",) if side else ("w_m_out", "w_x_out")), "readout")


def _canonical(
    output_value: Float[np.ndarray, "head d_out d"], key_query: Float[np.ndarray, "head d d"]
) -> LinearAttention:
    """Weights in the normal form that `Recovered` states."""
    heads, rows, _ = output_value.shape
    size = np.linalg.norm(output_value, axis=(1, 2)) / rows**0.5
    flat = output_value.reshape(heads, -1)
    sign = np.sign(np.take_along_axis(flat, np.argmax(np.abs(flat), axis=1)[:, None], axis=1)[:, 0])
    scale = np.where(size == 0, 1.0, size * sign)[:, None, None]
    u, s, w = np.linalg.svd(key_query * scale)
    root = np.sqrt(s)[:, :, None]
    weights = (output_value / scale, root * u.swapaxes(1, 2), root * w)
    w_v, w_k, w_q = (jnp.asarray(w, float) for w in weights)
    return LinearAttention(w_v, w_k, w_q, None if heads == 1 else jnp.asarray(np.tile(np.eye(rows), (1, heads)), float))


def _reasons(
    rnn: GatedRNN | SideGatedRNN, error: float, evidence: dict[str, float], heads: int, tolerance: float, horizon: int
) -> tuple[str, ...]:
    """The verdict in words, and every part of the error that is above the tolerance, the largest first."""
    count = "1 head" if heads == 1 else f"{heads} heads"
    if error <= tolerance:
        return (
            f"over {horizon} tokens its function is that of an attention of {count}, to {error:.1e} "
            f"(tolerance {tolerance:.1e}).",
        )
    decay = decays(rnn)
    between = np.flatnonzero((decay > 0.01) & (decay < 0.99))
    remembering = decay[decay >= 0.99]
    lowest = f"the lowest of those near 1 is {remembering.min():.6g}" if len(remembering) else "all near 0"
    named = ", ".join(f"unit {i} at {decay[i]:.3g}" for i in between[:3]) or lowest
    words = {
        "memory_memory": "its output holds products of two past tokens, which attention never forms",
        "decays": f"what it makes of a past token changes with the lag (decays: {named})",
        "other_forms": "it reads the past linearly or as a constant (a bias), or its query is not linear",
        "present": "what it makes of the present token alone is not what it makes of a past one",
        "structure": f"no attention of {count} was found that has its tensor",
    }
    parts = sorted(((part, name) for name, part in evidence.items()), reverse=True)
    told = [f"{words[name]}: {part:.1e} of the function." for part, name in parts if part > tolerance]
    return (
        f"its function is off by {error:.1e} from the nearest attention of {count}; the tolerance is {tolerance:.1e}.",
        *told,
    )


def _fit(
    block: Float[np.ndarray, "d_out quadratic d"],
    heads: int | None,
    most_heads: int | None,
    allowed: float,
    target: float,
    rng: np.random.Generator,
) -> _Heads:
    """As many heads as asked; or, where none are, the fewest with a misfit of at most `allowed`, else the nearest.

    **Arguments:** target: the misfit below which no further start is tried.
    """
    if heads is not None or allowed == 0:  # the rest of the function forbids a yes, whatever the number of heads
        return _fit_heads(block, heads or 1, target, None, rng)
    d_out, _, d = block.shape
    parameters_of_a_head = d * (d_out + d) - 1
    every = -(-block.size // parameters_of_a_head) + 1
    tried = []
    for number in range(1, (most_heads or min(8, every)) + 1):
        tried.append(_fit_heads(block, number, target, tried[-1] if tried else None, rng))
        if _misfit(block, tried[-1]) <= allowed:
            return tried[-1]
    return min(tried, key=lambda found: _misfit(block, found)) if most_heads else _entry_by_entry(block)


def _fit_heads(block, heads: int, target: float, previous: _Fewer, rng: np.random.Generator) -> _Heads:
    """The best of several starts: for one head by algebra; for more, heads added to `previous`, then random ones."""
    d_out, _, d = block.shape
    if heads >= d * min(d, d_out):
        return _entry_by_entry(block)
    random_starts = int(np.clip(2e6 / (heads * d * (d_out + d)) ** 2, 6, 48))
    found = []
    for start in range(2 if heads == 1 else 1 + random_starts):
        if heads == 1:
            begin = _one_head_start(block, swap=start == 1)
        elif start == 0:
            begin = _grown(block, previous, heads)
        else:
            draw = lambda rows: rng.normal(size=(heads, rows, d))
            begin = _alternate(block, draw(d_out), draw(d), 10)
        found.append(_alternate(block, *_descend(block, *begin, steps=40), 2))
        if _misfit(block, found[-1]) <= target:
            return found[-1]
    best = min(found, key=lambda pair: _misfit(block, pair))
    return _alternate(block, *_descend(block, *best, steps=200), 2)


def _misfit(block, heads: _Heads) -> float:
    return float(np.linalg.norm(circuit_block(*heads) - block))


def _entry_by_entry(block: Float[np.ndarray, "d_out quadratic d"]) -> _Heads:
    """Any block whatever as d * min(d, d_out) heads, of one row or column each.

    A symmetric M is sum_i sym(e_i c_i^T): a head for each i, and for each output or each query, whichever are fewer.
    """
    d_out, _, d = block.shape
    matrices = np.einsum("oql,qij->oijl", block, _quadratic_basis(d))
    rows = matrices * (np.triu(np.ones((d, d)), 1) + np.triu(np.ones((d, d))))[None, :, :, None]
    if d_out <= d:
        output, i = (index.ravel() for index in np.indices((d_out, d)))
        return np.eye(d_out)[output][:, :, None] * np.eye(d)[i][:, None], rows[output, i]
    query, i = (index.ravel() for index in np.indices((d, d)))
    return rows[:, i, :, query], np.eye(d)[i][:, :, None] * np.eye(d)[query][:, None]


def _grown(block, previous: _Fewer, heads: int) -> _Heads:
    """`previous` with heads added one by one, each the best single head of what is left."""
    d_out, _, d = block.shape
    v, c = previous if previous is not None else (np.zeros((0, d_out, d)), np.zeros((0, d, d)))
    while len(v) < heads:
        extra_v, extra_c = _alternate(
            block - circuit_block(v, c), *_one_head_start(block - circuit_block(v, c), False), 10
        )
        v, c = np.concatenate([v, extra_v]), np.concatenate([c, extra_c])
    return v, c


@functools.cache
def _quadratic_basis(d: int) -> Float[np.ndarray, "quadratic d d"]:
    return form_basis(d + 1)[form_kinds(d + 1) == 2][:, :d, :d]


def _one_head_start(block: Float[np.ndarray, "d_out quadratic d"], swap: bool) -> _Heads:
    """V and C of one head, exact where there is one.

    For directions a of the output and b of the query, T(a, b) = sym(v c^T) with v = V^T a and c = C b. Its eigenpairs
    (p > 0, u), (-n < 0, w) give v and c as sqrt(p) u +- sqrt(n) w, up to which is which (hence `swap`). With v known,
    T(a, .) is linear in C, and then T in V.
    """
    basis = _quadratic_basis(block.shape[2])
    d_out, _, d = block.shape
    a = np.linalg.svd(block.reshape(d_out, -1))[0][:, 0]
    seen = np.einsum("o,oql->ql", a, block)
    b = np.linalg.svd(seen)[2][0]
    value, vector = np.linalg.eigh(np.einsum("q,qij->ij", seen @ b, basis))
    plus, minus = np.sqrt(max(value[-1], 0.0)) * vector[:, -1], np.sqrt(max(-value[0], 0.0)) * vector[:, 0]
    minus = minus if d > 1 else np.zeros_like(minus)
    v = plus - minus if swap else plus + minus
    v = v if v.any() else np.ones(d)
    c = np.linalg.lstsq(np.einsum("qij,i->qj", basis, v), seen, rcond=None)[0]
    return _alternate(block, np.zeros((1, d_out, d)), c[None], 1)


def _alternate(block, v, c, times: int) -> _Heads:
    """Alternating least squares: V given C, then C given V."""
    basis = _quadratic_basis(block.shape[2])
    heads, d_out, d = v.shape
    for _ in range(times):
        design = np.einsum("qij,hjl->qlhi", basis, c).reshape(-1, heads * d)
        v = np.linalg.lstsq(design, block.reshape(d_out, -1).T, rcond=None)[0].T.reshape(d_out, heads, d).swapaxes(0, 1)
        design = np.einsum("qij,hoi->oqhj", basis, v).reshape(-1, heads * d)
        c = np.linalg.lstsq(design, block.reshape(-1, d), rcond=None)[0].reshape(heads, d, d)
    return v, c


def _descend(block, v, c, steps: int) -> _Heads:
    """Levenberg-Marquardt over all heads at once, until a step no longer helps."""
    v, c = _balanced(v, c)
    damping, residual = 1e-2, circuit_block(v, c) - block
    loss, least, stalled = float(np.sum(residual**2)), 1e-30 * float(np.sum(block**2)), 0
    for _ in range(steps):
        if loss <= least or stalled >= 8:
            break
        step_v, step_c = _step(residual, v, c, damping)
        new_residual = circuit_block(v + step_v, c + step_c) - block
        new_loss = float(np.sum(new_residual**2))
        if new_loss < loss:
            stalled = stalled + 1 if new_loss > (1 - 1e-6) * loss else 0
            v, c, residual, loss, damping = v + step_v, c + step_c, new_residual, new_loss, max(damping / 5, 1e-13)
        else:
            stalled, damping = stalled + 1, min(damping * 4, 1e6)
    return v, c


def _step(residual, v, c, damping: float) -> _Heads:
    """The damped Gauss-Newton step, V eliminated: its part of the normal matrix is one small block for all outputs."""
    basis = _quadratic_basis(c.shape[-1])
    heads, d_out, d = v.shape
    rows = heads * d
    by_v = np.einsum("qij,hjl->hiql", basis, c).reshape(rows, -1, d)
    by_c = np.einsum("qij,hoi->hjoq", basis, v).reshape(rows, d_out, -1)
    of_v, of_c = np.tensordot(by_v, by_v, ((1, 2), (1, 2))), np.tensordot(by_c, by_c, ((1, 2), (1, 2)))
    scale = (d_out * np.trace(of_v) + d * np.trace(of_c)) / (rows * (d_out + d)) or 1.0
    of_v, of_c = of_v + damping * scale * np.eye(rows), of_c + damping * scale * np.eye(rows)
    cross = np.einsum("aql,boq->oalb", by_v, by_c, optimize=True).reshape(d_out, rows, d * rows)
    gradient_v = np.einsum("oql,aql->oa", residual, by_v, optimize=True)
    gradient_c = np.einsum("oql,boq->lb", residual, by_c, optimize=True).ravel()
    inner = np.linalg.solve(of_v[None], np.concatenate([cross, gradient_v[:, :, None]], axis=2))
    schur = np.kron(np.eye(d), of_c) - np.tensordot(cross, inner[:, :, :-1], ((0, 1), (0, 1)))
    step_c = np.linalg.solve(schur, np.tensordot(cross, inner[:, :, -1], ((0, 1), (0, 1))) - gradient_c)
    step_v = -inner[:, :, -1] - inner[:, :, :-1] @ step_c
    return step_v.reshape(d_out, heads, d).swapaxes(0, 1), step_c.reshape(d, heads, d).transpose(1, 2, 0)


def _balanced(v, c) -> _Heads:
    """Each head's V and C with one norm, so that one damping serves both."""
    size_v, size_c = (np.linalg.norm(w, axis=(1, 2))[:, None, None] for w in (v, c))
    ratio = np.sqrt(np.where((size_v > 0) & (size_c > 0), size_c / np.where(size_v > 0, size_v, 1), 1))
    return v * ratio, c / ratio
