"""The lens page as a file: nothing of a text becomes markup, nothing but its own script runs, numbers are the readings'."""

import base64
import hashlib
import html
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dualform.errors import FileError, InputError
from dualform.reports.attention_page import attention_page
from dualform.reports.lens import linked, relative_address
from dualform.reports.lens_page import lens_page, write_lens_page
from tests.reports.lens_views import lens_view
from tests.reports.test_attention_page import embedded, first
from tests.reports.views import HOSTILE, view


def test_hostile_text_is_data():
    """Tokens, words, names and details come back as they were, and none of them adds an element to the page."""
    hostile = lens_view(
        HOSTILE, HOSTILE, title=HOSTILE[0], details={HOSTILE[0]: HOSTILE[1]}, beside=(HOSTILE[1], "./a")
    )
    plain = lens_view("abcdefghijk", HOSTILE, beside=("b", "./a"))
    content, _ = embedded(lens_page(hostile))
    assert tuple(content["tokens"]) == HOSTILE and set(content["words"]) == set(HOSTILE)
    assert content["details"] == [[HOSTILE[0], HOSTILE[1]]] and content["title"] == HOSTILE[0]
    tags = re.compile(r"<(?=[a-zA-Z/!])")
    assert len(tags.findall(lens_page(hostile))) == len(tags.findall(lens_page(plain)))


def test_the_policy_lets_only_the_page_itself_run():
    """The policy names the hashes of the one script and the one style that are there, no 'unsafe', and no network."""
    page = lens_page(lens_view())
    policy = html.unescape(first(r'Content-Security-Policy" content="([^"]*)"', page))
    for directive, element in (("script-src", "script"), ("style-src", "style")):
        texts = re.findall(f"<{element}>(.*?)</{element}>", page, flags=re.S)
        assert len(texts) == 1
        digest = base64.b64encode(hashlib.sha256(texts[0].encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}';" in policy
    assert policy.startswith("default-src 'none';") and "connect-src 'none';" in policy and "unsafe" not in policy
    assert not re.search(r"<[^>]*\s(?:on\w+|style|href|src)=", re.sub(r"<(script|style).*?</\1>", "", page, flags=re.S))
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|https?://", page)


def test_numbers_are_the_readings_own():
    """KL, entropy and probabilities to four digits, each output by its word, what came next beside it."""
    made = lens_view()
    content, _ = embedded(lens_page(made))
    assert content["layers"] == ["embedding", "block 1", "block 2"] and content["outputs"] == 6
    for lens, (name, reading) in zip(content["lenses"], made.readings.items(), strict=True):
        assert lens["name"] == name
        np.testing.assert_allclose(lens["kl"], reading.kl, rtol=5e-4, atol=1e-12)
        np.testing.assert_allclose(lens["entropy"], reading.entropy, rtol=5e-4)
        np.testing.assert_allclose(lens["chance"], np.exp(reading.log_probability), rtol=5e-4)
        words = np.array(content["words"])[np.array(lens["top"])]
        assert (words == np.array([made.words[i] for i in range(6)])[reading.top]).all()
    following = [None if each is None else content["words"][each] for each in content["following"]]
    assert following == [None if each is None else made.words[each] for each in made.following]


def test_pages_link_one_another(tmp_path):
    """By relative addresses, whatever the files are called; a page without another one has no link, and says the command."""
    lens, attention = tmp_path / "a b" / "javascript:x.html", tmp_path / "c" / 'd".html'
    for made, page, other in (
        (lens_page(linked(lens_view(), lens, attention)), lens, attention),
        (attention_page(linked(view(), attention, lens)), attention, lens),
    ):
        address = html.unescape(first(r'<a class="beside" id="beside" href="([^"]*)">', made))
        assert address == relative_address(page, other) and address.startswith("./../")
    assert relative_address(lens, lens) == "./javascript%3Ax.html"
    alone = lens_page(linked(lens_view(), lens, command="dualform attend --text '<b>'"))
    assert 'id="beside"' not in alone
    assert ["attention page", "dualform attend --text '<b>'"] in embedded(alone)[0]["details"]


def test_lone_surrogates_can_be_written(tmp_path):
    """Half of a surrogate pair, which UTF-8 has no bytes for, stops neither a token nor a word nor a title."""
    made = lens_view(("\ud800", "b"), ("\ud800", "b", "c"), title="x\ud800")
    content, _ = embedded(write_lens_page(made, tmp_path / "page.html").read_text("utf-8"))
    assert content["tokens"] == ["\ud800", "b"] and "\ud800" in content["words"]


def broken(**changed):
    """A view with another reading, or another part, in its place."""
    made = lens_view()
    fields = {name: value for name, value in changed.items() if name in made.readings["logit lens"]._fields}
    if fields:
        changed = {"readings": dict(made.readings) | {"logit lens": made.readings["logit lens"]._replace(**fields)}}
    return replace(made, **changed)


NAN = np.where(np.arange(8)[None] == 5, np.nan, np.zeros((3, 1)))
BAD = {
    "no tokens": (lambda: broken(tokens=()), "there are no tokens to show"),
    "no reading": (lambda: broken(readings={}), "there is no reading to show"),
    "following": (lambda: broken(following=(1,)), "there are 8 tokens, and it is said of 1 what came next"),
    "shape": (
        lambda: broken(kl=np.zeros((3, 7))),
        r"the reading of the logit lens is of 3 layers, in shapes \[\(3, 7\)",
    ),
    "layers": (lambda: broken(layers=("a", "b")), "of the tuned lens is of 3 layers|of the logit lens is of 2 layers"),
    "nan": (lambda: broken(kl=NAN), "the KL of the logit lens is not finite at layer 'embedding', token 5"),
    "words": (lambda: broken(words={0: "a"}), "output 1 has no name; give one for each that a reading names"),
}


@pytest.mark.parametrize("case", BAD)
def test_views_that_do_not_fit_together(unchecked, case):
    """What is missing, of another shape, or not finite is named."""
    make, message = BAD[case]
    with pytest.raises(InputError, match=message):
        lens_page(make())


def test_a_page_that_is_too_large_or_cannot_be_written(tmp_path):
    """It is refused with its size, and what is there stays."""
    with pytest.raises(InputError, match="the page would take 0 MB, more than 0.001 MB. Show fewer tokens"):
        lens_page(lens_view(), limit=1000)
    with pytest.raises(FileError, match="is a folder|cannot be written"):
        write_lens_page(lens_view(), tmp_path)
    assert Path(tmp_path).is_dir()
