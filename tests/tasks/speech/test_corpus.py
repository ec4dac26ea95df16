"""A corpus of speech: parts that share nothing, and a cache that gives what was made."""

from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from dualform.errors import FileError, InputError
from dualform.tasks.speech import corpus_of, part_of
from dualform.tasks.speech.corpus import PARTS
from tests.tasks.speech.voices import needs_espeak

TEXTS = [*map(str, range(60)), "seven", "cot", "caught"]
VOICES, NEW = ["en-us", "en-gb-scotland"], ["en-us+f2"]


def made(folder: Path):
    return corpus_of(TEXTS, voices=VOICES, held_out_voices=NEW, folder=folder)


def test_a_part_is_told_by_what_is_said():
    """One in 16 for validation and for the test, to within four standard deviations, the same at every call."""
    parts = [part_of((str(i), "a")) for i in range(4096)]
    for name in ("validation", "test"):
        assert abs(parts.count(name) - 256) < 4 * (4096 / 16 * 15 / 16) ** 0.5
    assert parts == [part_of((str(i), "a")) for i in range(4096)]


@needs_espeak
def test_parts_share_no_text_and_no_voice(tmp_path):
    """No sequence of phonemes is of two parts but for the test's in new voices, which speak nothing else; no text comes twice."""
    found = made(tmp_path)
    said = {name: {each.said for each in found.part(name)} for name in PARTS}
    assert all(said.values()), {name: len(each) for name, each in said.items()}
    for name, other in (("train", "validation"), ("train", "test"), ("validation", "test"), ("train", "new voices")):
        assert not said[name] & said[other]
    assert {each.voice for each in found.part("new voices")} == set(NEW)
    assert {each.voice for name in PARTS[:3] for each in found.part(name)} == set(VOICES)
    assert {each.text for each in found.part("new voices")} == {each.text for each in found.part("test")}
    assert "7" in [each.text for each in found.utterances] and "seven" not in [each.text for each in found.utterances]
    with pytest.raises(InputError, match="there is no part 'tests'; there are train, validation, test, new voices"):
        found.part("tests")


@needs_espeak
def test_the_cache(unchecked, tmp_path, monkeypatch):
    """A second call speaks nothing and gives the same; a file that is another's, cut or changed is refused by name."""
    first = made(tmp_path)
    with monkeypatch.context() as without:
        without.setattr("dualform.tasks.speech.corpus.spoken", None)
        second = made(tmp_path)
    for a, b in zip(first.utterances, second.utterances, strict=True):
        np.testing.assert_array_equal(a.samples, b.samples)
        assert (a.text, a.voice, a.rate, a.phonemes, *a.starts) == (b.text, b.voice, b.rate, b.phonemes, *b.starts)
    assert first.parts == second.parts
    [place] = tmp_path.iterdir()
    whole = place.read_bytes()
    arrays = safetensors.numpy.load_file(place)
    for bad in (
        whole[:-100],
        b"",
        safetensors.numpy.save(arrays),
        safetensors.numpy.save(arrays, {"utterances": "[]"}),
    ):
        place.write_bytes(bad)
        with pytest.raises(FileError, match=place.name):
            made(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"texts": []}, "there are 0 texts and 1 voices; give one of each"),
        ({"voices": []}, "there are 1 texts and 0 voices"),
        ({"held_out_voices": ["en"]}, "the voices en are held out and not held out"),
    ],
)
def test_bad_corpora(unchecked, tmp_path, options, message):
    """What is no corpus is said before anything is spoken or written."""
    given = {"texts": ["a"], "voices": ["en"], "held_out_voices": []} | options
    with pytest.raises(InputError, match=message):
        corpus_of(given.pop("texts"), **given, folder=tmp_path / "speech")
    assert not list(tmp_path.iterdir())
