"""An attention view as one self-contained HTML page to explore: no network, tokens never as markup, errors stated."""

import base64
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Int
from markupsafe import Markup

from dualform.errors import InputError, require
from dualform.reports.attention_claims import claims
from dualform.reports.attention_maps import BYTES, Encoded, Precision, encode, pack, pool
from dualform.reports.attention_view import AttentionView, KeptView, LayerView, with_aggregates
from dualform.reports.scripted_page import scripted_page
from dualform.tensor_file import write_atomically

__all__ = ["AttentionView", "KeptView", "LayerView", "attention_page", "write_attention_page"]

GENERATOR = "dualform attention page 2"
"""What a page says it was made by; `dualform serve` looks for it."""
LIMIT = 60_000_000
"""Bytes of a page beyond which browsers become slow to open it."""
EXACT, HALF = 8_000_000, 40_000_000
"""Bytes of maps up to which they are kept in float32, and in float16."""
OVERVIEW = 96
"""Cells along a side of a small map."""


def write_attention_page(
    view: AttentionView,
    path: str | Path,
    *,
    precision: Literal["auto", "float32", "float16", "int8"] = "auto",
    limit: int = LIMIT,
) -> Path:
    """Write `view` as one HTML file that needs no network, and return its path.

    **Arguments:**

    - precision: of the maps' numbers; "auto" takes the best that keeps the page light: float32 (exact) up to 8 MB of maps,
      float16 up to 40 MB, else int8. The page states the error.
    - limit: bytes, 60 MB by default.

    **Raises:** `InputError` where the view does not fit together, or the page would be larger than `limit`; `FileError` where
    it cannot be written.
    """
    page = attention_page(view, precision=precision, limit=limit).encode("utf-8", "xmlcharrefreplace")
    write_atomically(path, page)
    return Path(path)


def attention_page(
    view: AttentionView, *, precision: Literal["auto", "float32", "float16", "int8"] = "auto", limit: int = LIMIT
) -> str:
    """The page's HTML; arguments and errors as in `write_attention_page`."""
    view.check()
    causal, time = view.causal, len(view.tokens)
    entries = sum(len(layer.maps) for layer in view.layers) * (time * (time + 1) // 2 if causal else time * time)
    chosen = _precision(entries) if precision == "auto" else precision
    encoded: list[list[Encoded]] = []
    size = 0
    for layer in view.layers:
        encoded.append([encode(pack(a, causal), chosen) for a in layer.maps])
        size += sum(len(a.text) for a in encoded[-1])
        if size > limit:
            heads = sum(len(layer.maps) for layer in view.layers)
            raise InputError(
                f"the page of {time} tokens, {len(view.layers)} layers and {heads} maps would take more than "
                f"{limit / 1e6:g} MB. Show fewer tokens or layers, average the heads first, or write a folder and open it "
                "with `dualform serve`."
            )
    content = summary(view, causal) | {
        "precision": chosen,
        "scales": [[a.scale for a in layer] for layer in encoded],
        "error": max(a.error for layer in encoded for a in layer),
    }
    made = render(content, [[a.text for a in layer] for layer in encoded], beside=view.beside)
    require(
        len(made) <= limit,
        f"the page would take {len(made) / 1e6:.0f} MB, more than {limit / 1e6:g} MB. Show fewer tokens or layers, or write a "
        "folder and open it with `dualform serve`.",
    )
    return made


def _precision(entries: int) -> Precision:
    if entries * BYTES["float32"] <= EXACT:
        return "float32"
    return "float16" if entries * BYTES["float16"] * 4 / 3 <= HALF else "int8"


def summary(view: AttentionView, causal: bool) -> dict[str, Any]:
    """All of a view but the numbers of its maps: what the page has when it opens, small maps included."""
    layers = []
    for layer in view.layers:
        small = [(name, encode(pack(pool(a, OVERVIEW), causal), "int8", False)) for name, a in with_aggregates(layer)]
        layers.append(
            {
                "name": layer.name,
                "kind": layer.kind,
                "residual": _number(layer.residual),
                "heads": list(layer.map_names),
                "over": list(layer.over),
                "proofs": [_number(residual) for residual in layer.map_residuals],
                "claims": [list(claim) for claim in claims(view, layer)],
                "explains": list(layer.explains),
                "alone": layer.alone,
                "small": [{"name": name, "peak": a.scale, "text": a.text} for name, a in small],
            }
        )
    return {
        "title": view.title,
        "tokens": list(view.tokens),
        "residual": _number(view.residual),
        "method": view.method,
        "target": view.target,
        "details": [[str(key), str(value)] for key, value in view.details.items()],
        "causal": causal,
        "overview": min(OVERVIEW, len(view.tokens)),
        "layers": layers,
        "kept": None if view.kept is None else _kept(view.kept),
    }


def _kept(kept: KeptView) -> dict[str, Any]:
    """What is kept as text: for each layer and head the tokens' lives, two bytes each; once where its heads keep the same."""
    lives = kept.dropped - np.arange(kept.dropped.shape[2])
    layers = []
    for name, heads in zip(kept.layers, lives, strict=True):
        same = bool((heads == heads[:1]).all())
        layers.append(
            {"name": name, "heads": len(heads), "lives": [_two_bytes(each) for each in heads[: 1 if same else None]]}
        )
    kinds = [[kind, tokens, *(_number(share) for share in shares)] for kind, tokens, *shares in kept.kinds]
    return {"policy": kept.policy, "layers": layers, "kinds": kinds}


def _two_bytes(lives: Int[np.ndarray, " time"]) -> str:
    return base64.b64encode(lives.astype("<u2").tobytes()).decode()


def render(
    content: dict[str, Any],
    maps: Sequence[Sequence[str]] = (),
    connect: str = "'none'",
    beside: tuple[str, str] | None = None,
) -> str:
    """The page from what it shows.

    **Arguments:** connect: where its script may read more from, in a policy's words; beside: as of the view.
    """
    texts = [[Markup(text) for text in layer] for layer in maps]
    parts = ("attention.html", "main.js", ("style.css",))
    return scripted_page(*parts, GENERATOR, content, connect, maps=texts, beside=beside)


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
