"""The attention page in a real browser: how large it is, how fast it opens, how fast it answers a key.

python -m benchmarks.attention_page [--rounds 7] [--write FILE.md]

Needs playwright (pip install '.[test]') and the system's chromium.
"""

import argparse
import shutil
import statistics
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from playwright.sync_api import Browser, sync_playwright

from benchmarks.alternate import write
from dualform.reports.attention_folder import write_attention_folder
from dualform.reports.attention_page import AttentionView, LayerView, write_attention_page
from dualform.reports.serve import attention_server

AFTER = """async ([key, of]) => {
  const begin = performance.now();
  document.body.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
  while ($("takes").dataset.of !== of) await new Promise((done) => setTimeout(done, 0));
  await new Promise((done) => requestAnimationFrame(() => setTimeout(done, 0)));
  return performance.now() - begin;
}"""
"""Milliseconds from a key to the tables and maps of what it asked for, drawn."""


def view(tokens: int, layers: int, heads: int) -> AttentionView:
    """Signed maps that fade with distance, noise in every entry: rounded bytes of noise are the hardest to compress."""
    random = np.random.default_rng(0)
    distance = np.abs(np.subtract.outer(np.arange(tokens), np.arange(tokens))).astype(np.float32)

    def layer(i: int) -> LayerView:
        fade = np.exp(-distance / (4 + 6 * i)) + np.float32(0.01)
        maps = np.stack([np.tril(fade * random.standard_normal(fade.shape, np.float32)) for _ in range(heads)])
        return LayerView(
            f"block {i + 1}", "linear given its gates", 3e-16, maps, tuple(f"head {h}" for h in range(heads))
        )

    words = tuple(f" w{i % 97}" for i in range(tokens))
    return AttentionView("benchmark", words, tuple(layer(i) for i in range(layers)), 3e-16, "contributions", "token")


def measure(browser: Browser, address: str, rounds: int) -> dict[str, list[float]]:
    """Milliseconds to open (from the request to the big map and the tables), to the next layer, and to the next token."""
    found: dict[str, list[float]] = {"opens": [], "first paint": [], "next layer": [], "next token": []}
    for _ in range(rounds):
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.goto(address)
        while not page.evaluate(
            "performance.getEntriesByName('first map').length > 0 && Boolean($('takes').dataset.of)"
        ):
            time.sleep(0.02)
        opened = "performance.getEntriesByName('first map')[0].startTime"
        found["opens"].append(page.evaluate(opened))
        found["first paint"].append(page.evaluate("performance.getEntriesByType('paint')[0].startTime"))
        page.evaluate("new Promise((done) => requestIdleCallback(done))")
        layer, last = page.evaluate("[view.layers.length > 1 ? 1 : 0, TIME - 1]")
        if layer:
            found["next layer"].append(page.evaluate(AFTER, ["ArrowDown", f"1/mean/{last}/10"]))
        found["next token"].append(page.evaluate(AFTER, ["ArrowLeft", f"{layer}/mean/{last - 1}/10"]))
        page.close()
    return found


def row(name: str, size: int, made: float, found: dict[str, list[float]]) -> str:
    numbers = (f"{statistics.median(each):.0f} (most {max(each):.0f})" if each else "" for each in found.values())
    return f"| {name} | {size / 1e6:.1f} | {made:.1f} | {' | '.join(numbers)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--write", default=None)
    options = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    rows = []
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as running:
        browser = running.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        version = browser.version
        for name, shape in {
            "page, 40 tokens x 24 layers x 8 heads": (40, 24, 8),
            "page, 1,024 tokens x 24 layers": (1024, 24, 1),
            "page, 1,024 tokens x 12 layers x 4 heads": (1024, 12, 4),
        }.items():
            shown, begin = view(*shape), time.perf_counter()
            path = write_attention_page(shown, Path(folder) / "page.html")
            made = time.perf_counter() - begin
            rows.append(row(name, path.stat().st_size, made, measure(browser, path.as_uri(), options.rounds)))
        for name, shape in {
            "served, 1,024 tokens x 24 layers x 8 heads": (1024, 24, 8),
            "served, 8,192 tokens x 1 layer": (8192, 1, 1),
        }.items():
            shown, begin = view(*shape), time.perf_counter()
            path = write_attention_folder(shown, Path(folder) / "maps")
            made = time.perf_counter() - begin
            size = sum(file.stat().st_size for file in path.iterdir())
            with attention_server(path) as server:
                threading.Thread(target=server.serve_forever, daemon=True).start()
                found = measure(browser, f"http://127.0.0.1:{server.server_port}/", options.rounds)
                server.shutdown()
            rows.append(row(name, size, made, found))
        browser.close()
    head = "| what | MB | s to write | ms to open | ms to first paint | ms to the next layer | ms to the next token |"
    print(
        write(
            options.write,
            "The attention page",
            f"python -m benchmarks.attention_page --rounds {options.rounds}",
            [
                f"Chromium {version} without a window and without a GPU, 1440 x 900. A page opens when the big map is drawn "
                "(goal: under 1,000 ms at 1,024 tokens x 24 layers), counted by the browser from the start of its navigation; a "
                "key is answered when tables and maps are drawn anew. Medians, and the slowest round.",
                "\n".join([head, "|---|---:|---:|---:|---:|---:|---:|", *rows]),
            ],
        )
    )


if __name__ == "__main__":
    main()
