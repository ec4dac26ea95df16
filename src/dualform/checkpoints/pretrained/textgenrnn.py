"""textgenrnn: a network of characters that writes in the manner of headlines."""

import json
import os
from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from dualform import maps
from dualform.checkpoints.files import read_arrays
from dualform.checkpoints.pretrained.arrays import built
from dualform.errors import FileError, require
from dualform.mixers import LSTM, Aaren, AbstractMixer
from dualform.models.language_model import checked_tokens, embedded
from dualform.models.model import AbstractChain, Stages
from dualform.models.stages import Affine
from dualform.reading import existing_file, guarded, reason

WINDOW, BEGIN, PADDING = 40, "<s>", "<pad>"
"""Characters that the model sees at once; what a text begins and ends with; what stands before a short one."""


class Beside(AbstractMixer):
    """y_t = (x_t, mixer(the last channels of x)_t): a layer whose output is put beside all that was before it.

    **Arguments:** mixer: as wide as what it reads; width: d of x.

    **Raises:** `InputError` where x is narrower than the mixer.
    """

    mixer: AbstractMixer
    width: int = eqx.field(static=True)
    linear_given_gates: ClassVar[bool] = False

    def __check_init__(self):
        require(
            self.width >= self.mixer.d_in,
            f"x is {self.width} wide, and the mixer reads the last {self.mixer.d_in} of it.",
        )

    @property
    def d_in(self) -> int:
        """Width of a token."""
        return self.width

    @property
    def d_out(self) -> int:
        """Width of the output."""
        return self.width + self.mixer.d_out

    def init_state(self):
        """The mixer's."""
        return self.mixer.init_state()

    def at(self, x, state, segments):
        """x, and what the mixer makes of its end."""
        y, after, map, *_ = self.mixer.at(self._read(x), state, segments)
        whole = maps.Beside(maps.Identity(), map @ maps.Pointwise(self._read))
        return maps.Frozen(jnp.concatenate([x.astype(y.dtype), y], axis=1), after, whole)

    def _read(self, x):
        return x[:, self.width - self.mixer.d_in :]


class TextGenRNN(AbstractChain):
    """The logits of the next character: embedding, LSTM, LSTM, softmax-weighted mean over time of all three, linear layer.

    The mean is over the characters so far: of a window it gives, at the last one, what the package gives. A text that is
    shorter than the window has padding before it, which the model was trained to read as any character.
    The package adds 1e-7 to the softmax's denominator, which is at least 1; that is left out here.

    **Arguments:** embedding (vocabulary, d); rnns: the two layers; attention (d,): the score of what stands at a moment; head;
    characters: what each number from 1 on stands for.

    **Source:** github.com/minimaxir/textgenrnn, version 2.0.0; weights in the layout of Keras 2.1.5's CuDNNLSTM. Oracle: the
    same weights in `torch.nn.LSTM` (float64).
    """

    embedding: Float[Array, "vocabulary d"] = eqx.field(converter=jnp.asarray)
    rnns: tuple[LSTM, ...]
    attention: Float[Array, " d"] = eqx.field(converter=jnp.asarray)
    head: Affine
    characters: tuple[str, ...] = eqx.field(static=True)
    weight_decayed: ClassVar[tuple[str, ...]] = ("embedding",)

    def __check_init__(self):
        vocabulary, width = self.embedding.shape
        for i, rnn in enumerate(self.rnns):
            read = self.rnns[i - 1].d_out if i else width
            require(rnn.d_in == read, f"LSTM {i + 1} reads a width of {rnn.d_in}; what is below it gives {read}.")
        width += sum(rnn.d_out for rnn in self.rnns)
        require(
            self.attention.shape == (width,) and self.head.w.shape == (vocabulary, width),
            f"attention {self.attention.shape} and head {self.head.w.shape} must be ({width},) and ({vocabulary}, {width}).",
        )
        require(
            len(self.characters) + 1 == vocabulary,
            f"there are {len(self.characters)} characters for an embedding of {vocabulary} rows; it needs one less than these.",
        )

    @classmethod
    def read(cls, weights: str | os.PathLike[str], vocabulary: str | os.PathLike[str]) -> "TextGenRNN":
        """The model whose weights and vocabulary the package's HDF5 and JSON files hold.

        **Raises:** `FileError`, as of `read_arrays`, or where they are another model's or no vocabulary.
        """
        characters = _characters(vocabulary)

        def build(arrays):
            part = lambda layer, name: arrays[f"{layer}/{layer}/{name}:0"]
            rnns = [
                lstm_from_cudnn(*(part(f"rnn_{i}", name) for name in ("kernel", "recurrent_kernel", "bias")))
                for i in (1, 2)
            ]
            head = Affine(part("output", "kernel").T, part("output", "bias"))
            attention = part("attention", "attention_W")[:, 0]
            return cls(part("embedding", "embeddings"), tuple(rnns), attention, head, characters)

        return built(build, read_arrays(weights)[0], weights)

    @property
    def d_in(self) -> int:
        """Width of a character."""
        return self.embedding.shape[1]

    @property
    def outputs(self) -> tuple[str, ...]:
        """What each logit is of: padding, then the characters."""
        return (PADDING, *self.characters)

    def stages(self) -> Stages:
        """The chain from the embedded characters to the logits of the next, (time, d) -> (time, vocabulary)."""
        layers, width = [], self.d_in
        for i, rnn in enumerate(self.rnns):
            layers.append((f"rnn {i + 1}", Beside(rnn, width)))
            width += rnn.d_out
        everything = jnp.eye(width, dtype=self.attention.dtype)
        query = jnp.ones((1, 1), self.attention.dtype)
        pool = Aaren(query=query, w_k=self.attention[None, None], w_v=everything[None], w_o=everything)
        return *layers, ("attention", pool), ("head", self.head)

    def ids(self, text: str) -> Int[Array, " time"]:
        """The numbers of the last 40 characters of a text and of its beginning; 0 for padding and what is not known."""
        require(isinstance(text, str), f"a text is needed; got {type(text).__name__}.")
        number = {each: i + 1 for i, each in enumerate(self.characters)}
        known = [number.get(each, 0) for each in (BEGIN, *text)][-WINDOW:]
        return jnp.asarray([0] * (WINDOW - len(known)) + known, jnp.int32)

    def given(self, x, state, start, mask):
        """Characters by number, as an array, in the vocabulary."""
        x = x if getattr(x, "ndim", 0) == 2 else checked_tokens(x, len(self.embedding), mask)
        return x, state, start, mask

    def embed(self, tokens: Int[Array, " time"], mask: Bool[Array, " time"] | None = None) -> Float[Array, "time d"]:
        """What the first stage takes of characters by number, which are not read where mask is False."""
        return embedded(self.embedding, checked_tokens(tokens, len(self.embedding), mask), mask)

    def encode(self, source: str) -> tuple[Float[Array, "time d"], tuple[str, ...]]:
        """The embedded window of a text, (40, d), and its characters."""
        shown = (BEGIN, *source)[-WINDOW:]
        return self.embed(self.ids(source)), (*[PADDING] * (WINDOW - len(shown)), *shown)

    def write(self, prompt: str = "", most: int = 60) -> str:
        """The prompt and its likeliest continuation, character by character, to its end or `most` characters more.

        **Raises:** `InputError` where `most` is below 0.
        """
        require(most >= 0, f"most is {most}; it must be 0 or more characters.")
        text = prompt
        for _ in range(most):
            following = int(_following(self, self.ids(text)))
            character = self.characters[following - 1] if following else ""
            if character == BEGIN:
                break
            text += character
        return text


