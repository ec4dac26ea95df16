"""The dual form: what each output takes from each past token, exactly, and the number that proves it."""

from typing import Literal, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, Bool, Float

from dualform.arrays import State, relative_error
from dualform.errors import require
from dualform.mixers.mixer import AbstractMixer, visible

Kind: TypeAlias = Literal["linear given its gates", "frozen nonlinearity"]


class DualForm(eqx.Module):
    """A sequence mixer's output as a sum over tokens: `contributions.sum(1) + bias == y`.

    - contributions: (time, source, d_out); entry [t, s] is what y_t takes from token s; exactly 0 where s > t, where
      another document begins between them, and where either is absent.
    - bias: (time, d_out), what no token brought (biases, the initial state).
    - weights: (head, time, source), the signed scalar maps: the mixer's own closed form (`q_t . k_s`) where it has one,
      else `aggregate()`.
    - residual: ||contributions.sum(1) + bias - y|| / ||y||, the certificate.
    - kind: whether the map is the layer's own (*linear given its gates*), or one exact decomposition among others
      (*frozen nonlinearity*). The residual proves the sum, not the story.
    - y: (time, d_out), the output itself.
    """

    contributions: Float[Array, "time source d_out"]
    bias: Float[Array, "time d_out"]
    weights: Float[Array, "head time source"]
    residual: Float[Array, ""]
    y: Float[Array, "time d_out"]
    kind: Kind = eqx.field(static=True)

    def aggregate(self, heads: int = 1) -> Float[Array, "head time source"]:
        """From channels to heads: the share of the output that each token brings, signed.

        The channels are cut into `heads` groups in order; in each, entry [t, s] is the projection
        (contributions[t, s] . y_t) / (y_t . y_t), so that a row sums to 1 less the bias's share. 0 where y_t is 0.

        **Raises:** `InputError` where `heads` does not divide d_out.
        """
        return aggregate(self.contributions, self.y, heads)


def aggregate(
    contributions: Float[Array, "time source d_out"], y: Float[Array, "time d_out"], heads: int = 1
) -> Float[Array, "head time source"]:
    """See `DualForm.aggregate`."""
    time, source, d_out = contributions.shape
    require(heads >= 1 and d_out % heads == 0, f"{heads} heads do not divide the output width of {d_out}.")
    c = contributions.reshape(time, source, heads, -1)
    y = y.reshape(time, heads, -1)
    power = jnp.sum(y * y, axis=-1).T[:, :, None]
    projected = jnp.einsum("tshd,thd->hts", c, y)
    return jnp.where(
        power == 0, jnp.zeros_like(projected), projected / jnp.where(power == 0, jnp.ones_like(power), power)
    )


def dual_form(
    mixer: AbstractMixer,
    x: Float[Array, "time d_in"],
    state: State | None = None,
    *,
    start: Bool[Array, " time"] | None = None,
    mask: Bool[Array, " time"] | None = None,
    block: int = 32,
) -> DualForm:
    """What each output of `mixer` takes from each token of `x`.

    The context is frozen, and each token's value passes alone through `mix`; this serves every mixer.

    **Arguments:**

    - x: (time, d_in).  state: what an earlier call returned; its part of the output goes to the bias.
    - start, mask: (time,), as in the mixer's call.
    - block: source tokens worked on at once; memory is about block * time * state.

    **Returns:** a `DualForm`; its arrays take time * time * d_out numbers.

    **Raises:** `InputError` as the mixer's call does.

        >>> import jax, jax.random as jr
        >>> import dualform
        >>> mixer = dualform.mixers.GatedRNN.make(4, key=jr.key(0))
        >>> form = dualform.dual_form(mixer, jr.normal(jr.key(1), (6, 4)))
        >>> form.contributions.shape, bool(form.residual < 1e-5)
        ((6, 6, 4), True)
    """
    require(block >= 1, f"block is {block}; it must be at least 1 token.")
    x, state, start, mask = mixer.checked(x, state, start, mask)
    context, value = mixer.context(x, state, start, mask), mixer.value(x)
    present = jnp.ones(len(x), bool) if mask is None else mask

    def run(value):
        y, _ = mixer.mix(context, value, state, start, mask)
        return jnp.where(present[:, None], y, jnp.zeros_like(y))

    def alone(s):
        return run(jtu.tree_map(lambda v: jnp.zeros_like(v).at[s].set(v[s]), value)) - bias

    bias = run(jtu.tree_map(jnp.zeros_like, value))
    contributions = jax.lax.map(alone, jnp.arange(len(x)), batch_size=min(block, len(x))).swapaxes(0, 1)
    # Exact zeros where rounding against the bias left 1e-17; a mixer that does take from there fails the residual.
    contributions = jnp.where(visible(len(x), start, mask)[:, :, None], contributions, jnp.zeros_like(contributions))
    y = mixer(x, state, start=start, mask=mask)[0].astype(bias.dtype)
    weights = mixer.weights(x, state, start, mask)
    return DualForm(
        contributions=contributions,
        bias=bias,
        weights=aggregate(contributions, y) if weights is None else weights,
        residual=relative_error(contributions.sum(1) + bias, y),
        y=y,
        kind="linear given its gates" if mixer.linear_given_gates else "frozen nonlinearity",
    )
