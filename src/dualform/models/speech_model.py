"""Speech from text: a text is read in both directions, and a decoder that reads it by position writes the codes of frames."""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int

from dualform.errors import require
from dualform.maps import attention_of
from dualform.mixers import CrossAttention, PositionAwareCrossAttention, registry
from dualform.models.bidirectional import Bidirectional
from dualform.models.mlp import GatedMLP
from dualform.models.model import AbstractModel, Stages
from dualform.models.norm import LayerNorm, RMSNorm
from dualform.models.spoken_layers import Among, Channels, FromText
from dualform.models.stages import Readout
from dualform.segments import Segments


class SpeechModel(AbstractModel):
    """Logits of the next step's codes, of each level by itself, at each frame: decoder(encoder(text), steps so far).

    A sequence is a text, then frames; `join` makes it. A step is a row of codes in the delay pattern (`tasks.speech.delayed`),
    and a frame's token is the sum of its codes' embeddings. The number `entries` stands for no code: the first step has no code
    at all, and where the first level has none again, the speech has ended.

    **Arguments:** phonemes (phoneme, d), codes (level, entry + 1, d): the embeddings; layers: `Among` and `FromText`, in order;
    norm: the final one, or None; head (level * (entry + 1), d).

    **Raises:** `InputError` where widths do not fit, or no layer reads the text; when called, for a text that is empty or longer
    than what a layer reads of it, where that can be seen.

    **Source:** Lemerle et al. 2024 (arXiv 2406.04467) for the parts; sizes, norms and MLPs are of this package.
    """

    phonemes: Float[Array, "phoneme d"] = eqx.field(converter=jnp.asarray)
    codes: Float[Array, "level entry d"] = eqx.field(converter=jnp.asarray)
    layers: tuple[Among | FromText, ...] = eqx.field(converter=tuple)
    norm: RMSNorm | LayerNorm | None
    head: Float[Array, "logits d"] = eqx.field(converter=jnp.asarray)
    weight_decayed: ClassVar[tuple[str, ...]] = ("phonemes", "codes", "head")

    def __check_init__(self):
        require(
            self.phonemes.ndim == 2 and self.codes.ndim == 3, "phonemes are (phoneme, d), codes (level, entry + 1, d)."
        )
        d, (levels, entries, _) = self.phonemes.shape[1], self.codes.shape
        require(
            self.codes.shape[2] == d and self.head.shape == (levels * entries, d) and entries >= 2,
            f"phonemes {self.phonemes.shape}, codes {self.codes.shape} and head {self.head.shape} do not fit together.",
        )
        for i, layer in enumerate(self.layers):
            require(
                layer.d_in == d + 1,
                f"layer {i + 1} takes tokens of width {layer.d_in}; they are {d} and one more wide.",
            )
        require(self.norm is None or self.norm.d_in == d, f"the final norm is not {d} wide.")
        require(any(isinstance(layer, FromText) for layer in self.layers), "no layer reads the text; give a FromText.")

    @classmethod
    def make(
        cls,
        phonemes: int,
        levels: int,
        entries: int,
        *,
        key: Array,
        d: int = 64,
        encoder: int = 1,
        decoder: int = 2,
        mixer: str = "gla",
        recurrence: str | None = "gla",
        heads: int = 1,
        position_width: int = 32,
        window: int = 256,
        dtype=None,
    ) -> "SpeechModel":
        """A fresh model: an encoder of both directions, and decoder blocks of a mixer, a cross-attention and an MLP.

        **Arguments:** phonemes, levels, entries: how many there are; encoder, decoder: how many blocks; mixer: of the registry;
        recurrence: between the two attentions, None for plain cross-attention; heads: of the cross-attention; window: tokens of
        the longest text.

        **Raises:** `InputError` where there is no such mixer, or a number is out of range.
        """
        for name in (mixer, *([] if recurrence is None else [recurrence])):
            require(name in registry(), f"there is no mixer {name!r}; there are {', '.join(registry())}.")
        require(min(phonemes, levels, entries, decoder) >= 1 and encoder >= 0, "sizes of a model are 1 or more.")
        require(heads >= 1 and d % heads == 0, f"{heads} heads do not divide a width of {d}.")
        keys = iter(jr.split(key, 3 + 3 * encoder + 4 * decoder))
        norm = lambda: RMSNorm.make(d, dtype=dtype)
        mixed = lambda: registry()[mixer](d, key=next(keys), dtype=dtype)
        mlp = lambda tokens: Among(norm(), GatedMLP.make(d, key=next(keys), dtype=dtype), tokens)

        def reads() -> FromText:
            kind = CrossAttention if recurrence is None else PositionAwareCrossAttention
            of_weights, of_recurrence = jr.split(next(keys))
            sizes = {"head": heads, "d_k": d // heads, "d_v": d // heads, "d": d + 1, "d_out": d}
            w = kind.matrices(jr.split(of_weights, 4), dtype, **sizes)
            if recurrence is not None:
                w["recurrence"] = registry()[recurrence](heads * position_width, key=of_recurrence, dtype=dtype)
            return FromText(norm(), kind(**w, window=window))

        layers: list[Among | FromText] = []
        for _ in range(encoder):
            layers += [Among(norm(), Bidirectional(mixed(), mixed()), "text"), mlp("text")]
        for _ in range(decoder):
            layers += [Among(norm(), mixed(), "frames"), reads(), mlp("frames")]
        draw = lambda *shape: jr.normal(next(keys), shape, dtype or float) / d**0.5
        of_codes = draw(levels, entries + 1, d)
        return cls(draw(phonemes, d), of_codes, tuple(layers), norm(), draw(levels * (entries + 1), d))

    @property
    def d_in(self) -> int:
        """Width of a token, and whether it is a frame."""
        return self.phonemes.shape[1] + 1

    @property
    def levels(self) -> int:
        """How many codes a step has."""
        return self.codes.shape[0]

    @property
    def entries(self) -> int:
        """How many codewords a level has, and the number that stands for none of them."""
        return self.codes.shape[1] - 1

    @property
    def window(self) -> int:
        """How many tokens a text may have."""
        return min(layer.mixer.window for layer in self.layers if isinstance(layer, FromText))

    def stages(self) -> Stages:
        """The layers, the final norm, and the logits."""
        named = ((f"layer {i + 1}", layer) for i, layer in enumerate(self.layers))
        last = (("channels", Channels(self.d_in)), *(() if self.norm is None else (("norm", self.norm),)))
        return *named, *last, ("head", Readout(self.head))

    def given(self, x, state, start, mask):
        """A text comes first, and is no longer than what is read of it.

        **Raises:** `InputError` where it does not, which is seen where the tokens are known.
        """
        known = not any(isinstance(each, Tracer) for each in (x, start, mask)) and getattr(x, "ndim", 0) == 2
        if known and state is None and x.shape[1] == self.d_in:
            x = jnp.asarray(x)
            here = np.ones(len(x), bool) if mask is None else np.asarray(mask)
            text = here & (np.asarray(x[:, -1]) <= 0)
            document = np.cumsum(np.zeros(len(x)) if start is None else np.asarray(start) & here)
            for number in np.unique(document[here]):
                own = text & (document == number)
                check_text(int(own.sum()), self.window)
        return x, state, start, mask

    def join(self, text: Int[Array, " text"], steps: Int[Array, "step level"]) -> Float[Array, "time d_in"]:
        """A text's phonemes and the steps that were said, the first of no code, as one sequence of tokens.

        **Raises:** `InputError` where the text is empty or too long, steps have other levels; and, where they are known, for
        numbers that are none.
        """
        check_text(len(text), self.window)
        require(
            steps.ndim == 2 and steps.shape[1] == self.levels, f"steps are (step, {self.levels}); got {steps.shape}."
        )
        for name, each, most in (("phoneme", text, len(self.phonemes)), ("code", steps, self.entries + 1)):
            if not isinstance(each, Tracer):
                numbers = np.asarray(each)
                wrong = numbers[(numbers < 0) | (numbers >= most)]
                require(
                    not wrong.size, f"{name} {wrong[0] if wrong.size else 0} is none: they go from 0 to {most - 1}."
                )
        said = jnp.sum(self.codes[jnp.arange(self.levels)[None], jnp.asarray(steps)], axis=1)
        parts = (self.phonemes[jnp.asarray(text)], 0), (said, 1)
        return jnp.concatenate(
            [jnp.concatenate([e, jnp.full((len(e), 1), flag, e.dtype)], axis=1) for e, flag in parts]
        )

    def by_level(self, logits: Float[Array, "time logits"]) -> Float[Array, "time level entry"]:
        """The logits of each level's codes, the last that of none."""
        return logits.reshape(len(logits), self.levels, self.entries + 1)

    def loss(
        self,
        text: Int[Array, " text"],
        steps: Int[Array, "step level"],
        text_mask: Bool[Array, " text"] | None = None,
        step_mask: Bool[Array, " step"] | None = None,
    ) -> Float[Array, ""]:
        """The mean cross-entropy of each step's codes after the text and the steps before it, in nats of a code.

        Behind the last step there is one of no code, the end. Padding is behind the text, and behind the steps.

        **Arguments:** text: phonemes by number; steps: delayed codes; masks: where they are, all where None.
        """
        nothing = jnp.full((1, self.levels), self.entries, steps.dtype)
        here = jnp.ones(len(steps), bool) if step_mask is None else step_mask
        steps = jnp.where(here[:, None], steps, nothing)
        asked = jnp.concatenate([jnp.ones(1, bool), here])
        known = jnp.ones(len(text), bool) if text_mask is None else text_mask
        logits, _ = self(self.join(text, jnp.concatenate([nothing, steps])), mask=jnp.concatenate([known, asked]))
        found = jax.nn.log_softmax(self.by_level(logits[len(text) :]))
        wanted = jnp.concatenate([steps, nothing])
        nats = -jnp.take_along_axis(found, wanted[:, :, None].astype(jnp.int32), axis=2)[:, :, 0]
        nats = jnp.where(asked[:, None], nats, jnp.zeros_like(nats))
        return jnp.sum(nats) / (jnp.sum(asked) * self.levels).astype(nats.dtype)

    def say(self, text: Int[Array, " text"], most: int) -> tuple[Int[np.ndarray, "step level"], bool]:
        """The likeliest codes of each step, one after the other, until the model ends; in memory that does not grow.

        Where a level has no code by the delay pattern, before its first frame and behind its last, it gets none, else one.

        **Arguments:** text: phonemes by number; most: steps at most.

        **Returns:** the steps, as `tasks.speech.undelayed` takes them, and whether the model itself has ended.

        **Raises:** `InputError` as of `join`.
        """
        require(most >= 1, f"most is {most}; give 1 step or more.")
        level, said, frames = np.arange(self.levels), [], most
        y, state = self(self.join(text, jnp.full((1, self.levels), self.entries)))
        logits = y[-1]
        for t in range(most):
            each = np.asarray(self.by_level(logits[None])[0])
            if frames == most and each[0].argmax() == self.entries:
                frames = t
            if t >= frames + self.levels - 1:
                break
            none = (t < level) | (t >= frames + level)
            codes = np.where(none, self.entries, each[:, :-1].argmax(axis=1))
            said.append(codes)
            logits, state = self.step(self._frame(jnp.asarray(codes)), state)
        return np.asarray(said, np.int64).reshape(-1, self.levels), frames < most

    def _frame(self, codes: Int[Array, " level"]) -> Float[Array, " d_in"]:
        """A frame's token."""
        said = jnp.sum(self.codes[jnp.arange(self.levels), codes], axis=0)
        return jnp.append(said, jnp.ones((), said.dtype))

    def alignments(
        self, text: Int[Array, " text"], steps: Int[Array, "step level"]
    ) -> tuple[Float[Array, "head step text"], ...]:
        """Where each step reads the text, by the map of each layer that does, each row of a sum of 1; arguments as of `join`."""
        x, segments, found = self.join(text, steps), Segments(), []
        for layer, state in zip(self.layers, self.split(self.init_state()), strict=False):
            if isinstance(layer, FromText):
                map = attention_of(layer.passes(x, state, segments)[1].map)
                assert map is not None
                found.append(map.weights()[:, len(text) :, : len(text)])
            x = layer.as_part(x, state, segments).y
        return tuple(found)


def check_text(length: int, window: int) -> None:
    """Raise `InputError` for a text of no token, or of more than are read."""
    require(length >= 1, "the text is empty; there is nothing to say.")
    require(
        length <= window, f"the text has {length} tokens, and {window} are read of one. Cut it, or give a wider window."
    )
