"""Linear attention as a program, and what it does: recall of values by their keys, and a step of gradient descent."""

from typing import Any

import numpy as np
from jaxtyping import Float

from dualform.errors import require
from dualform.programs.library.registration import register
from dualform.programs.program import Program
from dualform.programs.sugar import counter
from dualform.programs.values import Input, Linear, Number, Value, concat, summed, whole_number


def outer(x: Value, y: Value) -> Value:
    """x y^T, row by row: (x.width * y.width,)."""
    return concat(*(entry * y for entry in x))


def applied(matrix: Value, x: Value) -> Value:
    """A matrix, row by row, times x."""
    rows = [matrix[start : start + x.width] for start in range(0, matrix.width, x.width)]
    return concat(*(summed(row * x) for row in rows))


@register("linear_attention")
def linear_attention(d: int = 3, seed: int = 0) -> Program:
    """What linear self-attention of one head gives, whose three matrices are drawn from N(0, 1 / d).

    Every token adds the product of its value and its key to a matrix, which its query is multiplied by:

        W_t = W_{t-1} + v_t k_t^T,  y_t = W_t q_t,  v, k, q = W_V x, W_K x, W_Q x

    The matrix is a linear state, and the two products are gates: compiled to gated-rnn this is the construction of
    `dualform.construct`, and the papers' point. Of matrices of your own it is `attention(w_v, w_k, w_q)`.

    **Source:** Eq. 1 of Zucchet et al. 2023 (arXiv 2309.01775).
    """
    d = whole_number("d", d)
    return attention(*np.random.default_rng(seed).standard_normal((3, d, d)) / d**0.5)


def attention(w_v: Any, w_k: Any, w_q: Any) -> Program:
    """Linear self-attention of one head with these matrices.

    **Arguments:** w_v (d_v, d); w_k, w_q (d_k, d).

    **Raises:** `InputError` where the shapes do not fit.
    """
    w_v, w_k, w_q = (np.asarray(w, float) for w in (w_v, w_k, w_q))
    shapes = f"w_v {w_v.shape}, w_k {w_k.shape}, w_q {w_q.shape}"
    fit = (
        w_v.ndim == w_k.ndim == 2
        and w_k.shape == w_q.shape
        and w_v.shape[1] == w_k.shape[1]
        and w_v.size * w_k.size > 0
    )
    require(fit, f"w_v must be (d_v, d), w_k and w_q (d_k, d); got {shapes}.")
    x = Input(w_v.shape[1])
    v, k, q = (Linear(x, w) for w in (w_v, w_k, w_q))
    seen = counter(outer(v, k), name="seen")
    return Program(
        applied(seen, q),
        "attention",
        "Linear self-attention of one head.",
        expected=lambda x: np.tril((x @ w_q.T) @ (x @ w_k.T).T) @ (x @ w_v.T),
    )


@register("recall")
def recall(keys: int = 4, width: int = 2) -> Program:
    """The value that was written to a key, for the key that is asked for; 0 where none was.

    A token is (key, value, query): one-hot of `keys` where a value is written, or 0 where none is; the value, `width` numbers;
    and one-hot again, the key that is asked for. It is linear attention, with keys that do not disturb each other:

        memory_t = memory_{t-1} + value_t key_t^T,  y_t = memory_t query_t

    What is written to a key twice adds up: to write over a value one would have to take the old one away, which is a product of
    the memory and the key, and no linear state. The delta rule is that product.
    """
    keys, width = whole_number("keys", keys), whole_number("width", width)
    token = Input(2 * keys + width)
    key, value, query = token[:keys], token[keys : keys + width], token[keys + width :]
    return Program(
        applied(counter(outer(value, key), name="memory"), query),
        draw=lambda random, time: _written(random, time, keys, width),
        expected=lambda x: _recalled(x, keys, width),
    )


@register("gradient_descent")
def gradient_descent(d_x: int = 3, d_y: int = 3, eta: Number | None = None) -> Program:
    """A prediction of y from x by one step of gradient descent on the pairs (x, y) in the context, from weights of 0.

    The loss 1/2 sum |y_s - W x_s|^2 has at W = 0 the gradient -sum y_s x_s^T, so that a step of size eta gives

        W_t = eta sum_{s<=t} y_s x_s^T,  y_t = W_t x_t

    which is linear attention with values y, and x as keys and queries. What is asked comes as (x, 0), which adds nothing.

    **Arguments:** d_x, d_y; eta: the best one for twelve pairs if not given, 1 / (12 + d_x - 1/5).

    **Source:** Zucchet et al. 2023 (arXiv 2309.01775), Sec. 4 and Table 2: what their trained network does, written down.
    """
    d_x, d_y = whole_number("d_x", d_x), whole_number("d_y", d_y)
    size = 1 / (12 + d_x - 0.2) if eta is None else eta
    token = Input(d_x + d_y)
    x, y = token[:d_x], token[d_x:]
    weights = counter(outer(y, x), name="weights")
    return Program(
        applied(weights, x) * size,
        draw=lambda random, time: _regression(random, time, d_x, d_y),
        expected=lambda tokens: _predicted(tokens[:, :d_x], tokens[:, d_x:], float(size)),
    )


def _regression(random: np.random.Generator, time: int, d_x: int, d_y: int) -> Float[np.ndarray, "time d"]:
    """x uniform with variance 1, y = W x of W of variance 1 / d_x; the last y is 0, since it is asked for."""
    w, x = random.standard_normal((d_y, d_x)) / d_x**0.5, random.uniform(-(3**0.5), 3**0.5, (time, d_x))
    y = x @ w.T
    y[-1] = 0
    return np.concatenate([x, y], axis=1)


def _predicted(x: np.ndarray, y: np.ndarray, eta: float) -> np.ndarray:
    """By the step itself: weights of 0, less eta times the gradient of the loss so far."""
    found = []
    for t in range(1, len(x) + 1):
        weights = np.zeros((y.shape[1], x.shape[1]))
        errors = x[:t] @ weights.T - y[:t]
        weights -= eta * errors.T @ x[:t]
        found.append(weights @ x[t - 1])
    return np.array(found)


def _written(random: np.random.Generator, time: int, keys: int, width: int) -> Float[np.ndarray, "time d"]:
    """Each key is written once, in any order, at any tokens; some key is asked for at each."""
    found = np.zeros((time, 2 * keys + width))
    written = min(keys, time)
    tokens = np.sort(random.choice(time, written, replace=False))
    found[tokens, random.permutation(keys)[:written]] = 1
    found[tokens, keys : keys + width] = random.standard_normal((written, width))
    found[np.arange(time), keys + width + random.integers(0, keys, time)] = 1
    return found


def _recalled(tokens: np.ndarray, keys: int, width: int) -> np.ndarray:
    """By a dictionary."""
    memory: dict[int, np.ndarray] = {}
    found = []
    for token in tokens:
        key, value, query = token[:keys], token[keys : keys + width], token[keys + width :]
        if key.any():
            memory[int(key.argmax())] = value
        found.append(memory.get(int(query.argmax()), np.zeros(width)))
    return np.array(found)
