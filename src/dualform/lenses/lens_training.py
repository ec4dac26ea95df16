"""How a tuned lens is trained: by gradients of the KL to what the model says in the end, the model itself frozen."""

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from dualform.counts import count_of
from dualform.errors import require
from dualform.lenses.lens_layers import LensLayers, hidden_states, lens_layers
from dualform.lenses.readings import divergence, said
from dualform.lenses.tuned_lens import TunedLens
from dualform.training import FitConfig, Fitted, Progress, Run, fit


@dataclass(frozen=True)
class LensConfig:
    """How translators are trained: stochastic gradient descent with Nesterov's momentum, its rate falling to 0 in a line.

    - steps: training steps.  batch, length: windows of each, and tokens of a window.
    - rate: how far a step goes in the end along a gradient that stays, at first; the step itself is (1 - momentum) of it.
    - momentum, weight_decay: of A and b, added to the gradient.  clip: largest norm of the gradient of all layers together.
    - chunk: steps between two looks at the loss.  seed: of the windows.

    By default rate, momentum, decay, clip and steps are as published, and a step is 2,048 tokens, where it was 262,144.

    **Raises:** `InputError` where a number is out of range.

    **Source:** Belrose et al. 2023 (arXiv 2303.08112), Sec. 3, and the defaults of its code (tuned-lens 0.2), which
    Paulo et al. 2024 (arXiv 2404.05971) took over for recurrent models.
    """

    steps: int = 250
    batch: int = 16
    length: int = 128
    rate: float = 1.0
    momentum: float = 0.9
    weight_decay: float = 1e-3
    clip: float = 1.0
    chunk: int = 10
    seed: int = 0

    def __post_init__(self):
        for name in ("steps", "batch", "length", "chunk"):
            count_of(name, getattr(self, name), 1, "give a whole number, at least 1")
        require(0 <= self.momentum < 1, f"momentum is {self.momentum}; it must lie in [0, 1).")
        self.fit_config()  # which looks at the others

    def fit_config(self) -> FitConfig:
        """What the training engine is told."""
        return FitConfig(
            steps=self.steps,
            chunk=self.chunk,
            warmup=0,
            learning_rate=self.rate,
            weight_decay=self.weight_decay,
            clip=self.clip,
            seed=self.seed,
        )

    @property
    def tokens(self) -> int:
        """Tokens that all steps read."""
        return self.steps * self.batch * self.length


class Windows(eqx.Module):
    """A sampler of windows of a text, each behind the tokens that stand before every text.

    **Arguments:** tokens: of the text, (time,); length, batch: tokens of a window, those before a text among them, and windows.
    """

    tokens: Int[Array, " time"]
    begin: Int[Array, " before"]
    length: int = eqx.field(static=True)
    batch: int = eqx.field(static=True)

    def __init__(self, tokens: Any, length: int, batch: int, begin: tuple[int, ...] = ()):
        self.tokens, self.begin = jnp.asarray(tokens, jnp.int32), jnp.asarray(begin, jnp.int32)
        self.length, self.batch = length, batch
        own = length - len(begin)
        require(
            own >= 1,
            f"windows of {length} tokens have no place behind the {len(begin)} that stand before a text. Give longer ones.",
        )
        require(
            len(self.tokens) >= own,
            f"the text to train on has {len(self.tokens):,} tokens, and a window needs {own:,}. Give a longer text, or shorter "
            "windows.",
        )

    def __call__(self, key: Array) -> Int[Array, "batch length"]:
        """Windows from anywhere in the text."""
        own = self.length - len(self.begin)
        places = jr.randint(key, (self.batch,), 0, len(self.tokens) - own + 1)
        rows = jax.vmap(lambda at: jax.lax.dynamic_slice_in_dim(self.tokens, at, own))(places)
        return jnp.concatenate([jnp.broadcast_to(self.begin, (self.batch, len(self.begin))), rows], axis=1)


class _Drawn(eqx.Module):
    """A sampler as `fit` takes it: there is no target, since the model's own answer is one."""

    windows: Callable[[Array], Any]

    def __call__(self, key: Array) -> tuple[Any, tuple[()]]:
        return self.windows(key), ()


class LensLoss(eqx.Module):
    """The sum over layers of the mean KL(final || tuned lens), in nats, of a frozen model; a loss for `fit`.

    The sum, and no mean: no layer's gradient depends on how many layers there are, but for the norm that is clipped.
    """

    model: Any

    def __call__(self, lens: TunedLens, x: Any, y: Any) -> Float[Array, ""]:
        """Of the windows x, (batch, time) of tokens, or (batch, time, d)."""
        del y
        return jnp.sum(layer_losses(jax.lax.stop_gradient(self.model), lens, x))


def layer_losses(model: Any, lens: TunedLens, x: Any) -> Float[Array, " layer"]:
    """Of each layer that is translated, KL(final || tuned lens) in nats, the mean over all tokens of x, (batch, time)."""
    return jnp.mean(token_losses(model, lens, x), axis=(1, 2))


