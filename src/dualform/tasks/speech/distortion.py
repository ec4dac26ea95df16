"""How far a sound is from another one, frame by frame."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from dualform.errors import require
from dualform.tasks.speech.codec import Codec

COEFFICIENTS = 13
"""Of a cepstrum, the first, which is loudness, left out."""


def mel_cepstral_distortion(
    frames: Float[np.ndarray, "frame band"],
    others: Float[np.ndarray, "other band"],
    coefficients: int = COEFFICIENTS,
    *,
    warped: bool = False,
) -> float:
    """10 / ln 10 * mean_t sqrt(2 sum_{d=1}^{D} (c_td - c'_td)^2), in decibels, of log-mel frames that stand beside each other.

    c is the orthonormal cosine transform of the natural logarithm of a frame's magnitudes, divided by sqrt(bands / 2): the
    Fourier series of the spectrum over mel.

    **Arguments:** warped: whether the frames are brought together first, as sounds of another tempo have to be: the mean is then
    over the pairs of the path of least sum from the first two to the last two, each a frame on in one of them or in both.

    **Raises:** `InputError` where widths differ, or lengths and they are not to be warped, there is no frame, or there are fewer
    bands than coefficients.

    **Source:** Kubichek 1993; Sakoe & Chiba 1978 for the path.
    """
    from scipy.fft import dct

    frames, others = np.asarray(frames, np.float64), np.asarray(others, np.float64)
    beside = (
        frames.ndim == others.ndim == 2 and frames.shape[1:] == others.shape[1:] and min(len(frames), len(others)) >= 1
    )
    require(
        beside and (warped or len(frames) == len(others)),
        f"frames {frames.shape} and {others.shape} do not stand beside each other; give as many of each, or warp them.",
    )
    bands = frames.shape[1]
    require(coefficients < bands, f"{bands} bands have no {coefficients} coefficients behind the first.")
    cepstra, of_others = (
        np.asarray(dct(a, axis=1, norm="ortho"))[:, 1 : coefficients + 1] * (2 / bands) ** 0.5 for a in (frames, others)
    )
    if warped:
        return float(10 / np.log(10) * 2**0.5 * _along_the_path(cepstra, of_others))
    return float(10 / np.log(10) * np.sqrt(2 * ((cepstra - of_others) ** 2).sum(axis=1)).mean())


def _along_the_path(a: Float[np.ndarray, "frame d"], b: Float[np.ndarray, "other d"]) -> float:
    """The mean distance of the pairs on the path of least sum; where sums are equal, the one that goes on in both."""
    from scipy.spatial.distance import cdist

    distance = cdist(a, b)
    total, pairs = np.full((len(a) + 1, len(b) + 1), np.inf), np.zeros((len(a) + 1, len(b) + 1))
    total[0, 0] = 0
    for ends in range(len(a) + len(b) - 1):  # all pairs (i, j) with i + j = ends at once
        i = np.arange(max(0, ends - len(b) + 1), min(len(a), ends + 1))
        j = ends - i
        before = np.stack([total[i, j], total[i, j + 1], total[i + 1, j]])
        best = before.argmin(axis=0)
        count = np.stack([pairs[i, j], pairs[i, j + 1], pairs[i + 1, j]])
        every = np.arange(len(i))
        total[i + 1, j + 1] = before[best, every] + distance[i, j]
        pairs[i + 1, j + 1] = count[best, every] + 1
    return total[-1, -1] / pairs[-1, -1]


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
