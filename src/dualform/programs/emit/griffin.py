"""Into Griffin: Hawk with every third block an attention over the last tokens, which here passes its input on.

Two recurrent blocks, then one of local attention, and again, each with a GeGLU, as published. No program needs the attention: its
output matrix is 0, so that the block is its residual stream and its GeGLU. A layer of the path that has no states stands on
such a block where its turn comes; where a layer with states would, an attention block is put in between.

**Source:** De et al. 2024 (arXiv 2402.19427), Sec. 2.3 and 3; a program of two layers needs no third block, and gets none.
"""

from functools import partial
from typing import Any

import numpy as np

from dualform.mixers import SoftmaxAttention
from dualform.models import SequenceModel
from dualform.programs.emit.channels import Reach
from dualform.programs.emit.diagonal import stream
from dualform.programs.emit.hawk import HELD, geglu, hawk_path, recurrent_of
from dualform.programs.emit.registration import register
from dualform.programs.graph import Graph
from dualform.programs.path import Path, PathLayer

EVERY = 3
"""Of so many blocks the last one attends, as published."""

WINDOW = 16
"""Tokens that are seen; nothing is read of them."""

WIDTH = 2
"""Of its one head."""


def griffin_path(graph: Graph) -> Path:
    """Hawk's path, with an empty layer wherever a layer with states would be an attention's."""
    path, found = hawk_path(graph), []
    for layer in path.layers:
        if attends(len(found)) and layer.blocks:
            found.append(PathLayer((), (), (), layer.given, layer.given))
        found.append(layer)
    return Path(path.graph, tuple(found))


def attends(place: int) -> bool:
    """Whether the block at that place, from 0, is an attention's."""
    return place % EVERY == EVERY - 1


@register(
    "griffin",
    "Hawk's blocks, but every third one is local attention, whose output matrix is 0: it passes its input on to its GeGLU",
    griffin_path,
)
def griffin(path: Path, dtype: Any) -> SequenceModel:
    """A `GriffinRecurrent`, or in every third block a `SoftmaxAttention`, and a `GatedMLP` with gelu in each block.

    **Raises:** `InputError`, with file and line, where a state grows, turns, changes its sign, or has no eigenvectors.
    """
    places = {id(layer): place for place, layer in enumerate(path.layers)}
    recurrent = partial(recurrent_of, dtype=dtype, reach=Reach("Griffin's RG-LRU", *HELD[1:]))

    def mixer(layer: PathLayer, lanes: dict[int, int], width: int, cast: Any) -> Any:
        attending = attends(places[id(layer)])
        return passing(width, cast) if attending else recurrent(layer, lanes, width, cast)

    return stream(path, dtype, mixer, geglu(dtype))


def passing(width: int, cast: Any) -> SoftmaxAttention:
    """Local attention of one head that gives 0: it averages the first lanes over the window, and nothing reads that."""
    none = cast(np.zeros((1, WIDTH, width)))
    return SoftmaxAttention(
        w_q=none,
        w_k=none,
        w_v=cast(np.eye(WIDTH, width)[None]),
        w_o=cast(np.zeros((width, WIDTH))),
        window=WINDOW,
    )
