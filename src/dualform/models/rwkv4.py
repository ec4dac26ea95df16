"""RWKV-4, the whole language model."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, Int

from dualform.arrays import State, count_parameters
from dualform.errors import require
from dualform.mixers import RWKV4ChannelMixing, RWKV4TimeMixing
from dualform.models.block import Block, check_blocks, check_call, flag, through
from dualform.models.language_model import checked_tokens, embedded
from dualform.models.norm import LayerNorm
from dualform.models.stages import Affine


class RWKV4(eqx.Module):
    """logits_t = H norm(block_L(... block_1(first_norm(E[token_t])) ...)).

    Blocks come in pairs, time mixing then channel mixing, each x + mixer(norm(x)). It is called, stepped and given its state
    as a `LanguageModel` is; from that it differs by the norm of the embedding.

    **Arguments:** embedding: E, (vocabulary, d); first_norm, norm: layer norms; blocks: each d wide; head: H, (vocabulary, d).

    **Raises:** `InputError` where widths do not fit, or blocks do not come in pairs.

    **Source:** Peng et al. 2023 (arXiv 2305.13048). Oracle: trained weights, with the logits that rwkv.cpp gives for them.
    """

    embedding: Float[Array, "vocabulary d"] = eqx.field(converter=jnp.asarray)
    first_norm: LayerNorm
    blocks: tuple[Block, ...] = eqx.field(converter=tuple)
    norm: LayerNorm
    head: Float[Array, "vocabulary d"] = eqx.field(converter=jnp.asarray)

    def __check_init__(self):
        shape = self.embedding.shape
        require(
            len(shape) == 2 and 0 not in shape,
            f"embedding has shape {shape}; it must be (vocabulary, d), neither of them 0.",
        )
        check_blocks(self.blocks, shape[1], "embedding")
        for i, block in enumerate(self.blocks):
            kind = RWKV4ChannelMixing if i % 2 else RWKV4TimeMixing
            require(
                isinstance(block.mixer, kind) and len(self.blocks) % 2 == 0,
                f"block {i + 1} of {len(self.blocks)} is a {type(block.mixer).__name__}; blocks come in pairs, "
                "RWKV4TimeMixing, then RWKV4ChannelMixing.",
            )
        for name in ("first_norm", "norm"):
            width = getattr(self, name).d
            require(width == shape[1], f"{name} is {width} wide; the embedding gives {shape[1]}.")
        require(self.head.shape == shape, f"head has shape {self.head.shape}; it must be {shape}, as the embedding.")

    @classmethod
    def make(
        cls, vocabulary: int, d: int, layers: int, *, key: Array, hidden: int | None = None, dtype=None
    ) -> "RWKV4":
        """Initialised as published: most matrices 0, so that every layer is the identity at first; a tiny embedding.

        **Arguments:** layers: pairs of blocks; hidden: units of channel mixing, 4 d if not given.
        """
        require(
            vocabulary >= 1 and d >= 1 and layers >= 1,
            f"vocabulary {vocabulary}, d {d} and layers {layers} must each be at least 1.",
        )
        keys, made = jr.split(key, 2 + 2 * layers), []
        for i in range(layers):
            given = {"layer": i, "layers": layers, "zeros": True, "dtype": dtype}
            channel = RWKV4ChannelMixing.make(d, key=keys[2 + 2 * i], hidden=hidden, **given)
            for mixer in (RWKV4TimeMixing.make(d, key=keys[3 + 2 * i], **given), channel):
                made.append(Block(LayerNorm.make(d, dtype=dtype), mixer))
        draw = lambda key, gain: jax.nn.initializers.orthogonal(gain)(key, (vocabulary, d), float).astype(
            dtype or float
        )
        embedding = draw(keys[0], 1e-4 * max(vocabulary, d) ** 0.5)
        head = draw(keys[1], 0.5 * max(vocabulary / d, 1.0) ** 0.5)
        return cls(embedding, LayerNorm.make(d, dtype=dtype), tuple(made), LayerNorm.make(d, dtype=dtype), head)

    @property
    def vocabulary(self) -> int:
        """How many tokens there are; they are numbered from 0."""
        return len(self.embedding)

    def init_state(self) -> State:
        """One state for each block."""
        return tuple(block.init_state() for block in self.blocks)

    def read(
        self,
        tokens: Int[Array, " time"],
        state: State | None = None,
        *,
        start: Bool[Array, " time"] | None = None,
        mask: Bool[Array, " time"] | None = None,
    ) -> tuple[Float[Array, "time d"], State]:
        """What the blocks give for each token, before the final norm, and the state; arguments as of a call."""
        tokens = checked_tokens(tokens, self.vocabulary, mask)
        state = self.init_state() if state is None else state
        check_call(len(tokens), start, mask, self, state, "RWKV4")
        return through(self.blocks, self.first_norm(self.embed(tokens, mask)), state, start, mask)

    def embed(self, tokens: Int[Array, " time"], mask: Bool[Array, " time"] | None = None) -> Float[Array, "time d"]:
        """E[token_t]: what the first of `stages` takes. Tokens are not read where mask is False."""
        return embedded(self.embedding, tokens, mask)

    def stages(self) -> tuple[tuple[str, Any], ...]:
        """The chain from the embedded tokens to the logits, (time, d) -> (time, vocabulary): each stage with its name."""
        blocks = tuple((f"block {i + 1}", block) for i, block in enumerate(self.blocks))
        return (("embedding_norm", self.first_norm), *blocks, ("norm", self.norm), ("head", Affine(self.head)))

    def logits(self, x: Float[Array, "time d"]) -> Float[Array, "time vocabulary"]:
        """What is read of each token as logits, in float32 or wider."""
        return Affine(self.head)(self.norm(x))

    def __call__(
        self,
        tokens: Int[Array, " time"],
        state: State | None = None,
        *,
        start: Bool[Array, " time"] | None = None,
        mask: Bool[Array, " time"] | None = None,
    ) -> tuple[Float[Array, "time vocabulary"], State]:
        """The whole sequence at once.

        **Arguments:** tokens: (time,), from 0 to vocabulary - 1, read only where mask is True; state, start, mask: as of a
        mixer's call, one state for each block.

        **Returns:** the logits of the token after each one, in float32 or wider, 0 where there is no token; and the state
        after the last token. Under `jax.jit` a token out of the vocabulary, which nobody can look at there, gives NaN.

        **Raises:** `InputError` for tokens that are no integers or out of the vocabulary, and as of a mixer's call.
        """
        x, state = self.read(tokens, state, start=start, mask=mask)
        found = self.logits(x)
        return (found if mask is None else jnp.where(mask[:, None], found, jnp.zeros_like(found))), state

    def step(
        self,
        token: Int[Array, ""] | int,
        state: State,
        *,
        start: Bool[Array, ""] | bool | None = None,
        mask: Bool[Array, ""] | bool | None = None,
    ) -> tuple[Float[Array, " vocabulary"], State]:
        """One token, and the logits of the next, in constant memory."""
        found, state = self(jnp.asarray(token)[None], state, start=flag(start), mask=flag(mask))
        return found[0], state

    def parameters(self) -> int:
        """How many numbers it learns."""
        return count_parameters(self)
