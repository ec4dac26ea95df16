"""Frames of sound as the logarithm of the power in mel bands, and back to sound by Griffin-Lim."""

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from dualform.errors import require

FLOOR = 1e-5
"""The smallest magnitude of a band, of sound in [-1, 1]; silence is its logarithm."""


@dataclass(frozen=True)
class Mel:
    """How sound is cut into frames, and a frame into bands.

    Frame i is centred at sample (i + first) hop, where `first` is below 0, so that the first frames reach over the beginning.

    - rate: samples a second.  window: samples of a frame, under a Hann window.  hop: from one frame to the next.  bands:
      triangles, equally wide in mel from 0 Hz to half the rate.

    **Raises:** `InputError` where a number is out of range, or a band would have no frequency of the window.
    """

    rate: int = 16_000
    window: int = 1024
    hop: int = 256
    bands: int = 80

    def __post_init__(self):
        require(1_000 <= self.rate <= 768_000, f"rate is {self.rate}; give 1,000 to 768,000 samples a second.")
        require(8 <= self.window <= 2**16, f"window is {self.window}; give 8 to 65,536 samples.")
        require(
            1 <= self.hop <= self.window // 2,
            f"hop is {self.hop}; frames of {self.window} samples are sound again where they overlap by half or more.",
        )
        require(1 <= self.bands <= self.window // 2, f"bands is {self.bands}; give 1 to half the window.")
        empty = np.flatnonzero(self.filters.sum(axis=1) == 0)
        require(
            not len(empty),
            f"{self.bands} bands are too many for a window of {self.window}: the lowest hold no frequency.",
        )

    @functools.cached_property
    def filters(self) -> Float[np.ndarray, "band frequency"]:
        """The triangles, 1 at their middle: mel = 2595 log10(1 + f / 700 Hz).

        **Source:** O'Shaughnessy 1987, Speech Communication, for the scale.
        """
        mel = lambda f: 2595 * np.log10(1 + f / 700)
        edges = 700 * (10 ** (np.linspace(0, mel(self.rate / 2), self.bands + 2) / 2595) - 1)
        f = np.linspace(0, self.rate / 2, self.window // 2 + 1)[None]
        left, middle, right = (edges[i : i + self.bands, None] for i in range(3))
        return np.maximum(0, np.minimum((f - left) / (middle - left), (right - f) / (right - middle)))

    @functools.cached_property
    def transform(self) -> Any:
        """scipy's short-time Fourier transform of these frames."""
        from scipy.signal import ShortTimeFFT
        from scipy.signal.windows import hann

        return ShortTimeFFT(hann(self.window, sym=False), self.hop, self.rate)

    def centres(self, frames: int) -> Int[np.ndarray, " frame"]:
        """The sample in the middle of each of so many frames; the first ones are before the sound."""
        return (np.arange(frames) + self.transform.p_min) * self.hop

    def length(self, frames: int) -> int:
        """How many samples so many frames are, the last of them as far as it goes."""
        shortest = self.transform.p_num(self.window)
        require(frames >= shortest, f"there are {frames} frames; sound takes {shortest} or more.")
        return self.window + (frames - shortest) * self.hop

    def frames(self, samples: Float[np.ndarray, " time"]) -> Float[np.ndarray, "frame band"]:
        """The natural logarithm of the mean magnitude in each band, at least that of `FLOOR`.

        **Raises:** `InputError` for sound that is shorter than a window, not finite, or no single channel.
        """
        samples = np.asarray(samples)
        require(samples.ndim == 1, f"sound is one channel, (time,); got shape {samples.shape}.")
        require(
            len(samples) >= self.window, f"the sound has {len(samples)} samples; a frame alone takes {self.window}."
        )
        require(bool(np.isfinite(samples).all()), "the sound has samples that are NaN or infinite.")
        return np.log(np.maximum(self._bands(np.abs(self.transform.stft(samples))), FLOOR)).T

    def sound(
        self, frames: Float[np.ndarray, "frame band"], *, iterations: int = 60, seed: int = 0
    ) -> Float[np.ndarray, " time"]:
        """Sound whose frames are near these: magnitudes of the bands spread over their frequencies, phases by Griffin-Lim.

        Phases are drawn from the seed, then taken from the nearest sound, over and over, each time going on beyond it.

        **Arguments:** frames: as of `frames`; iterations: of two transforms each.

        **Returns:** (time,), with `length(frames)` samples, in [-1, 1] where the frames' sound was.

        **Raises:** `InputError` for frames of another width, too few, or not finite.

        **Source:** Griffin & Lim 1984; Perraudin et al. 2013, for the step beyond (0.99).
        """
        frames = np.asarray(frames, np.float64)
        require(
            frames.ndim == 2 and frames.shape[1] == self.bands,
            f"frames are (frame, {self.bands}) here; got shape {frames.shape}.",
        )
        require(bool(np.isfinite(frames).all()), "a frame has entries that are NaN or infinite.")
        length, magnitude = self.length(len(frames)), self._magnitudes(np.exp(frames).T)
        phase = np.exp(2j * np.pi * np.random.default_rng(seed).random(magnitude.shape))
        before = np.zeros_like(phase)
        for _ in range(iterations):
            found = self.transform.stft(self.transform.istft(magnitude * phase, k1=length))
            ahead = found + 0.99 * (found - before)
            before, phase = found, ahead / np.maximum(np.abs(ahead), 1e-12)
        return self.transform.istft(magnitude * phase, k1=length)

    def _bands(self, magnitude: Float[np.ndarray, "frequency frame"]) -> Float[np.ndarray, "band frame"]:
        """The mean magnitude in each band."""
        return self.filters @ magnitude / self.filters.sum(axis=1, keepdims=True)

    def _magnitudes(self, bands: Float[np.ndarray, "band frame"]) -> Float[np.ndarray, "frequency frame"]:
        """Magnitudes of 0 or more whose bands are near these, by multiplicative updates of the squared error.

        **Source:** Lee & Seung 2001, Eq. 4, with the filters given.
        """
        filters = self.filters / self.filters.sum(axis=1, keepdims=True)
        wanted, product = filters.T @ bands, filters.T @ filters
        found = (self.filters / np.maximum(self.filters.sum(axis=0), 1e-12)).T @ bands
        for _ in range(50):
            found = found * wanted / np.maximum(product @ found, 1e-12)
        return found
