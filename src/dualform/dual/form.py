"""The dual form: what each output takes from each past token, exactly, and the numbers that prove it."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from dualform.arrays import State, accumulator, relative_error
from dualform.compiled import compiled
from dualform.dual.frozen import check_module, freeze, look_at, taken
from dualform.dual.shares import aggregate, shares_residual
from dualform.dual.views import as_html, plot
from dualform.errors import require
from dualform.layer import is_causal
from dualform.maps import AttentionMap, attention_of, present
from dualform.maps.attention_map import OWN_COLUMNS, Over
from dualform.maps.frozen import Kind
from dualform.mixers.mixer import AbstractMixer
from dualform.segments import Segments


class DualForm(eqx.Module):
    """A module's output as a sum over tokens: `contributions.sum(1) + bias == y`.

    - contributions: (time, source, d_out); entry [t, s] is what y_t takes from token s; exactly 0 where s > t, where
      another document begins between them, and where either is absent.
    - bias: (time, d_out), what no token brought (biases, the initial state).
    - weights: (head, time, source), the signed scalar maps: a mixer's own closed form (`q_t . k_s`) where it has one,
      else `aggregate()`.
    - over: what a column of `weights` stands for: "tokens", "convolved tokens" or "values"; see `mixers.mixer.Over`.
    - residual: ||contributions.sum(1) + bias - y|| / ||y||, the certificate; y is what the module's own call gives.
    - map_residual: that of `weights`: a closed form times what it is over, read out, with the bias, against y; of shares, how
      far each row and the bias's share are from a sum of 1.
    - kind: whether the map is the module's own (*linear given its gates*), or one exact decomposition among others
      (*frozen nonlinearity*). The residual proves the sum, not the story.
    - y: (time, d_out), the output itself.
    """

    contributions: Float[Array, "time source d_out"]
    bias: Float[Array, "time d_out"]
    weights: Float[Array, "head time source"]
    residual: Float[Array, ""]
    map_residual: Float[Array, ""]
    y: Float[Array, "time d_out"]
    kind: Kind = eqx.field(static=True)
    over: Over = eqx.field(static=True, default="tokens")

    def aggregate(self, heads: int = 1) -> Float[Array, "head time source"]:
        """From channels to heads: the share of the output that each token brings, signed.

        The channels are cut into `heads` groups in order; in each, entry [t, s] is the projection
        (contributions[t, s] . y_t) / (y_t . y_t), so that a row sums to 1 less the bias's share. 0 where y_t is 0.

        **Raises:** `InputError` where `heads` does not divide d_out.
        """
        return aggregate(self.contributions, self.y, heads)

    def plot(self, tokens: Sequence[str] | None = None, *, heads: int = 4) -> Any:
        """The signed maps as a matplotlib figure: see `views.plot`."""
        return plot([self], tokens, heads=heads)

    @property
    def name(self) -> str:
        """What a picture is headed with."""
        return f"maps over {self.over}"

    @property
    def time(self) -> int:
        """Tokens."""
        return len(self.y)

    def _repr_html_(self) -> str:
        """The maps and the certificate, in a notebook."""
        return as_html([self], self.name, self.kind, float(self.residual), float(self.map_residual))


def dual_form(
    module: Any,
    x: Any,
    state: State | None = None,
    *,
    start: Bool[Array, " time"] | None = None,
    mask: Bool[Array, " time"] | None = None,
    block: int = 32,
) -> DualForm:
    """What each output of `module` takes from each token of `x`.

    Of a mixer the context is frozen, and each token's value passes alone through `mix`, or, where the mixer has a closed form
    over tokens, is read off it. A block or a model is frozen part by part (`dual.freeze`), and each token passes alone; for long
    sequences and wide outputs see `layer_form` and `model_form`, which hold no contributions.

    **Arguments:**

    - module: a mixer, a block, a model, or whatever else `freeze` takes.
    - x: (time, d_in), or a language model's tokens, (time,).
    - state: what an earlier call returned; its part of the output goes to the bias.
    - start, mask: (time,), as in the module's call.
    - block: source tokens worked on at once; memory is about block * time * state.

    **Returns:** a `DualForm`; its arrays take time * time * d_out numbers.

    **Raises:** `InputError` as the module's call does, and for what is no module.

        >>> import jax, jax.random as jr
        >>> import dualform
        >>> mixer = dualform.mixers.GatedRNN.make(4, key=jr.key(0))
        >>> form = dualform.dual_form(mixer, jr.normal(jr.key(1), (6, 4)))
        >>> form.contributions.shape, bool(form.residual < 1e-5)
        ((6, 6, 4), True)
    """
    require(block >= 1, f"block is {block}; it must be at least 1 token.")
    check_module(module)
    return _form(module, look_at(module, x, start, mask), state, start, mask, block)


@compiled
def _form(module: Any, x, state, start, mask, block: int) -> DualForm:
    """All that chooses frozen, and each token alone."""
    y, _, map, kind, rows = freeze(module, x, state, start=start, mask=mask)
    x = taken(module, x, state, start, mask)
    bias, over = map(jnp.zeros_like(x)), "tokens"
    attention = attention_of(map) if isinstance(module, AbstractMixer) else None
    weights = None if attention is None else attention.weights()
    if attention is not None and weights is not None and attention.over in OWN_COLUMNS:
        alone = attention.column_of(weights, x)
    else:
        alone = lambda s: map(jnp.zeros_like(x).at[s].set(x[s])) - bias
    contributions = jax.lax.map(alone, jnp.arange(len(x)), batch_size=min(block, len(x))).swapaxes(0, 1)
    # Exact zeros where rounding against the bias left 1e-17; a module that does take from there fails the residual.
    if is_causal(module):
        seen = Segments(start, mask).visible(len(x))[:, :, None]
        contributions = jnp.where(seen, contributions, jnp.zeros_like(contributions))
    total, y = contributions.sum(1) + bias, y.astype(bias.dtype)
    if attention is None or weights is None:
        weights = aggregate(contributions, y)
        certified = shares_residual(weights, bias, y)
    else:
        over, certified = attention.over, map_residual(attention, weights, x, bias, y, mask)
    residual = relative_error(present(total, rows), present(y, rows))
    return DualForm(contributions, bias, weights, residual, certified, y, kind, over)


def map_residual(attention: AttentionMap, weights, x, bias, y, mask) -> Float[Array, ""]:
    """What a mixer's closed form reads, with what no token brought, against its output: the relative error."""
    carried = attention.carried(x)
    wide = accumulator(weights.dtype, carried.dtype)
    o = jnp.einsum("hts,shw->thw", weights.astype(wide), carried.astype(wide))
    return relative_error(present(attention.read_out(o, x).astype(bias.dtype), mask) + bias, y)
