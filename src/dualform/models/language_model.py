"""Language models: tokens embedded, residual blocks, a final norm, and logits over the vocabulary."""

from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int

from dualform.arrays import State
from dualform.compiled import compiled
from dualform.described import HOW
from dualform.errors import InputError, require
from dualform.layer import Layer, flag_of, is_causal
from dualform.mixers import HGRN, HGRN2, HGRNComplex, SoftmaxAttention
from dualform.mixers.cache import Cache
from dualform.mixers.declared import optional_array
from dualform.mixers.hgrn import hgrn_lower_bounds
from dualform.models.block import check_blocks
from dualform.models.chain import chain, core_of
from dualform.models.depth import AbstractDeep, Depth
from dualform.models.model import Stages
from dualform.models.norm import LayerNorm, RMSNorm
from dualform.models.stages import Readout
from dualform.token_ids import array_of


class LanguageModel(AbstractDeep):
    """logits_t = H norm(block_L(... block_1(embedding_norm(scale * E[token_t])) ...)), H being E where there is no head.

    **Arguments:** embedding: E, (vocabulary, d); blocks: each d wide; norm: the final one, or None; head: H, (vocabulary, d),
    or None where it is tied to E; bounds: (layers, n), the logits from which the mixers' lower bounds gamma are made anew at
    every call (`mixers.hgrn.hgrn_lower_bounds`; HGRN and HGRN2 alone), or None where each mixer keeps its own; scale: of
    the embedding; softcap: c, where logits are to be c tanh(logits / c), or None; embedding_norm: or None (RWKV-4 has one);
    depth: how the blocks are run, see `with_depth`.

    It is called with tokens by number, (time,), from 0 to vocabulary - 1, read only where mask is True, or with what `embed`
    makes of them, (time, d). It gives the logits of the token after each one, in float32 or wider, 0 where there is no token, and
    one state for each block. Under `jax.jit` a token out of the vocabulary, which nobody can look at there, gives NaN.

    **Raises:** `InputError` where widths do not fit, or a mixer is not causal; when called, for tokens that are no integers or
    out of the vocabulary, for a state behind the context (one call alone reads any number of tokens), and as of a mixer's call.
    """

    embedding: Float[Array, "vocabulary d"] = eqx.field(converter=jnp.asarray)
    blocks: tuple[Any, ...] = eqx.field(converter=tuple)
    norm: RMSNorm | LayerNorm | None = None
    head: Float[Array, "vocabulary d"] | None = eqx.field(default=None, converter=optional_array)
    bounds: Float[Array, "layers n"] | None = eqx.field(default=None, converter=optional_array)
    scale: float = eqx.field(default=1.0, static=True)
    softcap: float | None = eqx.field(default=None, static=True)
    embedding_norm: RMSNorm | LayerNorm | None = None
    depth: Depth = eqx.field(default=Depth(), static=True, metadata={HOW: True}, kw_only=True)
    weight_decayed: ClassVar[tuple[str, ...]] = ("embedding", "head")

    def __check_init__(self):
        shape = self.embedding.shape
        require(
            len(shape) == 2 and 0 not in shape,
            f"embedding has shape {shape}; it must be (vocabulary, d), neither of them 0.",
        )
        check_blocks(self.blocks, shape[1], "embedding")
        for i, block in enumerate(self.blocks):
            require(
                not isinstance(block, Layer) or is_causal(block),
                f"block {i + 1} reads in both directions; a language model must not see the token that it predicts.",
            )
        for name in ("norm", "embedding_norm"):
            norm = getattr(self, name)
            require(
                norm is None or norm.d_in == shape[1],
                f"{name} is {None if norm is None else norm.d_in} wide; the embedding gives {shape[1]}.",
            )
        require(
            self.head is None or self.head.shape == shape,
            f"head has shape {None if self.head is None else self.head.shape}; it must be {shape}, as the embedding.",
        )
        require(self.softcap is None or self.softcap > 0, f"softcap is {self.softcap}; it must be above 0, or None.")
        _check_bounds(self.blocks, self.bounds)

    @classmethod
    def make(
        cls,
        blocks: tuple[Layer, ...],
        vocabulary: int,
        *,
        key: Array,
        norm: RMSNorm | LayerNorm | None = None,
        tied: bool = False,
        dtype=None,
        **options: Any,
    ) -> "LanguageModel":
        """Embedding, and head unless tied, of variance 1 / d; options: bounds, scale, softcap, embedding_norm."""
        require(len(blocks) >= 1, "a model needs at least one block.")
        keys, d = jr.split(key), blocks[0].d_in
        draw = lambda key: jr.normal(key, (vocabulary, d), dtype or float) / d**0.5
        return cls(draw(keys[0]), blocks, norm, None if tied else draw(keys[1]), **options)

    @property
    def vocabulary(self) -> int:
        """How many tokens there are; they are numbered from 0."""
        return len(self.embedding)

    @property
    def d_in(self) -> int:
        """Width of an embedded token."""
        return self.embedding.shape[1]

    @property
    def d_out(self) -> int:
        """How many logits there are."""
        return self.vocabulary

    def given(self, x, state, start, mask):
        """Tokens by number, as an array, in the vocabulary; and no more of them than the context has room for."""
        activations = getattr(x, "ndim", 0) == 2 and jnp.issubdtype(x.dtype, jnp.floating)
        x = x if activations else checked_tokens(x, self.vocabulary, mask)
        check_state_context(self, state, start, mask)
        return x, state, start, mask

    def read(
        self,
        tokens: Int[Array, " time"],
        state: State | None = None,
        *,
        start: Bool[Array, " time"] | None = None,
        mask: Bool[Array, " time"] | None = None,
    ) -> tuple[Float[Array, "time d"], State]:
        """What the blocks give for each token, before the final norm, and the state; arguments as of a call."""
        return self._read(*self.given(tokens, state, start, mask))

    @compiled
    def _read(self, tokens: Any, state: Any, start: Any, mask: Any) -> tuple[Array, State]:
        x, state, segments = self.checked(tokens, state, start, mask)
        x, after = self.through(x, self.split(state), segments)
        return x, self.joined([*after, *[()] * (len(self.stages()) - len(after))])

    def embed(self, tokens: Int[Array, " time"], mask: Bool[Array, " time"] | None = None) -> Float[Array, "time d"]:
        """scale * E[token_t]: what the first of `stages` takes. Tokens are not read where mask is False."""
        x = embedded(self.embedding, tokens, mask)
        return x * jnp.asarray(self.scale, x.dtype)

    def stages(self) -> Stages:
        """The chain from the embedded tokens to the logits, (time, d) -> (time, vocabulary): each stage with its name."""
        blocks = tuple((f"block {i + 1}", block) for i, block in enumerate(_bounded(self.blocks, self.bounds)))
        before = () if self.embedding_norm is None else (("embedding_norm", self.embedding_norm),)
        behind = () if self.norm is None else (("norm", self.norm),)
        return (*before, *blocks, *behind, ("head", self.readout()))

    def readout(self) -> Readout:
        """What gives the logits of what was normed."""
        return Readout(self.embedding if self.head is None else self.head, softcap=self.softcap)

    def logits(self, x: Float[Array, "time d"]) -> Float[Array, "time vocabulary"]:
        """What is read of each token as logits, in float32 or wider."""
        return chain(self.norm, self.readout())(x)[0]

    def step(
        self,
        x_t: Int[Array, ""] | int,
        state: State,
        *,
        start: Bool[Array, ""] | bool | None = None,
        mask: Bool[Array, ""] | bool | None = None,
    ) -> tuple[Float[Array, " vocabulary"], State]:
        """One token, and the logits of the next, in constant memory."""
        given: Any = x_t if isinstance(x_t, Tracer) else np.asarray(x_t)
        one = lambda flag: None if flag is None else flag[None]
        begins, there = flag_of(start), flag_of(mask)
        self.given(given[None], state, one(begins), one(there))
        return super().step(jnp.asarray(given), state, start=begins, mask=there)


