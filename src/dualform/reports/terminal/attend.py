"""What `dualform attend` prints: the certificate of each layer, and what a bounded model keeps."""

import math
from pathlib import Path

import numpy as np

from dualform.reports.attend import strongest
from dualform.reports.attention_view import AttentionView, KeptView
from dualform.reports.terminal import Terminal, bare_table


def attention(terminal: Terminal, view: AttentionView, path: Path) -> None:
    """The certificates of the whole and of each layer, what the last token takes most from, and where the page is."""
    terminal.unbroken((view.title, "bold"), f": {view.target}")
    table = bare_table()
    for column in ("layer", "residual", "maps", "over", "of the maps", "kind"):
        table.add_column(column, no_wrap=column != "kind", justify="right" if column == "maps" else "left")
    number = lambda residual: "no sum" if math.isnan(residual) else f"{residual:.1e}"
    for layer in view.layers:
        over, worst = ", ".join(dict.fromkeys(layer.over)), max(layer.map_residuals, default=math.nan)
        own = number(worst) if layer.map_residuals else ""
        table.add_row(layer.name, number(layer.residual), str(len(layer.maps)), over, own, layer.kind)
    terminal.print(table)
    row, most = strongest(view)
    shown = ", ".join(f"{view.tokens[s]!r} at {s} ({value:+.3f})" for s, value in most)
    terminal.print(
        f"Token {row}, {view.tokens[row]!r}, takes most from {shown}."
        if most
        else f"Token {row}, {view.tokens[row]!r}, takes nothing from any token."
    )
    terminal.unbroken(f"The whole model's residual is {view.residual:.1e}. {path}")


def kept(terminal: Terminal, view: KeptView) -> None:
    """What a bounded model keeps: who keeps the first token, then a row for each kind of token."""
    time = view.dropped.shape[2]
    first, heads = int((view.dropped[:, :, 0] == time).sum()), view.dropped[:, :, 0].size
    at_once = float((view.dropped == np.arange(time)).mean())
    terminal.print(
        f"\nKept under {view.policy}, over {len(view.layers)} layers: the first token by {first} of {heads} heads; "
        f"{at_once:.1%} of tokens are dropped at once."
    )
    table = bare_table()
    for column in ("kind of token", "tokens", "kept in the end", "kept k later", "mean life"):
        table.add_column(column, justify="left" if column == "kind of token" else "right")
    percent = lambda share: "none so old" if math.isnan(share) else f"{share:.1%}"
    for kind, tokens, end, later, life in view.kinds:
        table.add_row(kind, str(tokens), percent(end), percent(later), f"{life:.1f}")
    terminal.print(table)
    terminal.print(
        "kept k later: still kept after as many more tokens as a layer has states; a window keeps none so long."
    )
