"""The attention page in a real browser: it opens in silence, shows the array's numbers, and obeys mouse and keys."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dualform.reports.attention_folder import write_attention_folder
from dualform.reports.attention_maps import Precision, decode, encode, pack
from dualform.reports.attention_page import AttentionView, write_attention_page
from tests.reports.test_serve import served
from tests.reports.views import HOSTILE, kept, view

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
TOKENS = ("The", " cat", " sat", "\n", " on", " the", " mat", ".")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium of this system, without a window."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if not found:
        pytest.skip("no chromium: install it, or name it in the environment as CHROMIUM")
    with playwright.sync_playwright() as running:
        # A container's root has no sandbox to give.
        chromium = running.chromium.launch(executable_path=found, args=["--no-sandbox"] if os.geteuid() == 0 else [])
        yield chromium
        chromium.close()


@pytest.fixture
def show(browser, tmp_path) -> Iterator[Callable[..., Any]]:
    """Opens a view, or what stands at an address, and fails where the page says, asks or breaks anything."""
    context, said = browser.new_context(viewport={"width": 1280, "height": 900}), []

    def open_page(what: AttentionView | str, width: int = 1280, hash: str = "") -> Any:
        address = what if isinstance(what, str) else write_attention_page(what, tmp_path / "page.html").as_uri()
        page = context.new_page()
        page.set_viewport_size({"width": width, "height": 900})
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: said.append("dialog"))
        page.on("request", lambda request: None if request.url.startswith(address[:16]) else said.append(request.url))
        page.goto(address + hash)
        page.wait_for_selector("#takes tbody tr")
        return page

    yield open_page
    context.close()
    assert said == []


def until(page: Any, expression: str) -> None:
    """Wait until it is true. Playwright's own way to wait evaluates text in the page, which the page's policy forbids."""
    for _ in range(200):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"not within 10 s: {expression}")


def numbers(page: Any, table: str, of: str) -> dict[int, float]:
    """All rows of a table once it is of this layer/map/token: value by position, from the text that stands there exactly."""
    page.get_by_role("radio", name="all", exact=True).click()
    until(page, f"$('{table}').dataset.of === '{of}/Infinity'")
    page.evaluate("document.activeElement.blur()")
    rows = page.eval_on_selector_all(
        f"#{table} tbody tr", "rows => rows.map(r => [r.cells[0].textContent, r.cells[2].title])"
    )
    return {int(at): float(value.replace("\u2212", "-")) for at, value in rows}


def expected(a: np.ndarray) -> dict[int, float]:
    return {int(i): float(a[i]) for i in np.flatnonzero(a)}


def same(found: dict[int, float], a: np.ndarray) -> bool:
    """Whether a table is an array: the same positions, strongest first, and the same float32 values to the bit."""
    order = [abs(value) for value in found.values()]
    return order == sorted(order, reverse=True) and {i: float(np.float32(v)) for i, v in found.items()} == expected(a)


def test_a_token_shows_its_row_and_column(show):
    """A click on a token shows what it takes from and gives to, the array's own float32 numbers, and the certificate."""
    made = view(TOKENS)
    page = show(made)
    bar = page.inner_text("header")
    for words in (
        "2.5e\u221216",
        "contributions",
        "token",
        "block 1",
        "3.0e\u221216",
        "linear given its gates",
        "summary that has no sum of its own: the mean of 2 maps, which are exact to rounding",
        "the worst with a relative error of 4.0e-16",
    ):
        assert words in bar
    page.click("#token-3")
    until(page, "document.querySelector('#said').textContent.includes('(3)')")
    mean = made.layers[0].maps.mean(0)
    assert same(numbers(page, "takes", "0/mean/3"), mean[3]) and same(numbers(page, "gives", "0/mean/3"), mean[:, 3])
    assert page.inner_text("#token-3") == "\u23ce" and page.inner_text("#token-1") == "\u00b7cat"
    assert page.get_attribute("#token-3", "aria-selected") == "true"
    page.hover("#token-1")
    assert float(page.inner_text("#tip b").replace("\u2212", "-")) == pytest.approx(mean[3, 1], rel=1e-7)


