"""The attention page as a file: nothing of a token becomes markup, nothing but its own script runs, numbers stay as they are."""

import base64
import hashlib
import html
import json
import re
from dataclasses import replace

import numpy as np
import pytest

from dualform.errors import FileError, InputError
from dualform.reports.attention_maps import Precision, decode, encode, pack, pool
from dualform.reports.attention_page import attention_page, write_attention_page
from dualform.reports.attention_view import strongest, with_aggregates
from tests.reports.views import HOSTILE, maps, view


def first(pattern: str, text: str) -> str:
    """What the pattern's group finds, which is there."""
    found = re.search(pattern, text, flags=re.S)
    assert found, pattern
    return found[1]


def embedded(page: str):
    """What the page's script reads: the view, and each map's numbers by layer and head."""
    content = json.loads(first(r'<script type="application/json" id="view">(.*?)</script>', page))
    texts = re.findall(r'<script type="application/json" id="map-(\d+)-(\d+)">([^<]*)</script>', page)
    return content, {(int(layer), int(head)): text for layer, head, text in texts}


def test_hostile_text_is_data():
    """Tokens, names and details come back as they were, and none of them adds an element to the page."""
    hostile = view(HOSTILE, title=HOSTILE[0], method=HOSTILE[1], target=HOSTILE[2], details={HOSTILE[0]: HOSTILE[1]})
    hostile = replace(hostile, layers=(replace(hostile.layers[0], name=HOSTILE[0], kind=HOSTILE[1]), hostile.layers[1]))
    page, plain = attention_page(hostile), attention_page(view("abcdefghijk", details={"a": "b"}))
    content, _ = embedded(page)
    assert tuple(content["tokens"]) == HOSTILE
    assert content["details"] == [[HOSTILE[0], HOSTILE[1]]] and content["layers"][0]["name"] == HOSTILE[0]
    tags = re.compile(r"<(?=[a-zA-Z/!])")
    assert len(tags.findall(page)) == len(tags.findall(plain))


def test_lone_surrogates_can_be_written(tmp_path):
    """Half of a surrogate pair, which UTF-8 has no bytes for, stops neither a token nor a title."""
    path = write_attention_page(view(("\ud800", "b"), title="x\ud800"), tmp_path / "page.html")
    assert embedded(path.read_text("utf-8"))[0]["tokens"] == ["\ud800", "b"]


