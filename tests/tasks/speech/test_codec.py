"""The codec of speech: frames of sound and back, codes of frames and back, and what it loses."""

import numpy as np
import pytest
import safetensors.numpy

from dualform.errors import FileError, InputError
from dualform.tasks.speech import (
    Codec,
    Mel,
    codec_distortions,
    delayed,
    fit_codec,
    mel_cepstral_distortion,
    resampled,
    undelayed,
)
from tests.tasks.speech.voices import needs_espeak, said

SMALL = Mel(rate=8000, window=128, hop=32, bands=12)


def tone(hertz: float, mel: Mel, time: int = 4000):
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(time) / mel.rate)


@pytest.mark.parametrize("hertz", [300.0, 1000.0, 2600.0])
def test_a_tone_is_in_its_band(hertz):
    """The loudest band of a tone is the one whose middle is nearest in mel; twice the sound is log 2 more in every band."""
    frames, mel = Mel().frames(tone(hertz, Mel())), 2595 * np.log10(1 + hertz / 700)
    middles = np.linspace(0, 2595 * np.log10(1 + 8000 / 700), 82)[1:-1]
    assert abs(middles[frames[5:-5].mean(axis=0).argmax()] - mel) <= middles[1] - middles[0]
    noise = np.random.default_rng(0).normal(size=4000) * 0.1
    np.testing.assert_allclose(Mel().frames(2 * noise), Mel().frames(noise) + np.log(2), rtol=1e-9)


def test_centres_and_lengths():
    """A click in the middle of a frame is loudest there; so many frames are as many samples as have so many frames."""
    click = np.zeros(1000)
    click[SMALL.centres(30)[17]] = 1
    assert SMALL.frames(click).sum(axis=1).argmax() == 17
    for frames in (8, 31):
        length = SMALL.length(frames)
        assert len(SMALL.frames(np.ones(length))) == frames


@pytest.mark.slow
@needs_espeak
def test_sound_of_frames():
    """Speech made of the frames of speech has frames within 2 dB of them, the same for the same seed; noise is further off."""
    mel = Mel()
    speech = resampled(said()[1].samples / 2**15, said()[1].rate, mel.rate)
    frames = mel.frames(speech)
    made = mel.sound(frames, iterations=30)
    assert mel_cepstral_distortion(frames, mel.frames(made)) < 2.0
    np.testing.assert_array_equal(made, mel.sound(frames, iterations=30))
    noise = np.random.default_rng(0).normal(size=len(made)) * made.std()
    assert mel_cepstral_distortion(frames, mel.frames(noise)) > 6.0


def words(seed: int, entries: int, size: float):
    return size * np.random.default_rng(seed).normal(size=(entries, 12))


def test_sums_of_codewords_are_found():
    """Frames that are sums of a coarse and a fine codeword, each of four, are coded by two books of four without a loss."""
    coarse, fine = words(0, 4, 10.0), words(1, 4, 0.1)
    pairs = [(i, j) for i in range(4) for j in range(4)] * 3
    frames = np.stack([coarse[i] + fine[j] for i, j in pairs])
    codec = fit_codec([frames], SMALL, levels=2, entries=4, seed=0)
    codes = codec.encode(frames)
    # The fine codewords are the same around each coarse one, less their mean.
    np.testing.assert_allclose(codec.decode(codes), frames, atol=1e-5)
    assert len({tuple(each) for each in codes}) == 16 and codec.bits_per_second == 2 * 2 * 8000 / 32


def test_each_level_takes_the_nearest_of_what_is_left():
    """Codes are those of a search through all codewords, and more levels leave less."""
    frames = np.random.default_rng(2).normal(size=(200, 12))
    codec = fit_codec([frames[:150], frames[150:]], SMALL, levels=3, entries=8)
    left, errors = (frames - codec.mean) / codec.scale, []
    for level, code in enumerate(codec.encode(frames).T):
        distance = ((left[:, None] - codec.codebooks[level].astype(float)[None]) ** 2).sum(axis=2)
        np.testing.assert_array_equal(code, distance.argmin(axis=1))
        left = left - codec.codebooks[level][code]
        errors.append((left**2).mean())
    assert errors[0] > errors[1] > errors[2]
    np.testing.assert_allclose(codec.decode(codec.encode(frames)), frames - left * codec.scale, atol=1e-6)