def test_heads_layers_and_tokens_by_keys(show):
    """Arrow keys go over tokens and layers, A over mean, strongest and heads, brackets over heads; ? explains them."""
    made = view(TOKENS, heads=(3, 1))
    page = show(made)
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("a")
    until(page, "document.querySelector('#big-title').textContent.includes('strongest')")
    maps = made.layers[0].maps
    strongest = np.take_along_axis(maps, np.abs(maps).argmax(0)[None], 0)[0]
    assert same(numbers(page, "takes", "0/max/2"), strongest[2])
    page.keyboard.press("a")
    page.keyboard.press("]")
    until(page, "document.querySelector('#big-title').textContent.includes('head 2')")
    assert same(numbers(page, "gives", "0/1/2"), maps[1][:, 2])
    page.keyboard.press("ArrowDown")
    until(page, "document.querySelector('#layer-kind').textContent === 'frozen nonlinearity'")
    assert "Exact to rounding: what this map summarises sums to the output; relative error 2.0e-16" in page.inner_text(
        "#claim"
    )
    assert "\u2713 exact" in page.inner_text("header")
    assert page.text_content("#map-over").endswith("over convolved tokens") and "e" in page.text_content(
        "#map-residual"
    )
    assert page.locator(".tile[aria-pressed=true]").count() == 1
    page.keyboard.press("?")
    assert page.locator("#help").is_visible() and "token before, after" in page.inner_text("#help")
    page.keyboard.press("Escape")
    assert not page.locator("#help").is_visible()
    before = page.evaluate("document.documentElement.dataset.theme")
    page.keyboard.press("d")
    assert page.evaluate("document.documentElement.dataset.theme") != before


def test_rounded_and_two_sided_maps(show, tmp_path):
    """The script decodes float16 and int8 to the writer's own numbers, and says that they are rounded."""
    cases: list[tuple[Precision, bool]] = [("float16", True), ("int8", False)]
    for precision, causal in cases:
        made = view(TOKENS, heads=(1,), causal=causal)
        page = show(
            write_attention_page(made, tmp_path / f"{precision}.html", precision=precision).as_uri(), hash="#token=5"
        )
        until(page, "profile.of === '0/mean/5'")
        kept = decode(encode(pack(made.layers[0].maps[0], causal), precision), precision).astype(np.float32)
        row, column = (kept[15:21], kept[[20, 26, 33]]) if causal else (kept[40:48], kept[5::8])
        assert page.evaluate("Array.from(profile.row)") == [*row.tolist(), *[0.0] * (8 - len(row))]
        assert page.evaluate("Array.from(profile.column)") == [*[0.0] * (8 - len(column)), *column.tolist()]
        strongest = page.get_attribute("#takes tbody tr td:nth-child(3)", "title").replace("\u2212", "-")
        assert strongest[0] == "\u2248" and float(strongest[1:]) == pytest.approx(row[np.abs(row).argmax()], rel=0.05)
        assert precision in page.inner_text(
            "#foot"
        ) and "numbers on this page are off from it by up to" in page.inner_text("#claim")


def test_hostile_tokens_stay_text(show):
    """Tokens that hold markup are shown letter by letter; nothing of them runs or becomes an element."""
    page = show(view(HOSTILE, title=HOSTILE[0], method=HOSTILE[1]))
    assert page.evaluate("window.broken") is None and page.locator("main img").count() == 0
    assert page.inner_text("#token-0") == HOSTILE[0][:23] + "\u2026" and page.title() == HOSTILE[0]
    shown = [page.inner_text(f"#token-{i}") for i in range(len(HOSTILE))]
    assert shown[4] == "U+2028U+2029" and shown[5] == "U+202EreversedU+200F" and shown[6] == "U+0000U+0007U+D800"
    assert shown[7:10] == ["\u23ce", "\u00b7", "\u2205"]


def test_zoom_by_drag_and_back(show):
    """A rectangle drawn on the map becomes what is in sight; 0 brings the whole back."""
    page = show(view([str(i) for i in range(64)], heads=(1,)))
    page.locator("#map").scroll_into_view_if_needed()
    left, top, size = page.evaluate(
        "(() => { const b = $('map').getBoundingClientRect(); return [b.left + plot.left, b.top + plot.top, plot.size]; })()"
    )
    page.mouse.move(left + size / 4, top + size / 2)
    page.mouse.down()
    page.mouse.move(left + size / 2, top + size * 3 / 4, steps=4)
    page.mouse.up()
    until(page, "plot.n < 64")
    n, r0, c0 = page.evaluate("[state.n, state.r0, state.c0]")
    assert abs(n - 16) <= 1 and abs(r0 - 32) <= 1 and abs(c0 - 16) <= 1
    page.keyboard.press("0")
    until(page, "plot.n === 64")


def test_phone_width_needs_no_sideways_scroll(show):
    """At 360 points nothing is wider than the screen, and the certificate stays in sight."""
    page = show(view(TOKENS * 10, heads=(8, 1)), width=360)
    page.keyboard.press("a")
    page.keyboard.press("a")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.evaluate("window.scrollTo(0, 1e6)")
    until(page, "scrollY > 300")
    assert page.evaluate("document.querySelector('.certificate').getBoundingClientRect().top >= 0")


