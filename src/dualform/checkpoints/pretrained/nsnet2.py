"""NSNet2: takes the noise out of speech, by a gain for every frequency at every moment."""

import os

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dualform.checkpoints.files import read_arrays
from dualform.checkpoints.pretrained.arrays import built
from dualform.checkpoints.pretrained.audio import RATE, samples_of
from dualform.mixers import GRU
from dualform.models.model import AbstractChain, Stages
from dualform.models.stages import Affine, ReLU

WINDOW, HOP = 320, 160
"""Samples of a frame, and from one to the next: 20 and 10 ms."""

LOWEST_POWER, LOWEST_GAIN = 1e-12, 1e-4

_GRUS = (("192", "193", "194"), ("212", "213", "214"))
_DENSE = (("172", "fc_in.0.bias"), ("215", "fc_out.0.bias"), ("216", "fc_out.2.bias"), ("217", "fc_out.4.bias"))
"""What the file calls the arrays: PyTorch's exporter numbered those that it transposed."""


class NSNet2(AbstractChain):
    """The logit of the gain of each of 161 frequencies: relu layer, 2 GRUs, 2 relu layers, linear layer.

    A token is a frame's log10 power at each frequency; a gain is the sigmoid of its logit.

    **Source:** Braun & Tashev 2020 (arXiv 2008.06412), the baseline of Microsoft's DNS challenge, 20 ms, 16 kHz. Oracle:
    onnxruntime on the package's ONNX file (float32).
    """

    first: Affine
    grus: tuple[GRU, GRU]
    hidden: tuple[Affine, Affine]
    head: Affine

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> "NSNet2":
        """The model whose weights the package's ONNX file holds (nsnet2-20ms-baseline.onnx).

        **Raises:** `FileError`, as of `read_arrays`, or where they are another model's.
        """

        def build(arrays):
            dense = [(arrays[w].T, arrays[b]) for w, b in _DENSE]
            grus = [gru_from_onnx(*(arrays[name][0] for name in names)) for names in _GRUS]
            hidden = Affine(*dense[1]), Affine(*dense[2])
            return cls(Affine(*dense[0]), (grus[0], grus[1]), hidden, Affine(*dense[3]))

        return built(build, read_arrays(path)[0], path)

    @property
    def d_in(self) -> int:
        """Frequencies."""
        return self.first.w.shape[1]

    def stages(self) -> Stages:
        """The chain from the features of each frame to the logits of the gains, (time, 161) -> (time, 161)."""
        with_relu = lambda name, layer: ((name, layer), (f"{name} relu", ReLU(layer.d_out)))
        grus = tuple((f"gru {i + 1}", gru) for i, gru in enumerate(self.grus))
        hidden = (stage for i, layer in enumerate(self.hidden) for stage in with_relu(f"hidden {i + 1}", layer))
        return *with_relu("first", self.first), *grus, *hidden, ("head", self.head)

    def encode(self, source: str | os.PathLike[str] | np.ndarray) -> tuple[Float[Array, "time d_in"], tuple[str, ...]]:
        """The features of a WAV file or of samples at 16 kHz, and when each frame begins.

        **Raises:** as of `samples_of`.
        """
        power = np.abs(spectra(samples_of(source))) ** 2
        x = np.log10(np.maximum(power, LOWEST_POWER)).astype(np.float32)
        return jnp.asarray(x), tuple(f"{i * HOP / RATE:.2f} s" for i in range(len(x)))

    def gains(self, x: Float[Array, "time d_in"]) -> Float[Array, "time d_in"]:
        """How much of each frequency is left at each frame, in [0, 1]."""
        return jax.nn.sigmoid(_outputs(self, x))

    def denoise(self, source: str | os.PathLike[str] | np.ndarray) -> np.ndarray:
        """The sound with the noise taken out, at 16 kHz, as long as it was."""
        samples = samples_of(source)
        gains = np.clip(np.asarray(self.gains(self.encode(samples)[0]), np.float64), LOWEST_GAIN, 1.0)
        return sound(spectra(samples) * gains)[: len(samples)].astype(np.float32)


def _window() -> np.ndarray:
    """The square root of Hann's window: applied twice, before and after, and overlapped by half, it adds up to 1."""
    return np.sqrt(np.hanning(WINDOW))


def spectra(samples: np.ndarray) -> np.ndarray:
    """The spectrum of each frame, (time, 161): windows of 320 samples every 160, zeros after the end."""
    frames = -(-len(samples) // HOP)
    padded = np.pad(samples.astype(np.float64), (0, (frames + 1) * HOP - len(samples)))
    return np.fft.rfft(np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP] * _window())


def sound(spectra: np.ndarray) -> np.ndarray:
    """The samples of spectra, overlapped and added."""
    frames = np.fft.irfft(spectra, WINDOW) * _window()
    samples = np.zeros((len(frames) + 1) * HOP)
    for i, frame in enumerate(frames):
        samples[i * HOP : i * HOP + WINDOW] += frame
    return samples


def gru_from_onnx(w: np.ndarray, r: np.ndarray, b: np.ndarray) -> GRU:
    """One direction of ONNX's GRU with linear_before_reset = 1: its gates are ordered z, r, h, torch's r, z, n.

    **Arguments:** w (3 n, d), r (3 n, n), b (6 n,): the biases of the input, then those of the state.

    **Raises:** `InputError` where they are no such layer.
    """
    order = lambda a: jnp.concatenate([(parts := jnp.split(jnp.asarray(a), 3))[1], parts[0], parts[2]])
    return GRU.from_torch(order(w), order(r), *(order(part) for part in jnp.split(jnp.asarray(b), 2)))


@eqx.filter_jit
def _outputs(model: NSNet2, x: Float[Array, "time d_in"]) -> Float[Array, "time d_in"]:
    """The model's outputs, compiled."""
    return model(x)[0]
