"""What an attention page shows, as plain data: tokens, layers with their signed maps, and the certificate."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int

from dualform.errors import require


@dataclass(frozen=True)
class LayerView:
    """One layer: its maps, what they are called, and what proves them.

    - name: as the model calls it.
    - kind: "linear given its gates" (the map is the layer's own) or "frozen nonlinearity" (one exact decomposition of others).
    - residual: relative error of the sum of what the maps summarise; nan where the method has no such sum.
    - maps: (head, time, source), float32, signed; entry [h, t, s] is what token t takes from token s.
    - map_names: one for each map, as "head 1".
    - over: what each map is over: "tokens", "convolved tokens" or "values".  map_residuals: the relative error of what each
      map claims, as `DualForm.map_residual`. One for each map, or none at all.
    - says: what each map claims, as "each row and what no token brought sum to the logit"; of an approximation, what it is. One
      for each map, or none.  approximate: the maps keep no sum, and `says` stands for itself.
    - explains: which output each row explains: one text for each token, or one for all, or none. Untrusted, as tokens are.
    - alone: of so many maps, the first ones, the mean and the strongest take nothing: a layer's shares are no head.
    """

    name: str
    kind: str
    residual: float
    maps: Float[np.ndarray, "head time source"]
    map_names: tuple[str, ...]
    over: tuple[str, ...] = ()
    map_residuals: tuple[float, ...] = ()
    says: tuple[str, ...] = ()
    approximate: bool = False
    explains: tuple[str, ...] = ()
    alone: int = 0


@dataclass(frozen=True)
class KeptView:
    """What a bounded model keeps after each token.

    - policy: in words, as "tova, 64 states".
    - layers: names, as of the layers of the view.
    - dropped: (layer, kv_head, time), the token after which each one is no longer kept: see `generation.Survivors`.
    - kinds: rows of a kind of token, how many there are, the share that is kept in the end, the share that is kept as many
      tokens later as there are states, and the mean life in tokens: see `generation.by_kind`.
    """

    policy: str
    layers: tuple[str, ...]
    dropped: Int[np.ndarray, "layer kv_head time"]
    kinds: tuple[tuple[str, int, float, float, float], ...] = ()

    def check(self, time: int) -> None:
        """Raise `InputError` unless it is of `time` tokens, and none is dropped before it is read."""
        shape, tokens = np.shape(self.dropped), np.arange(time)
        require(
            len(shape) == 3 and shape[0] == len(self.layers) and shape[1] > 0 and shape[2] == time,
            f"what is kept has shape {shape}; for {len(self.layers)} layers and {time} tokens it is "
            f"({len(self.layers)}, kv_head, {time}).",
        )
        require(
            bool(((self.dropped >= tokens) & (self.dropped <= time)).all()),
            f"a token is dropped before it is read, or after token {time}; each number goes from its own token to {time}.",
        )


@dataclass(frozen=True)
class AttentionView:
    """Everything on an attention page.

    - title: of the page.
    - tokens: one text for each position; untrusted, shown as text and never as markup.
    - layers: from the input to the output; all of as many tokens.
    - residual: of the whole, as in `LayerView`.
    - method: how the maps were made, as "contributions".  target: of what, as "token".
    - details: what else a reader should know, shown as it is.
    - kept: what a bounded model keeps; None for any other.
    - beside: a page of another kind of the same model and text: what the link says, and its relative address; None without one.
    - bound: the residual up to which a sum is called exact to rounding, in the dtype in which the model ran.
    """

    title: str
    tokens: tuple[str, ...]
    layers: tuple[LayerView, ...]
    residual: float
    method: str
    target: str
    details: Mapping[str, str] = field(default_factory=dict)
    kept: KeptView | None = None
    bound: float = 1e-5
    beside: tuple[str, str] | None = None

    @property
    def causal(self) -> bool:
        """Whether no token takes from a later one in any map; the upper triangles are then not kept."""
        return not any(m[t, t + 1 :].any() for layer in self.layers for m in layer.maps for t in range(len(m)))

    def check(self) -> None:
        """Raise `InputError` where layers and tokens do not fit together, or a number is not finite."""
        require(len(self.tokens) > 0, "there are no tokens to show. Give a text of at least one token.")
        require(len(self.layers) > 0, "there are no layers to show. Ask for at least one layer.")
        _check_residual("the view", self.residual)
        for layer in self.layers:
            self._check_layer(layer)
        if self.kept is not None:
            self.kept.check(len(self.tokens))

    def _check_layer(self, layer: LayerView) -> None:
        shape, time, name = np.shape(layer.maps), len(self.tokens), f"layer {layer.name!r}"
        require(
            len(shape) == 3 and shape[0] > 0 and shape[1:] == (time, time),
            f"{name} has maps of shape {shape}; for {time} tokens they are (head, {time}, {time}), with one head or more.",
        )
        require(
            len(layer.map_names) == shape[0],
            f"{name} has {shape[0]} maps but {len(layer.map_names)} names. Give each map one name.",
        )
        _check_residual(name, layer.residual)
        given_of = {"what they are over": layer.over, "residuals": layer.map_residuals, "what they claim": layer.says}
        for what, given in given_of.items():
            require(
                len(given) in (0, shape[0]),
                f"{name} has {shape[0]} maps and, of {what}, {len(given)}. Give one for each map, or none.",
            )
        require(
            len(layer.explains) in (0, 1, time),
            f"{name} says of {len(layer.explains)} rows what they explain; there are {time}. Say it of each, of all at once, or "
            "of none.",
        )
        require(
            0 <= layer.alone < shape[0],
            f"{name} has {shape[0]} maps of which {layer.alone} stand alone; at least one is left for the mean.",
        )
        for map_name, residual in zip(layer.map_names, layer.map_residuals, strict=bool(layer.map_residuals)):
            _check_residual(f"{map_name!r} of {name}", residual)
        for h, t, row in ((h, t, row) for h, rows in enumerate(layer.maps) for t, row in enumerate(rows)):
            if not np.isfinite(row).all():
                s = int(np.argmin(np.isfinite(row)))
                require(
                    False,
                    f"{name} has {row[s]} in {layer.map_names[h]!r} at token {t}, source {s}. Maps must be finite: "
                    "look for an overflow in the model.",
                )


def _check_residual(name: str, residual: float) -> None:
    require(
        math.isnan(residual) or (math.isfinite(residual) and residual >= 0),
        f"the residual of {name} is {residual}; it is at least 0, or nan where the method has none.",
    )


def with_aggregates(layer: LayerView) -> Iterator[tuple[str, Float[np.ndarray, "time source"]]]:
    """Each map of a layer by name; where there are several, also the mean and the entry of largest magnitude, signed.

    These two are of all maps but those that stand alone.
    """
    yield from zip(layer.map_names, layer.maps, strict=True)
    if len(layer.maps) > 1:
        joined = layer.maps[layer.alone :]
        yield "mean", np.asarray(np.mean(joined, axis=0, dtype=np.float32))
        yield "max", strongest(joined)


def strongest(maps: Float[np.ndarray, "head time source"]) -> Float[np.ndarray, "time source"]:
    """Of each entry over the heads, the one of largest magnitude, with its sign; the positive one of two that are equal."""
    high, low = np.max(maps, axis=0), np.min(maps, axis=0)
    return np.where(high >= -low, high, low).astype(np.float32)