def test_the_policy_lets_only_the_page_itself_run():
    """The policy names the hashes of the one script and the one style that are there, no 'unsafe', and no network."""
    page = attention_page(view())
    policy = html.unescape(first(r'Content-Security-Policy" content="([^"]*)"', page))
    for directive, element in (("script-src", "script"), ("style-src", "style")):
        texts = re.findall(f"<{element}>(.*?)</{element}>", page, flags=re.S)
        assert len(texts) == 1
        digest = base64.b64encode(hashlib.sha256(texts[0].encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}';" in policy
    assert policy.startswith("default-src 'none';") and "connect-src 'none';" in policy and "unsafe" not in policy
    # Attributes that run or style would be outside of the hashes, and addresses outside of the page.
    assert not re.search(r"<[^>]*\s(?:on\w+|style|href|src)=", re.sub(r"<(script|style).*?</\1>", "", page, flags=re.S))
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|https?://", page)


@pytest.mark.parametrize("causal", [True, False])
def test_small_pages_hold_exact_numbers(causal):
    """A light page holds every entry to the bit; of causal maps only up to the diagonal."""
    made = view(causal=causal)
    content, texts = embedded(attention_page(made))
    assert content["precision"] == "float32" and content["error"] == 0 and content["causal"] is causal
    for (layer, head), text in texts.items():
        a = made.layers[layer].maps[head]
        found = decode(encode(pack(a, causal), "float32")._replace(text=text), "float32")
        np.testing.assert_array_equal(found, a[np.tril_indices(8)] if causal else a.ravel())
    assert sorted(texts) == [(0, 0), (0, 1), (1, 0)]


@pytest.mark.parametrize("precision", ["float16", "int8"])
@pytest.mark.parametrize("size", [1.0, 1e-30, 1e30])
def test_rounding_stays_within_its_bound(precision, size):
    """float16 keeps 11 bits of all that matters, int8 a 127th of sqrt(|a| scale), whatever the size of a map."""
    a = (pack(maps(1, 64)[0], True).astype(np.float64) * size).astype(np.float32)
    made = encode(a, precision)
    error, largest = np.abs(decode(made, precision) - a), np.abs(a).max()
    bound = {
        "float16": np.abs(a) * 2.0**-11 + 2.0**-39 * largest,
        "int8": (np.sqrt(np.abs(a) / largest) + 1 / 508) / 127 * largest * (1 + 1e-6),
    }
    assert (error <= bound[precision]).all() and error.max() == made.error > 0


def test_zeros_are_kept_as_zeros():
    """A map of zeros is one at every precision."""
    precisions: tuple[Precision, ...] = ("float32", "float16", "int8")
    for precision in precisions:
        made = encode(np.zeros(6, np.float32), precision)
        assert made.error == 0 and not decode(made, precision).any()


def test_the_page_states_its_error():
    """What a rounded page says of its error is the largest that there is."""
    made = view()
    precisions: tuple[Precision, ...] = ("float16", "int8")
    for precision in precisions:
        content, texts = embedded(attention_page(made, precision=precision))
        worst = 0.0
        for (layer, head), text in texts.items():
            a = pack(made.layers[layer].maps[head], True)
            found = decode(encode(a, precision)._replace(text=text, scale=content["scales"][layer][head]), precision)
            worst = max(worst, float(np.abs(found - a).max()))
        assert content["precision"] == precision and content["error"] == worst > 0


def test_an_overview_keeps_the_strongest_entries():
    """Each cell of a coarser map is the entry of largest magnitude in its block, signed; a small map stays as it is."""
    a = maps(1, 10)[0]
    coarse = pool(a, 4)  # cut at 0, 2, 5, 7
    block = a[5:7, 2:5]
    assert coarse.shape == (4, 4) and coarse[2, 1] == block.flat[np.abs(block).argmax()]
    assert not np.triu(coarse, 1).any()
    np.testing.assert_array_equal(pool(a, 96), a)


def test_heads_are_joined_by_mean_and_by_the_strongest():
    """The strongest of +1 and -3 is -3; one head alone is not joined."""
    a = np.array([[[1.0]], [[-3.0]]], np.float32)
    assert strongest(a).item() == -3
    layer = replace(view(("a",), heads=(2,)).layers[0], maps=a)
    assert {name: float(m.item()) for name, m in with_aggregates(layer)} == {
        "head 1": 1,
        "head 2": -3,
        "mean": -1,
        "max": -3,
    }
    assert len(list(with_aggregates(view(("a",), heads=(1,)).layers[0]))) == 1
    apart = dict(with_aggregates(replace(layer, alone=1)))
    assert apart["mean"].item() == apart["max"].item() == -3


def test_a_residual_that_does_not_exist_is_null():
    """nan, for a method without a certificate, is null on the page, where NaN would not be JSON."""
    made = view(residual=float("nan"))
    made = replace(made, layers=(replace(made.layers[0], residual=float("nan")),))
    content, _ = embedded(attention_page(made))
    assert content["residual"] is None and content["layers"][0]["residual"] is None


def test_every_layer_has_its_own_residual_and_kind():
    """Beside a layer stands its own certificate, not another one's, and beside the whole that of the whole."""
    content = embedded(attention_page(view()))[0]
    assert [layer["residual"] for layer in content["layers"]] == [3e-16, 6e-16] and content["residual"] == 2.5e-16
    assert [layer["kind"] for layer in content["layers"]] == ["linear given its gates", "frozen nonlinearity"]


def test_each_map_says_what_it_is_over():
    """Beside each map stand what it is over and its own residual; a view that says neither shows neither."""
    first, second = embedded(attention_page(view()))[0]["layers"]
    assert first["over"] == ["tokens", "tokens"] and first["proofs"] == [2e-16, 4e-16]
    assert second["over"] == ["convolved tokens"]
    made = view()
    made = replace(made, layers=(replace(made.layers[0], over=(), map_residuals=()),))
    (plain,) = embedded(attention_page(made))[0]["layers"]
    assert plain["over"] == plain["proofs"] == []


def test_the_bound_of_rounding_is_the_views():
    """What counts as rounding depends on the dtype in which the model ran: the page calls exact what is within it."""
    for bound, mark in ((1e-16, "wrong"), (1e-15, "exact")):
        claims = [
            claim for layer in embedded(attention_page(view(bound=bound)))[0]["layers"] for claim in layer["claims"]
        ]
        assert [claim[0] for claim in claims] == [mark, mark, "summary", "summary", mark]


def test_a_page_that_would_be_too_large(tmp_path):
    """Too large a page is not written; the message says what to do instead."""
    with pytest.raises(
        InputError, match=r"8 tokens, 2 layers and 3 maps would take more than 0\.0001 MB.*dualform serve"
    ):
        write_attention_page(view(), tmp_path / "page.html", limit=100)
    with pytest.raises(InputError, match=r"would take 0 MB, more than 0\.001 MB.*dualform serve"):
        write_attention_page(view(), tmp_path / "page.html", limit=1000)
    assert not list(tmp_path.iterdir())


def test_bad_views_are_refused(unchecked):
    """Each mistake gets a sentence with the value."""
    good = view()
    layer = good.layers[0]
    bad = np.array(layer.maps)
    bad[1, 3, 2] = np.inf
    for changed, message in [
        (replace(good, tokens=()), "no tokens to show"),
        (replace(good, layers=()), "no layers to show"),
        (replace(good, residual=-1.0), "residual of the view is -1.0"),
        (replace(good, tokens=tuple("abc")), r"'block 1' has maps of shape \(2, 8, 8\); for 3 tokens"),
        (replace(good, layers=(replace(layer, map_names=("a",)),)), "has 2 maps but 1 names"),
        (
            replace(good, layers=(replace(layer, over=("tokens",)),)),
            "2 maps and, of what they are over, 1. Give one for each",
        ),
        (
            replace(good, layers=(replace(layer, map_residuals=(1e-16, -1.0)),)),
            "the residual of 'head 2' of layer 'block 1' is",
        ),
        (replace(good, layers=(replace(layer, says=("a",)),)), "2 maps and, of what they claim, 1. Give one for each"),
        (replace(good, layers=(replace(layer, explains=("a",) * 3),)), "says of 3 rows what they explain; there are 8"),
        (replace(good, layers=(replace(layer, alone=2),)), "has 2 maps of which 2 stand alone; at least one is left"),
        (replace(good, layers=(replace(layer, maps=bad),)), "has inf in 'head 2' at token 3, source 2"),
    ]:
        with pytest.raises(InputError, match=message):
            attention_page(changed)


def test_a_page_that_cannot_be_written(tmp_path):
    """A folder in the page's place is said."""
    (tmp_path / "page.html").mkdir()
    with pytest.raises(FileError, match=r"page\.html"):
        write_attention_page(view(), tmp_path / "page.html")
