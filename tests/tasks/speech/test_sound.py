"""Sound in files: what is written is read, and what is no sound is refused."""

import sys

import numpy as np
import pytest
import soundfile

from dualform.errors import FileError, InputError
from dualform.tasks.speech import read_sound, resampled, write_sound

TONE = 0.5 * np.sin(2 * np.pi * 440 * np.arange(8000) / 8000)


@pytest.mark.parametrize("end", ["wav", "flac"])
def test_what_is_written_is_read(tmp_path, end):
    """To the 16 bits that are written, at its own rate, clipped at 1."""
    write_sound(tmp_path / f"a.{end}", 4 * TONE, 8000)
    samples, rate = read_sound(tmp_path / f"a.{end}")
    assert rate == 8000 and np.abs(samples - np.clip(4 * TONE, -1, 1)).max() <= 2**-15


def test_another_rate(tmp_path):
    """Resampled, a tone is the same tone, up to the ends."""
    soundfile.write(tmp_path / "a.wav", np.stack([TONE, TONE], axis=1), 8000)
    samples, rate = read_sound(tmp_path / "a.wav", 22_050)
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(len(samples)) / 22_050)
    assert rate == 22_050 and len(samples) == 22_050
    assert np.abs(samples - expected)[500:-500].max() < 2e-3
    np.testing.assert_array_equal(samples, resampled(read_sound(tmp_path / "a.wav")[0], 8000, 22_050))


def test_what_is_no_sound(unchecked, tmp_path):
    """A missing file, one of another kind, cut, empty, silent or not finite: a sentence each, with the file's name."""
    write_sound(tmp_path / "good.wav", TONE, 8000)
    whole = (tmp_path / "good.wav").read_bytes()
    cases = {
        "text": b"hello",
        "empty": b"",
        "header": whole[:20],
        "no_samples": None,
        "silent": None,
        "nan": None,
        "slow": None,
    }
    for name, data in cases.items():
        if data is not None:
            (tmp_path / f"{name}.wav").write_bytes(data)
    soundfile.write(tmp_path / "no_samples.wav", np.zeros(0), 8000)
    soundfile.write(tmp_path / "silent.wav", np.zeros(100), 8000)
    soundfile.write(tmp_path / "nan.wav", np.full(100, np.nan), 8000, subtype="DOUBLE")
    soundfile.write(tmp_path / "slow.wav", TONE, 7)
    said = {"no_samples": "has no samples", "silent": "is silent", "nan": "not finite", "slow": "7 samples a second"}
    for name in cases:
        with pytest.raises(FileError, match=f"{name}.wav.*{said.get(name, '')}"):
            read_sound(tmp_path / f"{name}.wav")
    with pytest.raises(FileError, match="gone.wav"):
        read_sound(tmp_path / "gone.wav")


@pytest.mark.parametrize(
    ("name", "samples", "message"),
    [
        ("a.tune", TONE, "ends in no format of sound; call it .wav, .flac or .ogg"),
        ("a.wav", TONE[:, None], r"sound is one channel, \(time,\); got shape \(8000, 1\)"),
        ("a.wav", np.zeros(0), r"got shape \(0,\)"),
        ("a.wav", np.full(3, np.inf), "samples that are NaN or infinite"),
    ],
)
def test_what_is_not_written(unchecked, tmp_path, name, samples, message):
    """It is refused, and no file is left."""
    with pytest.raises(InputError, match=message):
        write_sound(tmp_path / name, samples, 8000)
    assert not list(tmp_path.iterdir())


def test_without_the_package(unchecked, tmp_path, monkeypatch):
    """It is said what to install."""
    monkeypatch.setitem(sys.modules, "soundfile", None)
    with pytest.raises(InputError, match=r"soundfile, which is not installed: pip install 'dualform\[speech\]'"):
        read_sound(tmp_path / "a.wav")
