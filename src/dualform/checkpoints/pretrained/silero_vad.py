"""Silero VAD: where in a sound there is speech."""

import os
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, Float

from dualform.arrays import accumulator
from dualform.checkpoints.files import read_arrays
from dualform.checkpoints.pretrained.arrays import built
from dualform.checkpoints.pretrained.audio import RATE, samples_of
from dualform.errors import require
from dualform.maps import Frozen, Pointwise
from dualform.mixers import LSTM, Constant
from dualform.models.model import AbstractChain, Stages
from dualform.models.stages import Affine, ReLU
from dualform.models.tokenwise import AbstractTokenwise

FRAME, BEFORE, AFTER, HOP = 512, 64, 64, 128
"""Samples of a frame; of the frame before that it sees, too; that are mirrored at its end; between two spectra."""

STRIDES = (1, 2, 2, 1)
"""Of the four convolutions."""


class FrameEncoder(AbstractTokenwise):
    """Each frame of samples by itself: four spectra's magnitudes, then four convolutions over them, each with a ReLU.

    Frozen, each frequency keeps its phase (|z| is then Re(z) cos + Im(z) sin), and each ReLU its open set.

    **Arguments:** fourier (2 * frequencies, samples), a `Constant`: real parts of the basis, then imaginary ones; kernels
    (out, in, 3) and biases (out,) of the convolutions.

    **Raises:** `InputError` where they do not follow one another.
    """

    fourier: Constant = eqx.field(converter=Constant.of)
    kernels: tuple[Array, ...]
    biases: tuple[Array, ...]
    weight_decayed: ClassVar[tuple[str, ...]] = ("kernels",)

    def __check_init__(self):
        channels = len(self.fourier) // 2
        for i, (kernel, bias) in enumerate(zip(self.kernels, self.biases, strict=True)):
            require(
                kernel.ndim == 3 and kernel.shape[1:] == (channels, 3) and bias.shape == kernel.shape[:1],
                f"convolution {i + 1} has a kernel of {kernel.shape} and a bias of {bias.shape}; (out, {channels}, 3) and "
                "(out,) are needed.",
            )
            channels = len(kernel)

    @property
    def d_in(self) -> int:
        """Samples of a token."""
        return FRAME + BEFORE

    def at(self, x, state, segments):
        """What is known of each frame; phases and open sets are frozen."""
        y, gates = self._through(x, None)
        return Frozen(y, state, Pointwise(Partial(_with_gates, self, gates)))

    def _through(self, x: Float[Array, "time samples"], gates: Any) -> tuple[Float[Array, "time d"], Any]:
        """The output, and the phases and open sets: those of x where none are given."""
        wide = accumulator(x.dtype, self.fourier.value.dtype)
        x, n = x.astype(wide), self.fourier.shape[1]
        x = jnp.concatenate([x, x[:, -2 : -2 - AFTER : -1]], axis=1)
        windows = jnp.stack([x[:, i : i + n] for i in range(0, x.shape[1] - n + 1, HOP)], axis=1)
        z = jnp.einsum("twn,bn->twb", windows, self.fourier.astype(wide))
        z = jnp.stack(jnp.split(z, 2, axis=2))
        if gates is None:
            power = jnp.sum(z * z, axis=0)
            size = jnp.sqrt(jnp.where(power == 0, jnp.ones_like(power), power))  # finite gradients in silence
            phase, opened = z / size[None], []
        else:
            phase, opened = gates[0], list(gates[1])
        y = jnp.sum(z * phase, axis=0)
        for i, (kernel, bias, stride) in enumerate(zip(self.kernels, self.biases, STRIDES, strict=True)):
            y = jax.lax.conv_general_dilated(
                y, kernel.astype(wide), (stride,), ((1, 1),), dimension_numbers=("NWC", "OIW", "NWC")
            )
            y = y + bias.astype(wide)[None, None]
            if gates is None:
                opened.append(y > 0)
            y = jnp.where(opened[i], y, jnp.zeros_like(y))
        return y.reshape(len(y), -1), (phase, tuple(opened))


def _with_gates(encoder: FrameEncoder, gates: Any, x: Float[Array, "time samples"]) -> Float[Array, "time d"]:
    """The encoder with these phases and open sets, on other frames."""
    return encoder._through(x, gates)[0]


class SileroVAD(AbstractChain):
    """The logit of speech in each frame of 32 ms: w . relu(LSTM(encoder(frame))) + b.

    A token is a frame of 512 samples at 16 kHz with the 64 samples before it.

    **Source:** github.com/snakers4/silero-vad, version 6.2.3. Oracle: the package's own model, run by PyTorch (float32).
    """

    encoder: FrameEncoder
    lstm: LSTM
    head: Affine

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> "SileroVAD":
        """The model whose weights the package's safetensors file holds.

        **Raises:** `FileError`, as of `read_arrays`, or where they are another model's.
        """

        def build(arrays):
            names = [f"conv{i}" for i in range(1, 5)]
            encoder = FrameEncoder(
                arrays["stft_conv.weight"][:, 0],
                tuple(jnp.asarray(arrays[f"{name}.weight"]) for name in names),
                tuple(jnp.asarray(arrays[f"{name}.bias"]) for name in names),
            )
            cell = (
                jnp.asarray(arrays[f"lstm_cell.{part}"]) for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            )
            return cls(
                encoder, LSTM.from_torch(*cell), Affine(arrays["final_conv.weight"][:, :, 0], arrays["final_conv.bias"])
            )

        return built(build, read_arrays(path)[0], path)

    @property
    def d_in(self) -> int:
        """Samples of a token."""
        return FRAME + BEFORE

    def stages(self) -> Stages:
        """The chain from the samples of each frame to the logit of speech, (time, 576) -> (time, 1)."""
        return ("encoder", self.encoder), ("lstm", self.lstm), ("relu", ReLU(self.lstm.d_out)), ("head", self.head)

    def encode(
        self, source: str | os.PathLike[str] | np.ndarray
    ) -> tuple[Float[Array, "time samples"], tuple[str, ...]]:
        """The frames of a WAV file or of samples at 16 kHz, and when each begins.

        **Raises:** as of `samples_of`.
        """
        samples = samples_of(source)
        samples = np.pad(samples, (BEFORE, -len(samples) % FRAME))
        frames = np.lib.stride_tricks.sliding_window_view(samples, FRAME + BEFORE)[::FRAME]
        return jnp.asarray(frames), tuple(f"{i * FRAME / RATE:.2f} s" for i in range(len(frames)))

    def speech(self, source: str | os.PathLike[str] | np.ndarray) -> Float[Array, " time"]:
        """The probability that there is speech in each frame of 32 ms."""
        return jax.nn.sigmoid(_outputs(self, self.encode(source)[0])[:, 0])


@eqx.filter_jit
def _outputs(model: SileroVAD, x: Float[Array, "time samples"]) -> Float[Array, "time 1"]:
    """The model's outputs, compiled."""
    return model(x)[0]
