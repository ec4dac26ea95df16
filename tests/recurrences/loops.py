"""The recurrences as one would write them on paper: unrolled loops that JAX differentiates by itself."""

import jax.numpy as jnp


def _flags(time, start, mask):
    """No document begins, and every token is there, unless said otherwise."""
    return jnp.zeros(time, bool) if start is None else start, jnp.ones(time, bool) if mask is None else mask


def diagonal_loop(decay, drive, h0, start=None, mask=None, reverse=False):
    """h_t = decay_t * h_{t-1} + drive_t; a start forgets the past, an absent token changes nothing."""
    time = drive.shape[0]
    start, mask = _flags(time, start, mask)
    decay = jnp.broadcast_to(decay, drive.shape).astype(drive.dtype)
    h, met = h0, {}
    for t in reversed(range(time)) if reverse else range(time):
        past = jnp.where(start[t], jnp.zeros_like(h), decay[t] * h)
        h = jnp.where(mask[t], past + drive[t], h)
        met[t] = h
    return jnp.stack([met[t] for t in range(time)]), h


def dense_loop(transition, drive, h0, start=None, mask=None):
    """h_t = A h_{t-1} + drive_t."""
    start, mask = _flags(len(drive), start, mask)
    h, met = h0, []
    for t in range(len(drive)):
        past = jnp.where(start[t], jnp.zeros_like(h), transition @ h)
        h = jnp.where(mask[t], past + drive[t], h)
        met.append(h)
    return jnp.stack(met), h


def outer_loop(queries, keys, values, state, decay=None, start=None, mask=None):
    """S_t = decay_t * S_{t-1} + k_t v_t^T, y_t = S_t^T q_t; decay_t a number, one for each row, or for each column."""
    start, mask = _flags(len(queries), start, mask)
    met = []
    for t in range(len(queries)):
        past = jnp.where(start[t], jnp.zeros_like(state), state if decay is None else decay[t] * state)
        state = jnp.where(mask[t], past + keys[t][:, None] * values[t][None], state)
        met.append(jnp.where(mask[t], state.T @ queries[t], jnp.zeros_like(values[t])))
    return jnp.stack(met), state
