"""The models that come with the package, and how each was trained.

    python -m dualform.experiments.embedded_models characters --text FILE [--out FILE]
    python -m dualform.experiments.embedded_models recall [--out FILE]

`checkpoints.load("characters")` and `checkpoints.load("recall")` give what these commands wrote. The first reads a text one
character at a time; the second recalls which value a key was shown with, so that the true source of its answers is known.
"""

import dataclasses
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
import tyro
from jaxtyping import Array, Int
from tyro.conf import OmitSubcommandPrefixes, subcommand

from dualform.checkpoints import save_weights
from dualform.checkpoints.tokens import CharacterTokens, notes
from dualform.errors import FileError, require
from dualform.mixers import GLA, DeltaRule, Mamba, MinGRU
from dualform.models import Block, LanguageModel, RMSNorm
from dualform.tasks.token_recall import KEYS, VALUES, TokenRecall
from dualform.training import FitConfig, cross_entropy, fit
from dualform.training.run import versions

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Characters:
    """A language model of characters: gated linear attention, then Mamba, then a minimal GRU, on the first nine tenths of a text.

    - text: the file; the last tenth of it is held out.  out: where the weights go, float16.
    - d: width.  hidden: of the SwiGLU.  heads: of the gated linear attention.
    - batch, length: of a step's sequences.  unknown: the share of characters read as unknown, so that it is learned, too.
    - fit: the training.  seed: of the fresh weights; the data's is fit.seed.
    """

    text: Path
    out: Path = Path("characters.safetensors")
    d: int = 96
    hidden: int = 112
    heads: int = 4
    batch: int = 32
    length: int = 96
    unknown: float = 0.005
    fit: FitConfig = field(
        default_factory=lambda: FitConfig(
            steps=4000, chunk=250, warmup=200, learning_rate=4e-3, final_learning_rate=1e-5, weight_decay=0.1, b2=0.99
        )
    )
    seed: int = 0


@dataclass(frozen=True)
class Recall:
    """A language model that recalls: two blocks of the delta rule, on `tasks.TokenRecall`.

    - out: where the weights go, float16.  d: width.  heads: of the delta rule.  pairs, batch: the task's.
    - fit: the training.  seed: of the fresh weights; the data's is fit.seed.
    """

    out: Path = Path("recall.safetensors")
    d: int = 32
    heads: int = 1
    pairs: int = 8
    batch: int = 64
    fit: FitConfig = field(
        default_factory=lambda: FitConfig(
            steps=1000, chunk=250, warmup=100, learning_rate=5e-3, final_learning_rate=1e-5, weight_decay=0.1, b2=0.99
        )
    )
    seed: int = 0


class Measured(NamedTuple):
    """A trained model, and what it was measured to do, by name."""

    model: LanguageModel
    record: dict[str, float]


