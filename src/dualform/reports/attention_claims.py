"""What is true of each map that an attention page shows, in a sentence: exact, with its residual, or named as what it is."""

import math
from typing import Literal, NamedTuple, TypeAlias

from dualform.reports.attention_view import AttentionView, LayerView

Mark: TypeAlias = Literal["exact", "wrong", "approximation", "summary", "none"]

SUM = "what this map summarises sums to the output"
"""What a map claims that says nothing itself."""


class Claim(NamedTuple):
    """What stands above a map: whether it is exact, in a word, and a sentence that says of what, with the number."""

    mark: Mark
    sentence: str


def claims(view: AttentionView, layer: LayerView) -> tuple[Claim, ...]:
    """One for each of `with_aggregates`, in that order: of each map, of the mean and of the strongest."""
    under = "" if view.kept is None else f" The model is the one that runs under {view.kept.policy}."
    own = [_own(view, layer, i) for i in range(len(layer.maps))]
    joined, residuals = own[layer.alone :], layer.map_residuals[layer.alone :] or (layer.residual,)
    both = [joined[0] if len(joined) == 1 else _summary(name, joined, residuals) for name in ("mean", "max")]
    return tuple(one._replace(sentence=one.sentence + under) for one in (own + both if len(own) > 1 else own))


def _own(view: AttentionView, layer: LayerView, i: int) -> Claim:
    says = layer.says[i] if layer.says else SUM
    if layer.approximate:
        return Claim("approximation", f"An approximation: {says}.")
    residual = layer.map_residuals[i] if layer.map_residuals else layer.residual
    if math.isnan(residual):
        return Claim("none", f"Nothing was measured here: {says}.")
    if residual > view.bound:
        return Claim("wrong", f"It does not hold that {says}: the relative error is {residual:.1e}.")
    return Claim("exact", f"Exact to rounding: {says}; relative error {residual:.1e}.")


def _summary(name: str, joined: list[Claim], residuals: tuple[float, ...]) -> Claim:
    which = "the mean" if name == "mean" else "in each entry the strongest"
    each = "which are exact to rounding" if all(one.mark == "exact" for one in joined) else "not all of which are exact"
    worst = "" if any(map(math.isnan, residuals)) else f", the worst with a relative error of {max(residuals):.1e}"
    return Claim("summary", f"A summary that has no sum of its own: {which} of {len(joined)} maps, {each}{worst}.")