def test_the_served_page_shows_the_same(show, tmp_path):
    """A folder behind `dualform serve` gives the same numbers as the page that holds them."""
    made = view(TOKENS)
    with served(write_attention_folder(made, tmp_path / "maps")) as port:
        page = show(f"http://127.0.0.1:{port}/", hash="#token=4&mode=max")
        maps = made.layers[0].maps
        strongest = np.take_along_axis(maps, np.abs(maps).argmax(0)[None], 0)[0]
        assert same(numbers(page, "takes", "0/max/4"), strongest[4])
        until(page, "plot.values !== null && plot.cells === 8")
        page.goto("about:blank")  # lets go of the connection


def shares(page: Any) -> list[list[float]]:
    """The share of the chosen layer's heads that keep each token after each, as the page's script has it."""
    found = page.evaluate("Array.from(keptOverTime(keptLayers(), TIME)).map(v => v === v ? v : -1)")
    return np.reshape(found, (len(TOKENS), len(TOKENS))).tolist()


def test_what_is_kept_after_each_token(show, tmp_path):
    """Tokens are blue, struck through or pale as the layer keeps them after the chosen token, or that under the pointer."""
    what = kept(len(TOKENS))
    page = show(view(TOKENS, kept=what), hash="#layer=0&token=4")
    until(page, "$('kept-body').dataset.of === '0/4'")
    t, s = np.mgrid[: len(TOKENS), : len(TOKENS)]
    alive = (t < what.dropped[:, :, None]).mean(1)
    np.testing.assert_allclose(shares(page), np.where(s <= t, alive[0], -1), atol=1e-6)
    looks = lambda: page.evaluate("keptChips.map(chip => chip.className)")
    assert looks() == ["token", *["token dropped"] * 2, *["token"] * 2, *["token unread"] * 3]
    assert "of 5 tokens 3 kept by every head, 2 by none; here it drops" in page.inner_text("#kept-said")
    assert "\u00b7sat" in page.inner_text("#kept-said") and "tova, 3 states" in page.inner_text("#kept")
    map = page.locator("#kept-map")
    map.scroll_into_view_if_needed()
    box = map.bounding_box()
    page.mouse.move(box["x"] + 0.4 * box["width"] / 8, box["y"] + 6.5 * box["height"] / 8)
    until(page, "$('kept-body').dataset.of === '0/6'")
    assert page.inner_text("#tip b") == "kept by 3 of 3 heads" and "to the end" in page.inner_text("#tip")
    assert looks()[4:] == ["token dropped", "token", "token", "token unread"] and page.evaluate("state.token") == 4
    page.mouse.move(0, 0)
    until(page, "$('kept-body').dataset.of === '0/4'")
    page.locator("#kept-slider").focus()
    page.keyboard.press("ArrowRight")
    until(page, "state.token === 5 && $('kept-body').dataset.of === '0/5'")
    assert page.get_attribute("#kept-slider", "aria-valuetext").startswith(
        "after token 5, \u00b7the. block 1: of 6 tokens"
    )
    page.click("#kept-layers", position={"x": 4, "y": page.locator("#kept-layers").bounding_box()["height"] * 0.75})
    until(page, "$('kept-body').dataset.of === '1/5'")
    np.testing.assert_allclose(shares(page), np.where(s <= t, alive[1], -1), atol=1e-6)
    page.click("#kept summary")
    assert "25.0%" in page.inner_text("#kept-kinds") and "\u2013" in page.inner_text("#kept-kinds")
    with served(write_attention_folder(view(TOKENS, kept=what), tmp_path / "maps")) as port:
        page = show(f"http://127.0.0.1:{port}/", width=360, hash="#layer=1&token=5")
        until(page, "$('kept-body').dataset.of === '1/5'")
        np.testing.assert_allclose(shares(page), np.where(s <= t, alive[1], -1), atol=1e-6)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        page.goto("about:blank")


@pytest.mark.parametrize("path", sorted((ROOT / "docs" / "gallery").glob("*.html")), ids=lambda path: path.stem)
def test_the_gallery_opens_in_silence(show, path):
    """Each page of the gallery opens from its file, asks for nothing else, and says on top that its first map is exact."""
    page = show(path.as_uri())
    until(page, "plot.values !== null")
    assert page.inner_text(".claim").startswith(
        "\u2713 exact Exact to rounding: each row and what no token brought sum to"
    )
    assert page.inner_text("#explains").startswith("This row explains the logit of ")


def test_nothing_is_said_of_what_is_kept_without_a_bound(show):
    """The page of a model that is not bounded has no such part."""
    assert not show(view(TOKENS)).locator("#kept").is_visible()
