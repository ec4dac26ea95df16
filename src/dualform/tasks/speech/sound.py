"""Sound in files: one channel of any rate, read and written by soundfile, which is an optional dependency."""

import os
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from dualform.errors import FileError, InputError, require
from dualform.reading import existing_file, reading
from dualform.tensor_file import check_writable

LOWEST_RATE, HIGHEST_RATE = 1_000, 768_000
"""Samples a second."""

LONGEST = 3600
"""Seconds of a file that are read."""


def read_sound(path: str | os.PathLike[str], rate: int | None = None) -> tuple[Float[np.ndarray, " time"], int]:
    """The samples of a file of sound, in [-1, 1], its channels averaged, and how many a second there are.

    **Arguments:** path: WAV, FLAC, OGG or any that libsndfile knows; rate: to which it is resampled, in samples a second; its
    own if not given.

    **Raises:** `InputError` without the package soundfile; `FileError` where the file is missing, no sound, empty, silent, longer
    than an hour, or not finite.
    """
    soundfile = _soundfile()
    path, where = existing_file(Path(path), "a file of sound")
    with reading(where, "file of sound"):
        with soundfile.SoundFile(path) as file:
            own = file.samplerate
            samples = file.read(LONGEST * own + 1, dtype="float64", always_2d=True).mean(axis=1)
    if not LOWEST_RATE <= own <= HIGHEST_RATE:
        raise FileError(f"{where} has {own} samples a second; resample it to {LOWEST_RATE:,} to {HIGHEST_RATE:,}.")
    if len(samples) > LONGEST * own:
        raise FileError(f"{where} is longer than an hour; cut it.")
    if not len(samples) or not np.isfinite(samples).all():
        raise FileError(f"{where} has {'samples that are not finite' if len(samples) else 'no samples'}.")
    if not samples.any():
        raise FileError(f"{where} is silent: all of its samples are 0.")
    return (samples, own) if rate is None or rate == own else (resampled(samples, own, rate), rate)


def resampled(samples: Float[np.ndarray, " time"], rate: int, to: int) -> Float[np.ndarray, " resampled"]:
    """The sound at another rate, by a polyphase filter."""
    from scipy.signal import resample_poly

    common = np.gcd(rate, to)
    return resample_poly(samples, to // common, rate // common)


def write_sound(path: str | os.PathLike[str], samples: Float[np.ndarray, " time"], rate: int) -> None:
    """A file of sound in 16 bits, in the format of its name's end; what is beyond [-1, 1] is clipped.

    **Raises:** `InputError` without the package soundfile, for an unknown format, or samples that are not finite or no channel;
    `FileError` where it cannot be written.
    """
    soundfile = _soundfile()
    samples = np.asarray(samples)
    require(samples.ndim == 1 and len(samples) >= 1, f"sound is one channel, (time,); got shape {samples.shape}.")
    require(bool(np.isfinite(samples).all()), "the sound has samples that are NaN or infinite.")
    known = {name.lower() for name in soundfile.available_formats()}
    end = Path(path).suffix.lstrip(".").lower()
    require(end in known, f"{str(path)!r} ends in no format of sound; call it .wav, .flac or .ogg.")
    check_writable(path)
    try:
        soundfile.write(path, np.clip(samples, -1, 1), rate)
    except (soundfile.SoundFileError, OSError, ValueError) as error:
        raise FileError(f"{str(path)!r} cannot be written: {error}.") from None


def _soundfile() -> Any:
    """The package.

    **Raises:** `InputError` where it is not installed.
    """
    try:
        import soundfile
    except (ImportError, OSError):  # OSError: it is there, and libsndfile is not
        raise InputError(
            "sound is read and written by the package soundfile, which is not installed: pip install 'dualform[speech]'."
        ) from None
    return soundfile
