"""The gallery's pages are of this version's format, open without a network, and the index says of them what they say."""

import base64
import hashlib
import html
import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from benchmarks.gallery import ENTRIES, content_of, index, maps_of, rendered

from dualform.reports.attention_maps import Encoded, decode
from dualform.reports.attention_page import GENERATOR, summary
from tests.reports.views import view

DOCS = Path(__file__).resolve().parents[2] / "docs"
NAMES = [entry.name for entry in ENTRIES]
LICENCES = ("Apache-2.0", "MIT")
"""Those that allow a model's outputs to be shown."""


@cache
def page(name: str) -> str:
    """One page of the gallery."""
    return (DOCS / "gallery" / f"{name}.html").read_text("utf-8")


def test_the_index_is_that_of_the_pages():
    """Every number of the index is the page's, and there is no page that the index does not have, or that it has alone."""
    assert (DOCS / "gallery.md").read_text("utf-8") == index(DOCS / "gallery")
    assert sorted(path.name for path in (DOCS / "gallery").iterdir()) == sorted(f"{name}.html" for name in NAMES)


def test_the_gallery_is_small():
    """All pages together are under about 2 MB."""
    assert sum(path.stat().st_size for path in (DOCS / "gallery").iterdir()) < 2.1e6


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_licences_allow_it(entry):
    """The licence of the weights is named and allows their outputs to be shown; the text is in the public domain, or a word."""
    assert any(licence in entry.weights for licence in LICENCES) and "NC" not in entry.weights
    assert "public domain" in entry.text or " " not in entry.arguments[entry.arguments.index("--text") + 1]


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_a_page_is_of_its_command(entry):
    """The page's tokens are those of the text in the command, and its model's name and policy are the command's."""
    content, given = content_of(page(entry.name)), entry.arguments
    assert "".join(content["tokens"]).startswith(given[given.index("--text") + 1])
    assert content["title"] == f"What {given[given.index('--model') + 1].removesuffix('.bin')} attends to"
    assert (content["kept"] is not None) == ("--policy" in given)
    if content["kept"] is not None:
        policy, states = (given[given.index(option) + 1] for option in ("--policy", "--states"))
        assert content["kept"]["policy"] == f"{policy}, {states} states"


@pytest.mark.parametrize("name", NAMES)
def test_a_page_is_of_this_format(name):
    """A page says of itself what this version's says, and lets its own script run; only the script's text may be an older one.

    If not: `python -m benchmarks.gallery --write docs/gallery --index` gives the pages this version's script.
    """
    new, keys = rendered(page(name)), summary(view(), True) | {"precision": "", "scales": [], "error": 0.0}
    meta = f'<meta name="generator" content="{GENERATOR}">'
    assert meta in page(name) and meta in new and content_of(page(name)).keys() == keys.keys()
    assert content_of(new) == content_of(page(name)) and maps_of(new) == maps_of(page(name))
    (script,) = re.findall(r"<script>(.*?)</script>", page(name), flags=re.S)
    assert base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() in html.unescape(page(name))


@pytest.mark.parametrize("name", NAMES)
def test_a_page_needs_no_network(name):
    """The policy lets nothing be fetched, and nothing in the page has an address outside of it."""
    assert "default-src &#39;none&#39;" in page(name) or "default-src 'none'" in page(name)
    assert re.search(r"connect-src (?:&#39;|')none", page(name))
    assert not re.search(r"https?://|<link|<img|<iframe|@import", page(name))


@pytest.mark.parametrize("name", NAMES)
def test_the_certificate_of_a_page_holds(name):
    """Every map is exact or a summary of exact ones; each row of the first, with what no token brought, sums to its logit."""
    content = content_of(page(name))
    assert {mark for layer in content["layers"] for mark, _ in layer["claims"]} <= {"exact", "summary"}
    assert content["causal"] and content["precision"] == "float32"
    first = content["layers"][0]
    rows = decode(Encoded(maps_of(page(name))[0][0], 1.0, 0.0), "float32")
    for t, text in enumerate(first["explains"]):
        found = re.search(r" = (\S+), (\S+) of it from no token$", text)
        assert found, text
        value, bias = float(found[1]), float(found[2])
        total = rows[t * (t + 1) // 2 : (t + 1) * (t + 2) // 2].astype(np.float64).sum() + bias
        assert total == pytest.approx(value, abs=1e-3 * abs(value) + 1e-2 * abs(bias))  # the digits that are printed
