"""An attention view as a folder, for maps too large for one page: exact float32, read piece by piece by `dualform serve`."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from dualform.errors import FileError, require
from dualform.reading import guarded, json_of_file, reason
from dualform.reports.attention_maps import edges, pack
from dualform.reports.attention_page import render, summary
from dualform.reports.attention_view import AttentionView, with_aggregates
from dualform.tensor_file import unwritable, write_atomically

FORMAT = "dualform attention folder 2"
INDEX = "attention.json"


def write_attention_folder(view: AttentionView, folder: str | Path) -> Path:
    """Write `view` as a folder for `dualform serve`, and return its path.

    It holds `attention.json`, written last, and for each layer an array of (map, entries) in float32: its heads and, where there
    are several, their mean and the strongest; rows one after the other, of causal maps only up to the diagonal.

    **Raises:** `InputError` where the view does not fit together; `FileError` where the folder holds something else, or cannot be
    written.
    """
    view.check()
    folder, causal = Path(folder), view.causal
    if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not (folder / INDEX).exists())):
        raise FileError(f"{str(folder)!r} is there and is no folder of attention maps. Give another path.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / INDEX).unlink(missing_ok=True)  # a folder that is half written has no index, and is refused
        for i, layer in enumerate(view.layers):
            count = len(layer.maps) + 2 * (len(layer.maps) > 1)
            shape = (count, _entries(len(view.tokens), causal))
            array = np.lib.format.open_memmap(folder / _file(i), mode="w+", dtype="<f4", shape=shape)
            for k, (_, a) in enumerate(with_aggregates(layer)):
                array[k] = pack(a, causal)
            array.flush()
    except OSError as error:
        raise unwritable(folder, error) from None
    content = {"format": FORMAT, **summary(view, causal)}
    write_atomically(folder / INDEX, json.dumps(content, allow_nan=False).encode())
    return folder


class AttentionFolder:
    """A folder that `write_attention_folder` wrote: its page, and rows, columns and regions of its maps.

    **Raises:** `FileError` where the folder is missing, foreign, half written or damaged.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.content = self._index()
        self.time, self.causal = len(self.content["tokens"]), self.content["causal"]
        self.maps = [self._array(i) for i in range(len(self.content["layers"]))]

    def _index(self) -> dict[str, Any]:
        index = self.folder / INDEX
        foreign = f"{str(self.folder)!r} is no folder of attention maps: "
        content = json_of_file(index, "Write the folder again.")
        if content is None:
            raise FileError(f"{foreign}it has no {INDEX}. Write it with `write_attention_folder`.")
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise FileError(f"{foreign}its {INDEX} is of another format than {FORMAT!r}. Write it again.")
        try:
            right = all(isinstance(token, str) for token in content["tokens"]) and isinstance(content["causal"], bool)
            right = right and all(
                isinstance(layer["heads"], list)
                and _is_filled(layer["small"])
                and len(layer["claims"]) == len(layer["small"])
                for layer in content["layers"]
            )
        except (KeyError, TypeError):
            right = False
        if not (right and content["tokens"] and content["layers"] and isinstance(content.get("title"), str)):
            raise FileError(f"{str(index)!r} is damaged: tokens, layers or maps are missing. Write the folder again.")
        return content

    def _array(self, layer: int) -> np.ndarray:
        path = self.folder / _file(layer)
        expected = (len(self.content["layers"][layer]["small"]), _entries(self.time, self.causal))
        refusal = lambda error: FileError(f"{str(path)!r} cannot be read ({reason(error)}). Write the folder again.")
        with guarded(refusal):
            try:
                array = np.load(path, mmap_mode="r", allow_pickle=False)
            except FileNotFoundError:
                raise FileError(f"{str(path)!r} is missing. Write the folder again.") from None
        if array.shape != expected or array.dtype != np.dtype("<f4"):
            raise FileError(
                f"{str(path)!r} holds {array.dtype} of shape {array.shape} where float32 of {expected} is expected. "
                "Write the folder again."
            )
        return array

    def page(self) -> str:
        """The page's HTML; its script asks the server that sent it for the maps."""
        content: Mapping[str, Any] = {key: value for key, value in self.content.items() if key != "format"}
        return render({**content, "served": True}, connect="'self'")

    def map(self, layer: int, name: int | str) -> Float[np.ndarray, " entries"]:
        """One packed map, by head or as "mean" or "max"."""
        require(layer < len(self.maps), f"there is no layer {layer}; there are {len(self.maps)}.")
        heads = len(self.content["layers"][layer]["heads"])
        joined = {"mean": heads, "max": heads + 1} if heads > 1 else {"mean": 0, "max": 0}
        at = joined.get(name, len(self.maps[layer])) if isinstance(name, str) else name
        require(at < len(self.maps[layer]), f"layer {layer} has no map {name!r}.")
        return self.maps[layer][at]

    def row(self, packed: Float[np.ndarray, " entries"], t: int) -> Float[np.ndarray, " time"]:
        """What token t takes from each token."""
        require(t < self.time, f"there is no token {t}; there are {self.time}.")
        out = np.zeros(self.time, np.float32)
        begin, length = self._row(t)
        out[:length] = packed[begin : begin + length]
        return out

    def column(self, packed: Float[np.ndarray, " entries"], s: int) -> Float[np.ndarray, " time"]:
        """What each token takes from token s."""
        require(s < self.time, f"there is no token {s}; there are {self.time}.")
        out = np.zeros(self.time, np.float32)
        rows = np.arange(s if self.causal else 0, self.time)
        out[rows] = packed[(rows * (rows + 1) // 2 if self.causal else rows * self.time) + s]
        return out

    def region(
        self, packed: Float[np.ndarray, " entries"], r0: int, c0: int, n: int, cells: int
    ) -> Float[np.ndarray, "cells cells"]:
        """Rows r0 ... r0 + n, columns c0 ... c0 + n as cells: of each the entry of largest magnitude, nan where there is none."""
        require(
            0 < cells <= n and max(r0, c0) + n <= self.time and cells <= 2048,
            f"no region of {n} tokens from ({r0}, {c0}) in {cells} cells: there are {self.time} tokens.",
        )
        out = np.full((cells, cells), np.nan, np.float32)
        cut = np.append(edges(n, cells), n)
        for i in range(cells):
            rows = range(r0 + int(cut[i]), r0 + int(cut[i + 1]))
            width = min(n, self._row(rows[-1])[1] - c0)
            if width <= 0:
                continue
            block = np.zeros((len(rows), width), np.float32)  # a zero beyond a row's end is never the strongest
            for t, line in zip(rows, block, strict=True):
                begin, length = self._row(t)
                length = min(max(length - c0, 0), n)
                line[:length] = packed[begin + c0 : begin + c0 + length]
            starts = cut[:-1][cut[:-1] < width]
            high, low = (f.reduceat(f.reduce(block, axis=0), starts) for f in (np.maximum, np.minimum))
            out[i, : len(starts)] = np.where(high >= -low, high, low)
        return out

    def _row(self, t: int) -> tuple[int, int]:
        return (t * (t + 1) // 2, t + 1) if self.causal else (t * self.time, self.time)


def _is_filled(value: Any) -> bool:
    return isinstance(value, list) and len(value) > 0


def _entries(time: int, causal: bool) -> int:
    return time * (time + 1) // 2 if causal else time * time


def _file(layer: int) -> str:
    return f"layer-{layer + 1:04d}.npy"
