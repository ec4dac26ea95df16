"""How far a sound is from another one of the same length, frame by frame."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from dualform.errors import require
from dualform.tasks.speech.codec import Codec

COEFFICIENTS = 13
"""Of a cepstrum, the first, which is loudness, left out."""


def mel_cepstral_distortion(
    frames: Float[np.ndarray, "frame band"], others: Float[np.ndarray, "frame band"], coefficients: int = COEFFICIENTS
) -> float:
    """10 / ln 10 * mean_t sqrt(2 sum_{d=1}^{D} (c_td - c'_td)^2), in decibels, of log-mel frames that stand beside each other.

    c is the orthonormal cosine transform of the natural logarithm of a frame's magnitudes, divided by sqrt(bands / 2): the
    Fourier series of the spectrum over mel. Of sounds of other tempo the frames are to be brought together first.

    **Raises:** `InputError` where shapes differ, or there are fewer bands than coefficients.

    **Source:** Kubichek 1993.
    """
    from scipy.fft import dct

    frames, others = np.asarray(frames, np.float64), np.asarray(others, np.float64)
    require(
        frames.shape == others.shape and frames.ndim == 2 and len(frames) >= 1,
        f"frames {frames.shape} and {others.shape} do not stand beside each other; give as many of each.",
    )
    bands = frames.shape[1]
    require(coefficients < bands, f"{bands} bands have no {coefficients} coefficients behind the first.")
    cepstra = np.asarray(dct(frames - others, axis=1, norm="ortho"))[:, 1 : coefficients + 1] * (2 / bands) ** 0.5
    return float(10 / np.log(10) * np.sqrt(2 * (cepstra**2).sum(axis=1)).mean())


def codec_distortions(
    codec: Codec, sounds: Sequence[Float[np.ndarray, " _"]], *, iterations: int = 60
) -> dict[str, Float[np.ndarray, " sound"]]:
    """What a codec makes of sounds: the mel-cepstral distortion of each, and how much of it each part brings.

    **Arguments:** sounds: at the codec's rate; iterations: of Griffin-Lim.

    **Returns:** decibels of each sound: "codes", its frames against those that its codes stand for; "sound", against those of the
    sound that is made of its own frames; "both", against those of the sound that is made of its codes.
    """
    found: dict[str, list[float]] = {"codes": [], "sound": [], "both": []}
    again = lambda frames: codec.mel.frames(codec.mel.sound(frames, iterations=iterations))
    for samples in sounds:
        frames = codec.mel.frames(samples)
        coded = codec.decode(codec.encode(frames))
        for name, other in (("codes", coded), ("sound", again(frames)), ("both", again(coded))):
            found[name].append(mel_cepstral_distortion(frames, other))
    return {name: np.asarray(values) for name, values in found.items()}