def characters(config: Characters) -> Measured:
    """Train the model of characters.

    **Returns:** the model, rounded to float16, and its loss on held-out text, in nats a character.

    **Raises:** `FileError` where the text cannot be read; `InputError` where it is too short.
    """
    text = read_text(config.text)
    tokens = CharacterTokens("".join(sorted(set(text))))
    ids = tokens.encode(text)
    train, held_out = np.split(ids, [len(ids) * 9 // 10])
    require(
        len(held_out) > config.length,
        f"{str(config.text)!r} has {len(text)} characters; a tenth of it is held out, and must be longer than {config.length}.",
    )
    data = jnp.asarray(train)

    def sample(key: Array) -> tuple[Array, Array]:
        for_place, for_unknown = jr.split(key)
        first = jr.randint(for_place, (config.batch,), 0, len(data) - config.length)
        rows = data[first[:, None] + jnp.arange(config.length + 1)[None]]
        hidden = jr.bernoulli(for_unknown, config.unknown, (config.batch, config.length))
        return jnp.where(hidden, jnp.asarray(tokens.unknown, rows.dtype), rows[:, :-1]), rows[:, 1:]

    fitted = fit(character_model(config, tokens.size), sample, config.fit, loss=cross_entropy, on_chunk=_told())
    model = rounded(fitted.model)
    loss = held_out_loss(model, held_out)
    return Measured(model, {"held_out_loss": loss, "steps": fitted.steps, "seconds": fitted.seconds})


def character_model(config: Characters, vocabulary: int) -> LanguageModel:
    """The fresh model, in float32."""
    keys, d, single = jr.split(jr.key(config.seed), 7), config.d, jnp.float32
    mixers = (
        GLA.make(d, key=keys[0], heads=config.heads, dtype=single),
        Mamba.make(d, key=keys[1], expansion=1, n=8, dtype=single),
        MinGRU.make(d, key=keys[2], dtype=single),
    )
    return _language_model(mixers, vocabulary, config.hidden, keys[3:])


def recall(config: Recall) -> Measured:
    """Train the model that recalls.

    **Returns:** the model, rounded to float16, and the share of 4,096 fresh sequences' questions that it answers.
    """
    task = TokenRecall(config.pairs, config.pairs, config.batch)
    fitted = fit(recall_model(config), task.sample, config.fit, loss=cross_entropy, on_chunk=_told())
    model = rounded(fitted.model)
    tokens, targets = dataclasses.replace(task, batch=4096).sample(jr.key(config.seed + 2**21))
    logits = eqx.filter_jit(jax.vmap(lambda row: widened(model)(row)[0]))(tokens)
    asked = targets >= 0
    right = (jnp.argmax(logits, axis=-1).astype(targets.dtype) == targets) & asked
    accuracy = float(jnp.sum(right) / jnp.sum(asked))
    return Measured(model, {"accuracy": accuracy, "steps": fitted.steps, "seconds": fitted.seconds})


def recall_model(config: Recall) -> LanguageModel:
    """The fresh model, in float32."""
    keys = jr.split(jr.key(config.seed), 6)
    mixers = tuple(DeltaRule.make(config.d, key=key, heads=config.heads, dtype=jnp.float32) for key in keys[:2])
    return _language_model(mixers, len(KEYS + VALUES) + 1, None, keys[2:])


def _language_model(mixers: tuple[Any, ...], vocabulary: int, hidden: int | None, keys: Array) -> LanguageModel:
    """A block around each mixer, with a SwiGLU unless `hidden` is None, RMS norms, a tied head."""
    given: dict[str, Any] = {"dtype": jnp.float32} if hidden is None else {"dtype": jnp.float32, "mlp": "swiglu"}
    blocks = tuple(Block.make(m, key=k, hidden=hidden, **given) for m, k in zip(mixers, keys[1:], strict=False))
    norm = RMSNorm.make(blocks[0].d_in, dtype=jnp.float32)
    return LanguageModel.make(blocks, vocabulary, key=keys[0], norm=norm, tied=True, dtype=jnp.float32)


def held_out_loss(model: LanguageModel, ids: Int[np.ndarray, " time"], length: int = 1024) -> float:
    """The cross-entropy on a text cut into rows of `length`, in nats a token; what is left at its end is not read."""
    length = min(length, len(ids) - 1)
    rows = (len(ids) - 1) // length
    x, y = (ids[a : a + rows * length].reshape(rows, length) for a in (0, 1))
    loss = eqx.filter_jit(cross_entropy)
    wide = widened(model)
    found = [float(loss(wide, jnp.asarray(x[i : i + 1]), jnp.asarray(y[i : i + 1]))) for i in range(rows)]
    return float(np.mean(found))


def rounded(model: LanguageModel) -> LanguageModel:
    """Every real array in float16, as it is stored."""
    return jtu.tree_map(lambda a: a.astype(jnp.float16) if eqx.is_inexact_array(a) else a, model)


def widened(model: LanguageModel) -> LanguageModel:
    """Every real array in float32, as it is run."""
    return jtu.tree_map(lambda a: a.astype(jnp.float32) if eqx.is_inexact_array(a) else a, model)


def read_text(path: Path) -> str:
    """A file's text.

    **Raises:** `FileError` where there is none.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise FileError(f"{str(path)!r} cannot be read: {reason}. Give a text file.") from None


def write(config: Characters | Recall) -> Measured:
    """Train a model and write it, with a record of how, as `checkpoints.load` reads it."""
    if isinstance(config, Characters):
        measured, vocabulary = characters(config), "".join(sorted(set(read_text(config.text))))
    else:
        measured, vocabulary = recall(config), KEYS + VALUES
    plain = {n: getattr(config, n) for n in ("d", "batch", "seed")} | {"fit": dataclasses.asdict(config.fit)}
    if isinstance(config, Characters):
        plain |= {"text": config.text.name, "length": config.length, "unknown": config.unknown}
    else:
        plain |= {"pairs": config.pairs}
    record = {"config": plain, "measured": measured.record, "versions": versions()}
    save_weights(
        config.out,
        measured.model,
        notes(CharacterTokens(vocabulary)) | {"record": json.dumps(record, sort_keys=True)},
    )
    return measured


def _told() -> Callable[[Any], None]:
    """Progress to the log."""
    return lambda p: _LOG.info("step %d of %d: loss %.4f, %.0f s, %.0f s left", *p[:5])


Command: TypeAlias = OmitSubcommandPrefixes[
    Annotated[Characters, subcommand("characters")] | Annotated[Recall, subcommand("recall")]
]


def main(arguments: list[str] | None = None) -> None:
    """Train and write one of them."""
    config = tyro.cli(Command, args=arguments, description=__doc__.splitlines()[0])  # pyright: ignore - a union made at run time
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    measured = write(config)
    _LOG.info("%s: %s", config.out, ", ".join(f"{name} {value:.4g}" for name, value in measured.record.items()))


if __name__ == "__main__":
    main()
