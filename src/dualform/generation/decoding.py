"""A bounded model in the form in which one token is done soonest: its weights in few and large pieces."""

from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from dualform.arrays import affine
from dualform.errors import require
from dualform.generation.multi_state import MultiState, MultiStateAttention
from dualform.generation.policy_table import Policy
from dualform.mixers import AbstractMixer, SoftmaxAttention
from dualform.models import LanguageModel
from dualform.models.mlp import GatedMLP, JoinedMLP


def for_decoding(model: LanguageModel) -> LanguageModel:
    """The same model, its states the same, with one product for queries, keys and values and one for gate and up.

    A token's step is many small products, and each of them costs a start and an end. The joined weights are new arrays: let
    the old model go where memory is short. `read_prompt` and all that looks into a bounded model take the model itself; a state
    that it leaves goes on here.

    **Arguments:** model: a bounded one.

    **Raises:** `InputError` for a model that is not bounded.

        >>> import jax
        >>> from dualform import generation, models
        >>> sizes = dict(vocabulary=5, d=8, layers=2, heads=2, kv_heads=1, hidden=8, context=64)
        >>> model = generation.bounded(models.llama(key=jax.random.key(0), **sizes), "tova", 3)
        >>> fast = generation.for_decoding(model)
        >>> bool(jax.numpy.allclose(fast(jax.numpy.arange(5))[0], model(jax.numpy.arange(5))[0], atol=1e-6))
        True
    """
    attends = {i: b.mixer for i, b in enumerate(model.blocks) if isinstance(b.mixer, MultiStateAttention)}
    gated = {i: b.mlp for i, b in enumerate(model.blocks) if isinstance(b.mlp, GatedMLP)}
    require(len(attends) >= 1, "this model is not bounded; make it so first: generation.bounded(model, 'tova', 512).")
    parts = lambda m: [*(m.blocks[i].mixer for i in attends), *(m.blocks[i].mlp for i in gated)]
    joined = [*map(JoinedAttention.of, attends.values()), *map(JoinedMLP.of, gated.values())]
    return eqx.tree_at(parts, model, joined)


class JoinedAttention(AbstractMixer):
    """A `MultiStateAttention` whose queries, keys and values are rows of one matrix: one product for all.

    **Arguments:** w (rows, d): of all heads' queries, then keys, then values; w_o, b_o: as of the attention; b (rows,) or None;
    sizes: heads, key-value heads, d_k, d_v; window, context, rotary, base, policy, states, rerotate: as of what is
    joined.

    **Raises:** `InputError` where the shapes do not fit, and as `MultiStateAttention` does.

    **Source:** as `MultiStateAttention`, to which all but the product is left.
    """

    w: Float[Array, "rows d"]
    w_o: Float[Array, "d_out columns"]
    b_o: Float[Array, " d_out"] | None
    b: Float[Array, " rows"] | None
    sizes: tuple[int, int, int, int] = eqx.field(static=True)
    window: int | None = eqx.field(static=True)
    context: int | None = eqx.field(static=True)
    rotary: int = eqx.field(static=True)
    base: float = eqx.field(static=True)
    policy: Policy = eqx.field(static=True)
    states: int = eqx.field(static=True)
    rerotate: bool = eqx.field(default=False, static=True)
    linear_given_gates: ClassVar[bool] = True
    weight_decayed = ("w", "w_o")

    def __check_init__(self):
        rows = self._ends()[2]
        require(len(self.w) == rows, f"w has {len(self.w)} rows; heads of sizes {self.sizes} have {rows}.")

    @classmethod
    def of(cls, mixer: MultiStateAttention) -> "JoinedAttention":
        """The same map."""
        a = mixer.attention
        flat = lambda w: w.reshape(-1, w.shape[2])
        biases = [(a.b_q, a.w_q), (a.b_k, a.w_k), (a.b_v, a.w_v)]
        zeros = lambda b, w: jnp.zeros(w.shape[0] * w.shape[1], w.dtype) if b is None else b.reshape(-1)
        some = any(b is not None for b, _ in biases)
        return cls(
            jnp.concatenate([flat(a.w_q), flat(a.w_k), flat(a.w_v)]),
            a.w_o,
            a.b_o,
            jnp.concatenate([zeros(b, w) for b, w in biases]) if some else None,
            (len(a.w_q), len(a.w_k), a.w_k.shape[1], a.w_v.shape[1]),
            a.window,
            a.context,
            a.rotary,
            a.base,
            mixer.policy,
            mixer.states,
            mixer.rerotate,
        )

    @property
    def d_in(self) -> int:
        """Width of a token."""
        return self.w.shape[1]

    @property
    def d_out(self) -> int:
        """Width of the output."""
        return len(self.w_o)

    def parted(self) -> MultiStateAttention:
        """What was joined."""
        q, k, v = self._split(self.w.T)
        w = lambda a: jnp.moveaxis(a, 0, 2)
        b = (None,) * 3 if self.b is None else tuple(a[0] for a in self._split(self.b[None]))
        attention = SoftmaxAttention(
            w_q=w(q),
            w_k=w(k),
            w_v=w(v),
            w_o=self.w_o,
            b_o=self.b_o,
            window=self.window,
            context=self.context,
            rotary=self.rotary,
            base=self.base,
            b_q=b[0],
            b_k=b[1],
            b_v=b[2],
        )
        return MultiStateAttention(attention, self.policy, self.states, self.rerotate)

    def init_state(self) -> MultiState:
        """No state yet."""
        return self.parted().init_state()

    def at(self, x, state, segments):
        """One product, then what was joined."""
        return self.parted().at_heads(self._split(affine(x, self.w, self.b)), x, state, segments)

    def _ends(self) -> tuple[int, int, int]:
        """The last rows of queries, of keys and of values."""
        heads, kv_heads, d_k, d_v = self.sizes
        return heads * d_k, (heads + kv_heads) * d_k, (heads + kv_heads) * d_k + kv_heads * d_v

    def _split(self, h: Float[Array, "time rows"]) -> tuple[Array, Array, Array]:
        """Into queries, keys and values, each (time, head, width)."""
        heads, kv_heads, d_k, d_v = self.sizes
        first, second, _ = self._ends()
        part = lambda a, *shape: a.reshape(len(h), *shape)
        return (
            part(h[:, :first], heads, d_k),
            part(h[:, first:second], kv_heads, d_k),
            part(h[:, second:], kv_heads, d_v),
        )
