"""Maps as pictures, and in the shapes that other viewers take."""

import base64
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import markupsafe
import numpy as np

from dualform.errors import require

if TYPE_CHECKING:
    from dualform.dual.form import DualForm
    from dualform.dual.layer import LayerForm
    from dualform.dual.model_forms import ModelForm


MOST_SHOWN = 4
"""Layers of a model in a notebook's picture."""


def to_circuitsvis(form: "LayerForm", tokens: Sequence[str]) -> dict[str, Any]:
    """The arguments of CircuitsVis's `attention.attention_patterns`: tokens, and attention (head, destination, source).

    **Raises:** `InputError` unless there is one string for each token, and for what is no layer's form.
    """
    _check_form(form, "weights", "a layer's form, as of layer_form")
    return {"tokens": checked_tokens(tokens, form.time), "attention": np.asarray(form.weights, np.float32)}


def to_bertviz(form: "ModelForm", tokens: Sequence[str], *, magnitudes: bool = True) -> dict[str, Any]:
    """The arguments of BertViz's `head_view` and `model_view`: attention, one (1, head, time, time) a layer, and tokens.

    BertViz draws weights from 0 to 1: magnitudes are given, each row brought to a sum of 1, unless told otherwise. It takes
    torch tensors: `torch.from_numpy` makes them of these arrays.

    **Raises:** `InputError` unless there is one string for each token, and for what is no model's form.
    """
    _check_form(form, "layers", "a model's form, as of model_form")

    def of_layer(weights: np.ndarray) -> np.ndarray:
        if magnitudes:
            total = np.abs(weights).sum(axis=-1, keepdims=True)
            weights = np.abs(weights) / np.where(total == 0, 1, total)
        return np.asarray(weights[None], np.float32)

    attention = [of_layer(layer.weights) for layer in form.layers]
    return {"attention": attention, "tokens": checked_tokens(tokens, form.time)}


def plot(layers: Sequence["LayerForm | DualForm"], tokens: Sequence[str] | None = None, *, heads: int = 4) -> Any:
    """Layers' signed maps, a row for each layer and a column for each of its first heads, as a matplotlib figure.

    Red brings, blue takes away; one scale for each map, symmetric about 0; the certificate is in each layer's title.

    **Raises:** `InputError` unless there is one string for each token, where they are given.
    """
    from matplotlib.figure import Figure

    maps = [np.asarray(layer.weights[:heads]) for layer in layers]
    columns = max(len(each) for each in maps)
    figure = Figure(figsize=(3 * columns, 3 * len(maps)), layout="constrained")
    axes = figure.subplots(len(maps), columns, squeeze=False)
    for layer, own, row in zip(layers, maps, axes, strict=True):
        for head, axis in enumerate(row):
            if head >= len(own):
                axis.set_axis_off()
                continue
            most = float(np.abs(own[head]).max()) or 1.0
            axis.imshow(own[head], cmap="RdBu_r", vmin=-most, vmax=most, interpolation="nearest")
            # "$" would be read as mathematics: names and tokens are shown as they are.
            axis.set_title(
                f"{layer.name}, head {head}" + ("" if head else f"\nresidual {layer.residual:.0e}"), fontsize=8
            )
            axis.set_xticks([])
            axis.set_yticks([])
            if tokens is not None:
                shown = [token.replace("$", r"\$") for token in checked_tokens(tokens, layer.time)]
                axis.set_xticks(range(len(shown)), shown, rotation=90, fontsize=6)
                axis.set_yticks(range(len(shown)), shown, fontsize=6)
    return figure


def as_html(
    layers: Sequence["LayerForm | DualForm"], title: str, kind: str, residual: float, map_residual: float | None = None
) -> str:
    """A form in a notebook: its layers' signed maps as one picture, up to `MOST_SHOWN` of them, with the certificate below it.

    **Arguments:** title, kind: of the whole form; residual, map_residual: its own.
    """
    picture, shown = io.BytesIO(), layers[:MOST_SHOWN]
    plot(shown).savefig(picture, format="png", dpi=60)
    data = base64.b64encode(picture.getvalue()).decode()
    told = "" if map_residual is None else f", of the maps {map_residual:.1e}"
    more = f" The first {len(shown)} of {len(layers)} layers are drawn." if len(shown) < len(layers) else ""
    words = f"{title}: residual against its own call {residual:.1e}{told}; {kind}. Red brings, blue takes away.{more}"
    alt = "maps over tokens: a row for each output, a column for each token that it takes from"
    image = f'<img alt="{alt}" src="data:image/png;base64,{data}" style="max-width: 100%">'
    return f"<figure>{image}<figcaption>{markupsafe.escape(words)}</figcaption></figure>"


def _check_form(form: Any, field: str, what: str) -> None:
    require(
        not isinstance(form, type) and hasattr(form, field) and hasattr(form, "time"),
        f"{what}, is needed; got {form.__name__ if isinstance(form, type) else f'a {type(form).__name__}'}.",
    )


def checked_tokens(tokens: Sequence[str], time: int) -> list[str]:
    """Tokens as strings, one for each place."""
    require(len(tokens) == time, f"{len(tokens)} tokens are given; the form has {time}.")
    return [str(token) for token in tokens]