def embedded(
    embedding: Float[Array, "vocabulary d"], tokens: Int[Array, " time"], mask: Bool[Array, " time"] | None
) -> Float[Array, "time d"]:
    """E[token_t]; of the first token where there is none, NaN for one out of the vocabulary."""
    tokens = jnp.asarray(tokens)
    tokens = (
        tokens.astype(jnp.int32) if tokens.dtype.itemsize < 4 else tokens
    )  # which may not hold the vocabulary's size
    if mask is not None:
        tokens = jnp.where(mask, tokens, jnp.zeros_like(tokens))
    # A negative number would count from the end: it goes where no token is, too.
    tokens = jnp.where(tokens < 0, jnp.full_like(tokens, len(embedding)), tokens)
    return jnp.take(embedding, tokens, axis=0, mode="fill", fill_value=jnp.nan)


def checked_tokens(tokens: Any, vocabulary: int, mask: Any = None) -> Int[Array, " time"]:
    """The tokens as an array.

    **Raises:** `InputError` unless they are one sequence of integers, each, where mask is not False, in the vocabulary. Seen
    only where the values are known, not under jit.
    """
    tokens = tokens if hasattr(tokens, "dtype") else array_of(tokens)
    require(
        tokens.ndim == 1,
        f"tokens must be one sequence, (time,); got shape {tuple(tokens.shape)}. For a batch use jax.vmap.",
    )
    require(
        jnp.issubdtype(tokens.dtype, jnp.integer),
        f"tokens must be integers; got {tokens.dtype}. Give the numbers of the tokens, from 0 to {vocabulary - 1}.",
    )
    if not isinstance(tokens, Tracer) and not isinstance(mask, Tracer):
        values = np.asarray(tokens)
        there = np.ones(len(values), bool) if mask is None or np.shape(mask) != values.shape else np.asarray(mask, bool)
        wrong = np.flatnonzero(there & ~((values >= 0) & (values < vocabulary)))
        where = wrong[0] if len(wrong) else 0
        require(
            len(wrong) == 0,
            f"token {where} is {values[where] if len(wrong) else 0}; this vocabulary goes from 0 to {vocabulary - 1}. Is the "
            "tokenizer another model's?",
        )
        tokens = tokens if isinstance(tokens, jax.Array) else values.astype(values.dtype.newbyteorder("="), copy=False)
    return jnp.asarray(tokens)