def token_losses(model: Any, lens: TunedLens, x: Any) -> Float[Array, "layer batch time"]:
    """As `layer_losses`, of every token; of one layer after the other, whose logits are made anew for the gradient."""
    layers = lens_layers(model)
    hidden = jax.vmap(lambda x: hidden_states(model, layers, x))(x)  # (batch, layer, time, d)
    final = _said(model, layers, hidden[:, -1])

    @jax.checkpoint
    def one(given):
        h, *translator = given
        return divergence(final, _said(model, layers, h, *translator))

    return jax.lax.map(one, (jnp.moveaxis(hidden[:, :-1], 1, 0), lens.matrices, lens.biases))


def _said(model: Any, layers: LensLayers, h: Float[Array, "batch time d"], *translator: Array):
    """The log-probabilities that the readout gives, (batch, time, outputs)."""
    return jax.vmap(lambda h: said(layers.readout, h, translator, None, None))(h)


@functools.lru_cache(maxsize=64)
def nesterov(config: LensConfig) -> optax.GradientTransformation:
    """The optimiser that a config says: the gradient clipped, the decay added, and a step with Nesterov's momentum.

    The rate is (1 - momentum) times what the config says at the first step, and falls in a line, to 0 behind the last.
    """
    first = config.rate * (1 - config.momentum)
    return optax.chain(
        optax.clip_by_global_norm(config.clip),
        optax.add_decayed_weights(config.weight_decay),
        optax.sgd(optax.linear_schedule(first, 0.0, config.steps), config.momentum, nesterov=True),
    )


def train_lens(
    model: Any,
    windows: Callable[[Array], Any],
    config: LensConfig = LensConfig(),  # noqa: B008 - frozen
    *,
    run: Run | None = None,
    on_chunk: Callable[[Progress], None] | None = None,
) -> Fitted:
    """Train the translators of a model, from the logit lens on, to say what the model says in the end.

    Each step draws windows, lets the frozen model read them, and moves every layer's translator down the gradient of the mean
    KL(final || tuned lens). With a run's folder, training goes on where it was, to the bit (see `training.fit`).

    **Arguments:** windows: key -> (batch, time) of tokens, or (batch, time, d_in) of what the model's first stage takes, pure:
    such as `Windows` of a text; run: a folder; on_chunk: told of progress after each chunk, the loss summed over layers.

    **Returns:** what `training.fit` does, its model a `TunedLens`.

    **Raises:** `InputError` as of `logit_lens`, and where the folder is of another training; `DivergedError` where the loss is no
    longer finite.

        >>> import jax
        >>> from dualform import lenses, mixers, models
        >>> block = models.Block.make(mixers.GLA.make(4, key=jax.random.key(0)), key=jax.random.key(1))
        >>> model = models.LanguageModel.make((block,), 8, key=jax.random.key(2))
        >>> windows = lenses.Windows(jax.numpy.arange(100) % 8, length=16, batch=4)
        >>> fitted = lenses.train_lens(model, windows, lenses.LensConfig(steps=20))
        >>> fitted.history[-1]["loss"] < fitted.history[0]["loss"]
        True
    """
    fresh = TunedLens.make(model)
    given: Any = {"loss": LensLoss(model), "optimiser": nesterov(config), "run": run, "on_chunk": on_chunk}
    return fit(fresh, _Drawn(windows), config.fit_config(), stage="lens", **given)


class LensLosses(eqx.Module):
    """KL(final || lens) of held-out windows, in nats: the mean over the tokens of each.

    - layers: those that are translated.  logit, tuned: (layer, window), of the logit lens and of the tuned one.
    """

    layers: tuple[str, ...] = eqx.field(static=True)
    logit: Float[np.ndarray, "layer window"]
    tuned: Float[np.ndarray, "layer window"]


def lens_losses(
    model: Any, lens: TunedLens, windows: Int[np.ndarray | Array, "window time"], batch: int = 16
) -> LensLosses:
    """How far the tuned lens, and the logit lens, are from what the model says in the end, on windows of one length.

    **Raises:** `InputError` where the lens is of another model.
    """
    lens.check(model)
    found: list[list[np.ndarray]] = [[], []]
    none = dataclasses.replace(lens, matrices=jnp.zeros_like(lens.matrices), biases=jnp.zeros_like(lens.biases))
    for kind, which in zip(found, (none, lens), strict=True):
        for begin in range(0, len(windows), batch):
            kind.append(np.asarray(_window_losses(model, which, jnp.asarray(windows[begin : begin + batch]))))
    logit, tuned = (np.concatenate(kind, axis=1) for kind in found)
    return LensLosses(lens.layers, logit, tuned)


@eqx.filter_jit
def _window_losses(model: Any, lens: TunedLens, x: Array) -> Array:
    return jnp.mean(token_losses(model, lens, x), axis=2)
