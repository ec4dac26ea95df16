"""Sound from a WAV file, as the models of speech take it: one channel, 16,000 samples a second."""

import os
import warnings
from pathlib import Path

import numpy as np

from dualform.errors import FileError, require
from dualform.reading import existing_file, reading

RATE = 16_000
"""Samples a second."""

_SCALE = {"uint8": 2.0**7, "int16": 2.0**15, "int32": 2.0**31, "float32": 1.0, "float64": 1.0}


def samples_of(source: str | os.PathLike[str] | np.ndarray) -> np.ndarray:
    """Sound as float32 in [-1, 1]: of a WAV file, channels averaged and resampled to 16 kHz; an array is taken as it is.

    **Raises:** `FileError` where the file is missing or no WAV file of PCM or floating-point samples; `InputError` where
    there is no sample, or one that is not finite.
    """
    samples = _read(source) if isinstance(source, str | os.PathLike) else np.asarray(source)
    require(
        samples.ndim == 1 and np.issubdtype(samples.dtype, np.floating),
        f"sound must be one channel of floating-point samples in [-1, 1]; got {samples.dtype} of shape {samples.shape}.",
    )
    require(len(samples) >= 1, "there is no sound: it has 0 samples.")
    require(bool(np.isfinite(samples).all()), "the sound has samples that are NaN or infinite.")
    return samples.astype(np.float32)


def _read(path: str | os.PathLike[str]) -> np.ndarray:
    """The samples of a WAV file."""
    from scipy.io import wavfile  # slow to import, and only needed here
    from scipy.signal import resample_poly

    path, where = existing_file(Path(path), "a WAV file")
    with reading(where, "WAV file of PCM samples"), warnings.catch_warnings():
        warnings.simplefilter("ignore", wavfile.WavFileWarning)  # chunks that are no sound
        rate, samples = wavfile.read(path)
    scale = _SCALE.get(str(samples.dtype))
    if scale is None or not 1000 <= rate <= 768_000:
        raise FileError(f"{where} has samples of {samples.dtype} at {rate} Hz. Convert it to 16-bit PCM at 16,000 Hz.")
    samples = (samples.astype(np.float64) - (128 if samples.dtype == np.uint8 else 0)) / scale
    samples = samples.mean(axis=1) if samples.ndim == 2 else samples
    if rate != RATE and len(samples):
        common = np.gcd(rate, RATE)
        samples = resample_poly(samples, RATE // common, rate // common)
    return samples
