"""g2p-en: how an English word is pronounced, phoneme by phoneme, and which letters each phoneme comes from."""

import os
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from dualform.arrays import relative_error
from dualform.checkpoints.files import read_arrays
from dualform.checkpoints.pretrained.arrays import built
from dualform.errors import require
from dualform.mixers import GRU
from dualform.models.encoder_decoder import EncoderDecoder
from dualform.models.model import AbstractChain, Stages
from dualform.models.stages import Affine

LETTERS = ("<pad>", "<unk>", "</s>", *"abcdefghijklmnopqrstuvwxyz")
UNKNOWN, END_OF_WORD = LETTERS.index("<unk>"), LETTERS.index("</s>")

_STRESSED = {"AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY", "UH", "UW"}
_OTHERS = ("B", "CH", "D", "DH", "F", "G", "HH", "JH", "K", "L", "M", "N", "NG", "P", "R", "S", "SH", "T", "TH")
_OTHERS += ("UW", "V", "W", "Y", "Z", "ZH")
PHONEMES = (
    "<pad>",
    "<unk>",
    "<s>",
    "</s>",
    *sorted({f"{vowel}{stress}" for vowel in _STRESSED for stress in (0, 1, 2)} | set(_OTHERS)),
)
"""ARPAbet in alphabetical order; a vowel carries its stress: 0 none, 1 primary, 2 secondary."""

BEGIN, END = PHONEMES.index("<s>"), PHONEMES.index("</s>")

MOST = 20
"""Phonemes of a word at the most, as the package has it."""

LONGEST = 64
"""Letters of a word at the most."""


class LetterMap(eqx.Module):
    """The logits of a word's phonemes as sums over its letters: contributions.sum(1) + written.sum(1) + bias == logits.

    - letters: the word's tokens, "</s>" the last; phonemes: those that were written, "</s>" the last unless there were 20.
    - logits: (phoneme, 74), of each possible phoneme at each place.
    - contributions: (phoneme, letter, 74); written: (phoneme, phoneme, 74), of those that were written before and are fed
      back; bias: (phoneme, 74), what neither brought.
    - residual: ||contributions.sum(1) + written.sum(1) + bias - logits|| / ||logits||, the certificate; the logits are those
      of the model's own call.
    """

    letters: tuple[str, ...] = eqx.field(static=True)
    phonemes: tuple[str, ...] = eqx.field(static=True)
    logits: Float[Array, "phoneme 74"]
    contributions: Float[Array, "phoneme letter 74"]
    written: Float[Array, "phoneme phoneme 74"]
    bias: Float[Array, "phoneme 74"]
    residual: Float[Array, ""]

    def to_phonemes(self) -> Float[Array, "phoneme letter"]:
        """What each letter brings to each phoneme's own logit, less what it brings to the mean of all logits."""
        own = jnp.asarray([PHONEMES.index(each) for each in self.phonemes])
        taken = jnp.take_along_axis(self.contributions, own[:, None, None], axis=2)[:, :, 0]
        return taken - jnp.mean(self.contributions, axis=2)


