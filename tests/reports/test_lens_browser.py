"""The lens page in a real browser: it opens in silence, shows the readings, obeys mouse and keys, and leads to the other page."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from dualform.reports.attention_page import write_attention_page
from dualform.reports.lens import linked
from dualform.reports.lens_page import write_lens_page
from dualform.reports.lens_view import LensView
from tests.reports.lens_views import lens_view
from tests.reports.test_attention_browser import TOKENS, browser, until  # noqa: F401 - a fixture
from tests.reports.views import HOSTILE, view

pytestmark = pytest.mark.slow


@pytest.fixture
def show(browser, tmp_path) -> Iterator[Callable[..., Any]]:  # noqa: F811 - the fixture
    """Opens a view, and fails where the page says, asks or breaks anything."""
    context, said = browser.new_context(viewport={"width": 1280, "height": 900}), []

    def open_page(what: LensView, width: int = 1280, hash: str = "") -> Any:
        address = write_lens_page(what, tmp_path / "page.html").as_uri()
        page = context.new_page()
        page.set_viewport_size({"width": width, "height": 900})
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: said.append("dialog"))
        page.on("request", lambda request: None if request.url.startswith("file:") else said.append(request.url))
        page.goto(address + hash)
        page.wait_for_selector("#ranks tbody tr")
        return page

    yield open_page
    context.close()
    assert said == []


def ranks(page: Any) -> list[list[str]]:
    """The table of the chosen cell: rank, output, probability."""
    return page.eval_on_selector_all(
        "#ranks tbody tr", "rows => rows.map(r => [0, 1, 2].map(i => r.cells[i].textContent))"
    )


def test_a_cell_shows_its_outputs(show):
    """A click on a cell shows the likeliest outputs of that layer and token, with entropy and KL; the pointer, too."""
    made = lens_view(TOKENS)
    read, words = made.readings["tuned lens"], made.words
    page = show(made)
    assert page.inner_text("#lens-name") == "tuned lens"
    page.click("#cell-1-3")
    until(page, "document.querySelector('#ranks').dataset.of === '1/1/3/bits'")
    found = ranks(page)
    assert [row[0] for row in found] == ["1", "2", "3"]
    seen = {"\n": "\u23ce", " the": "\u00b7the", " cat": "\u00b7cat", "": "\u2205", "x" * 40: "x" * 40, "a": "a"}
    assert [row[1] for row in found] == [seen[words[int(number)]] for number in read.top[1, 3]]
    chances = [float(row[2].rstrip("%")) / 100 for row in found]
    assert chances == pytest.approx(np.exp(read.log_probability[1, 3]), rel=6e-3)
    assert f"KL {read.kl_bits[1, 3]:.3g}"[:5] in page.inner_text("#ranks-said")
    assert page.get_attribute("#cell-1-3", "aria-selected") == "true"
    page.hover("#cell-2-0")
    assert "block 2" in page.inner_text("#tip") and page.locator("#tip b").count() == 3
    assert page.locator("#by-layer tbody tr").count() == 3 and page.locator("#means tbody tr").count() == 3


def test_keys_and_choices(show):
    """Arrows go over tokens and layers, V over what colours say, U over units, L over lenses; the address keeps it all."""
    made = lens_view(TOKENS)
    page = show(made)
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("l")
    page.keyboard.press("u")
    until(page, "document.querySelector('#ranks').dataset.of === '0/1/1/nats'")
    assert page.inner_text("#lens-name") == "logit lens"
    before = page.evaluate("getComputedStyle($('cell-0-0')).backgroundColor")
    page.keyboard.press("v")
    page.keyboard.press("v")
    until(page, "state.shows === 'kl'")
    until(page, f"getComputedStyle($('cell-0-0')).backgroundColor !== '{before}'")
    last = page.evaluate("[0, 1, 2].map(t => getComputedStyle($(`cell-2-${t}`)).backgroundColor)")
    assert len(set(last)) == 1  # the last layer is nowhere far from itself
    until(page, "location.hash.includes('shows=kl') && location.hash.includes('unit=nats')")
    page.keyboard.press("?")
    assert page.locator("#help").is_visible() and "logit lens" in page.inner_text("#help")
    page.keyboard.press("Escape")
    theme = page.evaluate("document.documentElement.dataset.theme")
    page.keyboard.press("d")
    assert page.evaluate("document.documentElement.dataset.theme") != theme
    again = show(made, hash="#token=2&layer=0&lens=0&shows=entropy&unit=nats")
    until(again, "document.querySelector('#ranks').dataset.of === '0/0/2/nats'")
    assert again.get_attribute("#shows [aria-checked=true]", "title") == "Of all outputs"


def test_hostile_texts_stay_text(show):
    """Tokens and outputs that hold markup are shown letter by letter; nothing of them runs or becomes an element."""
    page = show(lens_view(HOSTILE, HOSTILE, title=HOSTILE[0]))
    assert page.evaluate("window.broken") is None and page.locator("main img").count() == 0
    assert page.title() == HOSTILE[0]
    heads = [page.inner_text(f"#token-{i}") for i in range(len(HOSTILE))]
    assert heads[0] == HOSTILE[0][:11] + "\u2026" and heads[7:10] == ["\u23ce", "\u00b7", "\u2205"]


def test_the_two_pages_lead_to_one_another(show, tmp_path):
    """The link opens the other page of the same text, at the same token, and that one's link leads back."""
    lens, attention = tmp_path / "page.html", tmp_path / "attention page.html"
    write_attention_page(linked(view(TOKENS), attention, lens), attention)
    page = show(linked(lens_view(TOKENS), lens, attention))
    page.click("#cell-0-4")
    until(page, "$('beside').hash === '#token=4'")
    page.click("#beside")
    page.wait_for_selector("#takes tbody tr")
    until(page, "state.token === 4 && $('beside').hash === '#token=4'")
    page.click("#beside")
    page.wait_for_selector("#ranks tbody tr")
    until(page, "state.token === 4")


def test_phone_width_needs_no_sideways_scroll(show):
    """At 360 points nothing but the table itself is wider than the screen."""
    page = show(lens_view(TOKENS * 10, layers=6), width=360)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