def context_of(model: LanguageModel) -> int | None:
    """How many tokens of a text a model reads, None where there is no end of it."""
    attends = [mixer for mixer in map(core_of, model.blocks) if isinstance(mixer, SoftmaxAttention)]
    return min((mixer.context for mixer in attends if mixer.context is not None), default=None)


def check_context(model: LanguageModel, read: int) -> None:
    """Raise `InputError` where so many tokens of a text, bit by bit, are more than the model's context."""
    limit = context_of(model)
    if limit is not None and read > limit:
        raise InputError(
            f"this model goes on from a state in a context of {limit:,} tokens (max_position_embeddings in a checkpoint's "
            f"config), and {read:,} are to be read. Give a shorter text, or bound its memory: generation.bounded(model, 'tova', "
            "512), --policy tova --states 512."
        )


def check_state_context(model: LanguageModel, state: Any, start: Any, mask: Any) -> None:
    """As `check_context`, for what goes on from a state, unless a document begins at once; seen where values are known.

    A state of fewer places than the model's context is the end of it, too.
    """
    given = (state, start, mask)
    if not isinstance(state, tuple) or any(isinstance(each, Tracer) for each in jax.tree_util.tree_leaves(given)):
        return
    parts = [
        (mixer.context_of(part[0]), part)
        for mixer, part in zip(map(core_of, model.blocks), state, strict=False)
        if isinstance(mixer, SoftmaxAttention) and isinstance(part, tuple) and isinstance(part[0], Cache)
    ]
    bounded = [(limit, part) for limit, part in parts if limit is not None]
    there = np.atleast_1d(True if mask is None else mask)
    anew = np.atleast_1d(False if start is None else start)
    if not bounded or not there.any():
        return
    if np.broadcast_to(anew, np.broadcast_shapes(anew.shape, there.shape))[np.argmax(there)]:
        return
    check_context(model, max(int(place) for _, (_, place) in bounded) + 1)
    for limit, (cache, place) in bounded:
        require(
            int(place) < limit,
            f"this state has places for {cache.places:,} tokens, and goes on from no more; {int(place):,} were read. Give it "
            f"more before they are taken: generation.state_for(model, {2 * cache.places:,}, state).",
        )


def _check_bounds(blocks: tuple[Layer, ...], bounds: Array | None) -> None:
    """Raise unless the bounds, if there are any, are those of these blocks' mixers."""
    if bounds is None:
        return
    for i, mixer in enumerate(map(core_of, blocks)):
        require(
            isinstance(mixer, HGRN | HGRNComplex | HGRN2),
            f"bounds are given, and the mixer of block {i + 1}, a {type(mixer).__name__}, has no lower bound. Leave them out.",
        )
        size = mixer.gamma.size
        require(
            bounds.shape == (len(blocks), size),
            f"bounds have shape {bounds.shape}; they must be (layers, n), here {(len(blocks), size)}.",
        )


def _bounded(blocks: tuple[Layer, ...], bounds: Array | None) -> tuple[Layer, ...]:
    """The blocks with the lower bounds that `bounds` gives, if there are any."""
    if bounds is None:
        return blocks
    gamma = lambda block: core_of(block).gamma
    return tuple(
        eqx.tree_at(gamma, block, row.reshape(gamma(block).shape))
        for block, row in zip(blocks, hgrn_lower_bounds(bounds), strict=True)
    )