def test_fewer_frames_than_codewords():
    """Of three different frames in a book of four none is lost, and the next level has nothing left."""
    frames = np.repeat(words(3, 3, 1.0), 2, axis=0)
    codec = fit_codec([frames], SMALL, levels=2, entries=4)
    np.testing.assert_allclose(codec.decode(codec.encode(frames)), frames, atol=1e-6)


def test_distortion_by_hand():
    """Loudness is not counted; one ripple of a in the logarithm over the bands is 10 / ln 10 sqrt(2) a decibels."""
    frames = np.random.default_rng(4).normal(size=(5, 20))
    assert mel_cepstral_distortion(frames, frames + 3.0) < 1e-12
    ripple = 0.3 * np.cos(np.pi * 4 * (np.arange(20) + 0.5) / 20)
    expected = 10 / np.log(10) * 2**0.5 * 0.3
    np.testing.assert_allclose(mel_cepstral_distortion(frames, frames + ripple), expected, rtol=1e-12)
    assert mel_cepstral_distortion(frames, frames + ripple, 3) < 1e-12


def test_warped_distortion():
    """Another tempo costs nothing; the path is the least of all, by search; a frame late is nearer than beside each other."""
    random = np.random.default_rng(6)
    frames = random.normal(size=(6, 20))
    slow = np.repeat(frames, [1, 3, 2, 1, 1, 4], axis=0)
    assert mel_cepstral_distortion(frames, slow, warped=True) < 1e-12
    others = random.normal(size=(4, 20))
    single = np.array([[mel_cepstral_distortion(a[None], b[None]) for b in others] for a in frames])

    def paths(i, j):
        """Of every path from the first two to these, the distances on it."""
        if i == j == 0:
            return [[single[0, 0]]]
        steps = [(i - 1, j), (i, j - 1), (i - 1, j - 1)]
        return [[*path, single[i, j]] for step in steps if min(step) >= 0 for path in paths(*step)]

    least = min(paths(5, 3), key=sum)
    assert mel_cepstral_distortion(frames, others, warped=True) == pytest.approx(np.mean(least), rel=1e-12)
    late = frames[[0, 0, 1, 2, 3, 4]] + 0.01 * random.normal(size=(6, 20))
    assert mel_cepstral_distortion(frames, late, warped=True) < 0.5 * mel_cepstral_distortion(frames, late)


@pytest.mark.slow
def test_distortions_of_a_codec():
    """Each is that of its definition; a codec whose books hold every frame brings none."""
    mel = Mel(rate=8000, window=256, hop=64, bands=20)
    sound = tone(500.0, mel) + tone(1200.0, mel) * np.linspace(0, 1, 4000)
    frames = mel.frames(sound)
    exact = Codec(mel, frames[None].astype(np.float32), np.zeros(20, np.float32), np.ones(20, np.float32))
    found = codec_distortions(exact, [sound], iterations=5)
    assert found["codes"][0] < 1e-5 and found["both"][0] == pytest.approx(found["sound"][0], abs=1e-3)
    assert found["sound"][0] == mel_cepstral_distortion(frames, mel.frames(mel.sound(frames, iterations=5)))


def test_delay(unchecked):
    """Level l is l steps late; the frames come back, of what is said so far those that are whole."""
    codes = np.array([[1, 2, 3], [4, 5, 6]])
    steps = delayed(codes, 9)
    assert steps.tolist() == [[1, 9, 9], [4, 2, 9], [9, 5, 3], [9, 9, 6]]
    assert undelayed(steps).tolist() == codes.tolist() and undelayed(steps[:3]).tolist() == [[1, 2, 3]]
    assert undelayed(steps[:2]).shape == (0, 3)
    with pytest.raises(InputError, match="the number 6, which is to stand for nothing, is a code"):
        delayed(codes, 6)
    for call in (lambda: delayed(codes / 2, 9), lambda: undelayed(codes[0])):
        with pytest.raises(InputError, match="are whole numbers"):
            call()