class G2P(AbstractChain):
    """The logits of the next phoneme: a GRU reads the letters, another goes on from its last state and writes phonemes.

    As a chain, a word is one sequence: its letters, "</s>", then "<s>" and the phonemes that are fed back; where a phoneme
    is fed, the output is the logits of the next one.

    **Arguments:** letters (29, d), phonemes (74, d): the embeddings; recurrence; head.

    **Raises:** `InputError` where the shapes do not fit.

    **Source:** the package g2p-en, version 2.1.0 (github.com/Kyubyong/g2p); it looks most words up in a dictionary, and has
    this model for the others. Oracle: the package's own prediction (float32).
    """

    letters: Float[Array, "letter d"] = eqx.field(converter=jnp.asarray)
    phonemes: Float[Array, "phoneme d"] = eqx.field(converter=jnp.asarray)
    recurrence: EncoderDecoder
    head: Affine
    weight_decayed: ClassVar[tuple[str, ...]] = ("letters", "phonemes")
    outputs: ClassVar[tuple[str, ...]] = PHONEMES

    def __check_init__(self):
        d = self.recurrence.encoder.d_in
        shapes = self.letters.shape, self.phonemes.shape, self.head.w.shape
        wanted = (len(LETTERS), d), (len(PHONEMES), d), (len(PHONEMES), self.recurrence.encoder.d_out)
        require(shapes == wanted, f"letters, phonemes and head have shapes {shapes}; they must be {wanted}.")

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> "G2P":
        """The model whose weights the package's npz file holds.

        **Raises:** `FileError`, as of `read_arrays`, or where they are another model's.
        """

        def build(arrays):
            gru = lambda part: GRU.from_torch(
                *(jnp.asarray(arrays[f"{part}_{name}"]) for name in ("w_ih", "w_hh", "b_ih", "b_hh"))
            )
            recurrence = EncoderDecoder(gru("enc"), gru("dec"))
            return cls(arrays["enc_emb"], arrays["dec_emb"], recurrence, Affine(arrays["fc_w"], arrays["fc_b"]))

        return built(build, read_arrays(path)[0], path)

    @property
    def d_in(self) -> int:
        """Width of a token: its embedding, and whether it is written (1) or read (0)."""
        return self.letters.shape[1] + 1

    def stages(self) -> Stages:
        """The chain from embedded letters and phonemes to the logits of the next phoneme, (time, d + 1) -> (time, 74)."""
        return ("encoder and decoder", self.recurrence), ("head", self.head)

    def given(self, x, state, start, mask):
        """As the recurrence looks at it."""
        return self.recurrence.given(x, state, start, mask)

    def ids(self, word: str) -> Int[Array, " letter"]:
        """The numbers of a word's letters, in lower case, and of its end; what is no letter from a to z is unknown.

        **Raises:** `InputError` where there is no letter, or there are more than 64.
        """
        require(isinstance(word, str), f"a word is needed; got {type(word).__name__}.")
        require(
            1 <= len(word) <= LONGEST and not any(map(str.isspace, word)),
            f"{word!r} is no word: one of 1 to {LONGEST} letters is needed, without spaces.",
        )
        known = [LETTERS.index(each) if each in LETTERS else UNKNOWN for each in word.lower()]
        return jnp.asarray([*known, END_OF_WORD], jnp.int32)

    def pronounce(self, word: str) -> tuple[str, ...]:
        """The likeliest phonemes of a word, one after the other, at most 20."""
        ids = self.ids(word)
        padded = -len(ids) % 16  # few lengths, so that few programs are compiled
        found = [int(i) for i in _greedy(self, jnp.pad(ids, (0, padded)), jnp.arange(len(ids) + padded) < len(ids))]
        return tuple(PHONEMES[i] for i in (found[: found.index(END)] if END in found else found))

    def join(self, letters: Int[Array, " letter"], phonemes: Int[Array, " phoneme"]) -> Float[Array, "time d_in"]:
        """What the first stage takes of letters that are read and phonemes that are fed back, by number."""
        parts = (self.letters[letters], 0), (self.phonemes[phonemes], 1)
        marked = [jnp.concatenate([x, jnp.full((len(x), 1), flag, x.dtype)], axis=1) for x, flag in parts]
        return jnp.concatenate(marked)

    def encode(self, source: str) -> tuple[Float[Array, "time d_in"], tuple[str, ...]]:
        """A word's letters and the phonemes that the model itself gives it, embedded, and what they are called."""
        said = self.pronounce(source)[: MOST - 1]
        x = self.join(self.ids(source), jnp.asarray([BEGIN, *map(PHONEMES.index, said)], jnp.int32))
        return x, (*source.lower(), "</s>", "<s>", *said)

    def contributions(self, word: str) -> LetterMap:
        """What each phoneme that the model gives a word takes from each of its letters, exactly.

        Gates and slopes are frozen (`EncoderDecoder`); what is left is affine in the letters and in the phonemes fed back.
        """
        x, tokens = self.encode(word)
        time, n = len(x), len(word) + 1
        x = jnp.pad(x, ((0, -time % 16), (0, 0)))  # few lengths, so that few programs are compiled
        logits, parts, bias, residual = _frozen_parts(self, x, jnp.arange(len(x)) < time)
        said = tuple(PHONEMES[int(i)] for i in jnp.argmax(logits[n:time], axis=1))
        letters, written = parts[n:time, :n], parts[n:time, n:time]
        return LetterMap(tokens[:n], said, logits[n:time], letters, written, bias[n:time], residual)


@eqx.filter_jit
def _greedy(model: G2P, letters: Int[Array, " letter"], mask: Bool[Array, " letter"]) -> Int[Array, "20"]:
    """The likeliest phonemes, each fed back; what follows the end says nothing."""
    _, h = model.recurrence.encoder(model.letters[letters], mask=mask)

    def step(carry, _):
        h, phoneme = carry
        y, h = model.recurrence.decoder.step(model.phonemes[phoneme], h)
        phoneme = jnp.argmax(model.head(y[None])[0][0]).astype(jnp.int32)
        return (h, phoneme), phoneme

    return jax.lax.scan(step, (h, jnp.asarray(BEGIN, jnp.int32)), length=MOST)[1]


@eqx.filter_jit
def _frozen_parts(
    model: G2P, x: Float[Array, "time d_in"], mask: Bool[Array, " time"]
) -> tuple[Array, Array, Array, Array]:
    """The model's own logits, each token's part of them (time, source, 74), the bias, and the residual where phonemes are."""
    recurrence = model.recurrence.frozen(x, mask=mask)
    run = model.head.frozen(recurrence.y, mask=mask).map @ recurrence.map
    bias = run(jnp.zeros_like(x))
    logits = model(x, mask=mask)[0].astype(bias.dtype)
    alone = lambda s: run(jnp.zeros_like(x).at[s].set(x[s])) - bias
    parts = jnp.swapaxes(jax.lax.map(alone, jnp.arange(len(x)), batch_size=16), 0, 1)
    seen = jnp.tril(jnp.ones((len(x), len(x)), bool))  # exact zeros where rounding left 1e-17
    parts = jnp.where(seen[:, :, None], parts, jnp.zeros_like(parts))
    writes = (mask & (x[:, -1] > 0))[:, None]
    shown = lambda a: jnp.where(writes, a, jnp.zeros_like(a))
    return logits, parts, bias, relative_error(shown(parts.sum(1) + bias), shown(logits))