@eqx.filter_jit
def _following(model: TextGenRNN, ids: Int[Array, " time"]) -> Int[Array, ""]:
    """The likeliest character after a window."""
    return jnp.argmax(model(model.embed(ids))[0][-1])


def _characters(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """What each number from 1 on stands for."""
    path, where = existing_file(path, "a vocabulary")
    with guarded(lambda error: FileError(f"{where} cannot be read as a vocabulary: {reason(error)}.")):
        found = json.loads(path.read_text("utf-8"))
    if not isinstance(found, dict) or sorted(map(str, found.values())) != sorted(map(str, range(1, len(found) + 1))):
        raise FileError(f"{where} is no vocabulary: it must give every character a number, from 1 on, each once.")
    return tuple(sorted(found, key=lambda character: found[character]))


def lstm_from_cudnn(kernel: np.ndarray, recurrent: np.ndarray, bias: np.ndarray) -> LSTM:
    """An LSTM from Keras' CuDNNLSTM, which keeps each gate's matrix as cuDNN reads it.

    Gates are ordered i, f, c, o. A gate's (d, n) of the input holds its (n, d) matrix row by row; its (n, n) of the state is
    that matrix; the two biases lie one behind the other.

    **Arguments:** kernel (d, 4 n), recurrent (n, 4 n), bias (8 n,).

    **Raises:** `InputError` where they are no such layer.
    """
    n = len(recurrent)
    require(
        kernel.ndim == recurrent.ndim == 2
        and kernel.shape[1] == recurrent.shape[1] == 4 * n
        and bias.shape == (8 * n,),
        f"kernel {kernel.shape}, recurrent kernel {recurrent.shape} and bias {bias.shape} are no CuDNNLSTM, which has (d, 4 n), "
        "(n, 4 n) and (8 n,).",
    )
    u = [np.ascontiguousarray(gate).reshape(n, -1) for gate in np.split(kernel, 4, axis=1)]
    v = np.split(recurrent, 4, axis=1)
    return LSTM(np.stack(u), np.stack(v), bias.reshape(2, 4, n).sum(0))