@pytest.fixture
def codec():
    frames = np.random.default_rng(5).normal(size=(20, 12))
    return fit_codec([frames], SMALL, levels=2, entries=4)


def test_a_codec_survives_the_disk(unchecked, codec, tmp_path):
    """What is read is what was written, to the bit; a file that is another's, cut, or does not fit is refused by name."""
    place = tmp_path / "codec.safetensors"
    codec.save(place)
    found = Codec.load(place)
    assert found.mel == codec.mel
    for name in ("codebooks", "mean", "scale"):
        np.testing.assert_array_equal(getattr(found, name), getattr(codec, name))
    arrays, whole = safetensors.numpy.load_file(place), place.read_bytes()
    kind = {"kind": "dualform speech codec 1"}
    mel = '{"rate": 8000, "window": 128, "hop": 32, "bands": 12}'
    wrong = [
        (arrays, {}),
        (arrays, kind),
        (arrays, kind | {"mel": "[]"}),
        (arrays, kind | {"mel": mel.replace("12", "13")}),
        (arrays | {"mean": arrays["mean"] * np.float32(np.nan)}, kind | {"mel": mel}),
        (arrays | {"scale": arrays["scale"] * 0}, kind | {"mel": mel}),
        ({name: a.astype(np.float64) for name, a in arrays.items()}, kind | {"mel": mel}),
    ]
    for data in (whole[:50], b"", *(safetensors.numpy.save(*given) for given in wrong)):
        place.write_bytes(data)
        with pytest.raises(FileError, match=r"codec\.safetensors"):
            Codec.load(place)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda c: Mel(hop=600),
            "hop is 600; frames of 1024 samples are sound again where they overlap by half or more",
        ),
        (lambda c: Mel(rate=5), "rate is 5; give 1,000 to 768,000 samples a second"),
        (lambda c: Mel(window=64, hop=16, bands=30), "30 bands are too many for a window of 64"),
        (lambda c: Mel(window=4, hop=1, bands=1), "window is 4; give 8 to 65,536 samples"),
        (lambda c: SMALL.frames(np.zeros(100)), "the sound has 100 samples; a frame alone takes 128"),
        (lambda c: SMALL.frames(np.full(200, np.nan)), "samples that are NaN or infinite"),
        (lambda c: SMALL.frames(np.zeros((200, 2))), r"sound is one channel, \(time,\); got shape \(200, 2\)"),
        (lambda c: SMALL.sound(np.zeros((50, 3))), r"frames are \(frame, 12\) here; got shape \(50, 3\)"),
        (lambda c: SMALL.sound(np.zeros((2, 12))), "there are 2 frames; sound takes"),
        (lambda c: SMALL.sound(np.full((50, 12), np.inf)), "entries that are NaN or infinite"),
        (lambda c: c.encode(np.zeros((5, 3))), r"frames are \(frame, 12\); got shape \(5, 3\)"),
        (lambda c: c.decode(np.zeros((5, 3), int)), r"codes are whole numbers, \(frame, 2\); got shape \(5, 3\)"),
        (lambda c: c.decode(np.full((5, 2), 4)), "a code is outside of 0 to 3"),
        (lambda c: fit_codec([], SMALL, entries=4), "0 frames are too few for codebooks of 4; give more speech"),
        (lambda c: fit_codec([], SMALL, levels=0), "there are 0 levels of 256 entries"),
        (lambda c: mel_cepstral_distortion(np.zeros((3, 20)), np.zeros((4, 20))), "do not stand beside each other"),
        (lambda c: mel_cepstral_distortion(np.zeros((3, 20)), np.zeros((4, 21)), warped=True), "do not stand beside"),
        (lambda c: mel_cepstral_distortion(np.zeros((3, 5)), np.zeros((3, 5))), "5 bands have no 13 coefficients"),
    ],
)
def test_bad_input(unchecked, codec, call, message):
    """Each input that does not fit is named."""
    with pytest.raises(InputError, match=message):
        call(codec)
