"""KV and Q scores: do the units hold what attention needs, the key-values and the queries?

Each is 1 - R^2 of a linear regression, from what the units receive to what attention computes: 0 if the units hold it
exactly, 1 if they hold nothing of it. They say what is *there*, not that the readout uses it: an overcomplete random
network, too, scores 0. Counts, polynomial distance and the recovered weights say the rest.
"""

import numpy as np
from jaxtyping import Float

from dualform.discover.decays import Split
from dualform.mixers import GatedRNN, LinearAttention


def kv_score(rnn: GatedRNN, split: Split, attention: LinearAttention, tokens: Float[np.ndarray, "token d"]) -> float:
    """1 - R^2 from the inputs of the units at 1 to the key-values v_i k_j of every head.

    **Arguments:** tokens (token, d), the inputs that the regression is made over; at least a few times d^2 of them.

    **Returns:** the mean over key-values, in [0, 1]; 1 where there is no unit at 1.

    **Source:** Table 1 of Zucchet et al. 2023.
    """
    w_v, w_k, _ = effective_circuits(attention)
    v = np.einsum("hid,td->thi", w_v, tokens)
    k = np.einsum("hjd,td->thj", w_k, tokens)
    return unexplained(gated_input(rnn, tokens)[:, split.memory], np.einsum("thi,thj->thij", v, k).reshape(len(v), -1))


def q_score(rnn: GatedRNN, split: Split, attention: LinearAttention, tokens: Float[np.ndarray, "token d"]) -> float:
    """1 - R^2 from the inputs of the units at 0 to the queries of every head.

    **Arguments:** as `kv_score`.

    **Returns:** the mean over the queries, in [0, 1]; 1 where there is no unit at 0.

    **Source:** Table 1 of Zucchet et al. 2023.
    """
    _, _, w_q = effective_circuits(attention)
    q = np.einsum("hjd,td->thj", w_q, tokens)
    return unexplained(gated_input(rnn, tokens)[:, split.forget], q.reshape(len(q), -1))


def effective_circuits(
    attention: LinearAttention, rank_tolerance: float = 1e-10
) -> tuple[Float[np.ndarray, "head d_v d"], Float[np.ndarray, "head d_k d"], Float[np.ndarray, "head d_k d"]]:
    """W_V, and keys and queries cut down to what the output can depend on.

    Only W_K^T W_Q acts. Where its rank is below d_k, some keys and queries are never seen in any output and no student
    can learn them: they are replaced by the balanced factors of W_K^T W_Q, padded with zeros. At full rank the weights
    are returned as they are.
    """
    w_v, w_k, w_q = (np.asarray(w, np.float64) for w in (attention.w_v, attention.w_k, attention.w_q))
    keys, queries = w_k.copy(), w_q.copy()
    for head in range(len(w_v)):
        u, s, vt = np.linalg.svd(w_k[head].T @ w_q[head])
        rank = int(np.sum(s > rank_tolerance * max(s[0], 1e-300)))
        if rank < w_k.shape[1]:
            keys[head], queries[head] = 0.0, 0.0
            keys[head, :rank] = np.sqrt(s[:rank])[:, None] * u[:, :rank].T
            queries[head, :rank] = np.sqrt(s[:rank])[:, None] * vt[:rank]
    return w_v, keys, queries


def gated_input(rnn: GatedRNN, tokens: Float[np.ndarray, "token d"]) -> Float[np.ndarray, "token n"]:
    """g_in(x, 1) of each unit on each token, in float64."""
    z = np.concatenate([np.asarray(tokens, np.float64), np.ones((len(tokens), 1))], axis=1)
    return (z @ np.asarray(rnn.w_m_in, np.float64).T) * (z @ np.asarray(rnn.w_x_in, np.float64).T)


def unexplained(features: Float[np.ndarray, "token feature"], targets: Float[np.ndarray, "token target"]) -> float:
    """1 - R^2 of the least-squares fit (with intercept) of `targets`, mean over those that vary."""
    varies = targets.std(axis=0) > 1e-12 * max(float(np.abs(targets).max()), 1e-300)
    targets = targets[:, varies] - targets[:, varies].mean(axis=0)
    if targets.shape[1] == 0:
        return 0.0
    features = features - features.mean(axis=0)
    scale = np.linalg.norm(features, axis=0)
    features = features[:, scale > 0] / scale[scale > 0]
    fit = features @ np.linalg.lstsq(features, targets, rcond=1e-13)[0] if features.shape[1] else 0.0
    return float(np.mean(np.sum((targets - fit) ** 2, axis=0) / np.sum(targets**2, axis=0)))
