"""Bounded attention as its definitions say it: a list of states for each head, one token after the other, in NumPy alone."""

import numpy as np


def softmax(scores):
    """Weights of a list of scores."""
    e = np.exp(scores - scores.max())
    return e / e.sum()


def turned(x, place, base):
    """x with its halves turned against each other."""
    half = len(x) // 2
    angle = place * base ** (-np.arange(half) / half)
    a, b = x[:half], x[half:]
    return np.concatenate([a * np.cos(angle) - b * np.sin(angle), b * np.cos(angle) + a * np.sin(angle)])


def attended(mixer, x, states, drop, rerotate=False):
    """Outputs (time, d), and each head's kept places after each token.

    drop(weights, places, sums) -> for each key-value head the index to drop, of states + 1; weights (kv_head, group, count),
    places (kv_head, count) with the newest last, sums (kv_head, count) of all weights that a state has had.
    """
    w_q, w_k, w_v = (np.asarray(w) for w in (mixer.w_q, mixer.w_k, mixer.w_v))
    heads, group, scale = len(w_k), len(w_q) // len(w_k), w_q.shape[1] ** -0.5
    kept = [[] for _ in range(heads)]  # place, key, value, sum
    outputs, history = [], []
    for t, token in enumerate(np.asarray(x)):
        o, weights = [], []
        for h in range(heads):
            kept[h].append([t, w_k[h] @ token, w_v[h] @ token, 0.0])
            kept[h].sort(key=lambda state: state[0])
            place = lambda i, state: i if rerotate else state[0]
            keys = np.stack([turned(s[1], place(i, s), mixer.base) for i, s in enumerate(kept[h])])
            values, here = np.stack([s[2] for s in kept[h]]), place(len(kept[h]) - 1, kept[h][-1])
            queries = [turned(w_q[h * group + g] @ token, here, mixer.base) for g in range(group)]
            rows = np.stack([softmax(keys @ q * scale) for q in queries])
            o += list(rows @ values)
            weights.append(rows)
            for state, weight in zip(kept[h], rows.sum(0), strict=True):
                state[3] += weight
        outputs.append(np.asarray(mixer.w_o) @ np.concatenate(o))
        if len(kept[0]) > states:
            places = np.array([[s[0] for s in of] for of in kept])
            sums = np.array([[s[3] for s in of] for of in kept])
            for h, i in enumerate(drop(np.stack(weights), places, sums)):
                del kept[h][i]
        history.append([{s[0] for s in of} for of in kept])
    return np.stack(outputs), history


def same(i):
    """One decision for both heads."""
    return [i, i]


def _h2o(sums, places, states, layer):
    recent = states - states // 2
    sums = np.broadcast_to(sums.mean(0), sums.shape) if layer else sums
    return [int(np.argmin(np.where(p > p.max() - recent, np.inf, s))) for s, p in zip(sums, places, strict=True)]


def rules(states):
    """What each policy drops, by name, in words of its paper."""
    return {
        "window": lambda weights, places, sums: same(0),
        "window+2": lambda weights, places, sums: same(2),
        "tova": lambda weights, places, sums: same(int(weights.mean((0, 1)).argmin())),
        "tova-head": lambda weights, places, sums: weights.mean(1).argmin(1).tolist(),
        "tova-newest": lambda weights, places, sums: same(int(weights.mean((0, 1))[:-1].argmin())),
        "h2o": lambda weights, places, sums: _h2o(sums, places, states, False),
        "h2o-layer": lambda weights, places, sums: _h2o(sums, places, states, True),
    }
