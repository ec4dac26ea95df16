"""Which tokens a bounded model keeps, and how long: read off the states of its own steps."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from dualform.errors import require
from dualform.generation.kinds import KINDS, token_kinds
from dualform.generation.multi_state import MultiStateAttention
from dualform.generation.places import check_places
from dualform.models import LanguageModel
from dualform.models.block import Block
from dualform.models.language_model import checked_tokens


class Survivors(eqx.Module):
    """What is kept after every token of a document: token s after token t where s <= t < dropped[s].

    What is dropped never comes back, so that one number for each token says all.

    - dropped: (layer, kv_head, time), the token after which each one is no longer kept: its own number where it was dropped at
      once, `time` where it is kept in the end.
    - layers: their names, as in `model.stages()`.  states: how many each keeps.
    """

    dropped: Int[Array, "layer kv_head time"]
    layers: tuple[str, ...] = eqx.field(static=True)
    states: tuple[int, ...] = eqx.field(static=True)

    @property
    def time(self) -> int:
        """Tokens."""
        return self.dropped.shape[2]

    def kept(self, t: int = -1) -> Bool[Array, "layer kv_head source"]:
        """What is kept after token t; after the last one if not given.

        **Raises:** `InputError` for a token that there is not.
        """
        require(
            -self.time <= t < self.time, f"there is no token {t}; there are {self.time}, from 0 to {self.time - 1}."
        )
        t = t % self.time
        return (jnp.arange(self.time) <= t)[None, None] & (self.dropped > t)

    def history(self, layer: int) -> Bool[Array, "kv_head time source"]:
        """What one layer, counted from 0, keeps after each token."""
        tokens = jnp.arange(self.time, dtype=jnp.int32)
        t, s = tokens[None, :, None], tokens[None, None]
        return (s <= t) & (t < self.dropped[layer][:, None])

    @property
    def lifetimes(self) -> Int[Array, "layer kv_head time"]:
        """After how many tokens each one was kept, 0 where it was dropped at once; of those that still are, so far."""
        return self.dropped - jnp.arange(self.time, dtype=jnp.int32)[None, None]

    @property
    def share(self) -> Float[Array, " time"]:
        """The share of layers and heads that keep each token in the end."""
        return jnp.mean((self.dropped == self.time).astype(jnp.float32), axis=(0, 1))


def survivors(model: LanguageModel, tokens: Int[Array, " time"] | Int[np.ndarray, " time"]) -> Survivors:
    """Which tokens of a document each layer of a bounded model keeps after each token that it reads.

    Each layer's attention is stepped token by token, and the places in its state are looked at after each; memory grows with
    the number of tokens, not with its square.

    **Arguments:** model: a bounded one; tokens: (time,), read from the beginning.

    **Returns:** a `Survivors`, of the layers that are bounded.

    **Raises:** `InputError` for a model that is not bounded, and as a call of it does.

        >>> import jax
        >>> from dualform import generation, models
        >>> sizes = dict(vocabulary=5, d=8, layers=2, heads=2, kv_heads=1, hidden=8, context=64)
        >>> model = generation.bounded(models.llama(key=jax.random.key(0), **sizes), "window+1", 3)
        >>> found = generation.survivors(model, jax.numpy.arange(5))
        >>> found.layers, found.dropped[0, 0].tolist()
        (('block 1', 'block 2'), [5, 3, 4, 5, 5])
    """
    stages = {name: stage.mixer for name, stage in model.stages() if isinstance(stage, Block)}
    bounded = {name: mixer for name, mixer in stages.items() if isinstance(mixer, MultiStateAttention)}
    require(
        len(bounded) >= 1,
        "this model is not bounded, and drops nothing. Bound it: generation.bounded(model, 'tova', 64).",
    )
    heads = sorted({len(mixer.attention.w_k) for mixer in bounded.values()})
    require(
        len(heads) == 1, f"layers of {heads} key-value heads do not go into one array; look at one model at a time."
    )
    tokens = checked_tokens(tokens, model.vocabulary)
    require(len(tokens) >= 1, "there is no token to read; give at least one.")
    check_places(model, len(tokens))
    x, dropped = model.embed(tokens), []
    for name, stage in model.stages():
        if name in bounded:
            dropped.append(_dropped(stage, x))
        if len(dropped) == len(bounded):
            break
        x = _through(stage, x)
    return Survivors(jnp.stack(dropped), tuple(bounded), tuple(mixer.states for mixer in bounded.values()))


# Layers of the same shapes are one program.
@eqx.filter_jit
def _through(stage: Any, x: Float[Array, "time d"]) -> Float[Array, "time d"]:
    return stage(x)[0]


@eqx.filter_jit
def _dropped(block: Block, x: Float[Array, "time d"]) -> Int[Array, "kv_head time"]:
    """The token after which each one is no longer among the positions of the state, for one layer."""
    mixer, x = block.mixer, x if block.norm is None else block.norm(x)[0]
    assert isinstance(mixer, MultiStateAttention)
    time, heads = len(x), jnp.arange(len(mixer.attention.w_k))[:, None]

    def step(carried, inputs):
        state, dropped = carried
        t, x_t = inputs
        _, state = mixer.step(x_t, state)
        there = jnp.where(state.positions < 0, jnp.full_like(state.positions, time), state.positions)
        return (state, dropped.at[heads, there].set(t + 1, mode="drop")), None

    tokens = jnp.arange(time, dtype=jnp.int32)
    dropped = jnp.broadcast_to(tokens[None], (len(heads), time))
    (_, dropped), _ = jax.lax.scan(step, (mixer.init_state(), dropped), (tokens, x))
    return dropped


class KindKept(NamedTuple):
    """What becomes of the tokens of one kind.

    - kind: see `token_kinds`.  tokens: how many there are.
    - kept: the share of them, over layers and heads, that is kept in the end.
    - later: the share that is kept still after as many more tokens as a layer has states, of those that so many follow; nan
      where there are none. A window keeps none of them: this is what a policy keeps for other reasons than age.
    - life: after how many tokens they were kept, in the mean; of those that still are, so far.
    """

    kind: str
    tokens: int
    kept: float
    later: float
    life: float


def by_kind(found: Survivors, texts: Sequence[str]) -> tuple[KindKept, ...]:
    """What becomes of the tokens of each kind, and, last, of all of them.

    **Arguments:** texts: (time,), what each token says, as `Loaded.decode` gives it.

    **Raises:** `InputError` where there are more or fewer texts than tokens.

    **Source:** after Sec. 5 of Oren et al. 2024 (arXiv 2401.06104), which counts by part of speech.
    """
    require(len(texts) == found.time, f"there are {len(texts)} texts and {found.time} tokens; each token needs one.")
    kinds, lives = np.array(token_kinds(texts)), np.asarray(found.lifetimes)
    states = np.asarray(found.states)[:, None, None]
    kept = np.asarray(found.dropped) == found.time
    late = lives > states
    followed = np.broadcast_to(np.arange(found.time)[None, None] + states < found.time, kept.shape)
    share = lambda a, of: float(a[of].mean()) if of.any() else float("nan")

    def row(kind: str, of: np.ndarray) -> KindKept:
        of = np.broadcast_to(of, kept.shape)
        return KindKept(kind, int(of[0, 0].sum()), share(kept, of), share(late, of & followed), share(lives, of))

    rows = (row(kind, kinds == kind) for kind in KINDS if (kinds == kind).any())
    return (*rows, row("all", np.ones(found.time, bool)))
