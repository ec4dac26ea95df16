"""What a lens looks at, and through: the layers of a model whose outputs its readout could take, and that readout.

The readout is what stands behind the last layer: norms, a pool where there is one, and the linear map to the outputs. It stays as
it is. A model has one where its stages (`model.stages()`) end so, as those of every language model, and of a `SequenceModel`, do.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from dualform.arrays import State
from dualform.compiled import compiled
from dualform.dual.model_forms import check_stages, first_activations
from dualform.errors import InputError, require
from dualform.layer import as_layer
from dualform.lenses.traces import trace
from dualform.models import LayerNorm, RMSNorm
from dualform.models.chain import Chain
from dualform.models.depth import AbstractDeep
from dualform.models.model import AbstractModel
from dualform.models.stack import WithOne
from dualform.models.stages import Affine, Pool


class LensLayers(NamedTuple):
    """The layers that a lens looks at, from the first to the last, and what it looks through.

    - names: "embedding" is what the first block reads; every other is a stage, and stands for what that stage gives.
    - places: of each, as of `lenses.trace`.
    - readout: the stages behind the last layer, (time, d) -> (time, outputs).  width: d.  outputs: how many there are.
    """

    names: tuple[str, ...]
    places: tuple[str, ...]
    readout: Chain
    width: int
    outputs: int

    def number(self, name: str) -> int:
        """The number of a layer, from 0.

        **Raises:** `InputError` where there is none of that name.
        """
        require(name in self.names, f"there is no layer {name!r} to look at; there are {', '.join(self.names)}.")
        return self.names.index(name)


def lens_layers(model: Any) -> LensLayers:
    """The layers of a model whose outputs are as wide as what its readout takes, and the readout.

    **Raises:** `InputError` for a model without stages, or one that does not end in norms and a linear readout of two outputs or
    more.
    """
    check_stages(model)
    names, stages = zip(*model.stages(), strict=True)
    behind = _behind(model, names, stages)
    readout = _readout(model, names[behind:], stages[behind:])
    width, outputs = readout.layers[0].d_in, readout.layers[-1].d_out
    require(outputs >= 2, f"a {type(model).__name__} has one output; a lens compares the probabilities of two or more.")
    if isinstance(model, AbstractDeep):
        blocks = names[names.index("block 1") : behind]
        found = (("embedding", f"{blocks[0]}.in"), *((name, f"{name}.out") for name in blocks))
    else:
        fits = zip(names[:behind], stages[:behind], strict=True)
        found = tuple((name, f"{name}.out") for name, stage in fits if as_layer(stage).d_out == width)
    layers, places = zip(*found, strict=True)
    return LensLayers(layers, places, readout, width, outputs)


def _behind(model: AbstractModel, names: tuple[str, ...], stages: tuple[Any, ...]) -> int:
    """The number of the first stage behind the layers: behind the blocks or, without any, behind the last that carries."""
    if isinstance(model, AbstractDeep):
        return names.index(f"block {len(model.blocks)}") + 1
    return max((i + 1 for i, stage in enumerate(stages) if not as_layer(stage).tokenwise), default=0)


def _readout(model: Any, names: tuple[str, ...], stages: tuple[Any, ...]) -> Chain:
    """The stages behind the layers.

    **Raises:** `InputError` unless they are norms, a pool where there is one, and a linear map at the end.
    """
    between = all(isinstance(stage, RMSNorm | LayerNorm | Pool) for stage in stages[:-1])
    if stages and between and isinstance(stages[-1], Affine | WithOne):
        return Chain(stages)
    there = f"behind its layers stand {', '.join(names)}" if names else "nothing stands behind its last layer"
    raise InputError(
        f"a {type(model).__name__} has no unembedding that a lens could look through: {there}, and a lens needs a linear "
        "readout, with a norm before it or none. Give a language model, or a model that ends so."
    )


def hidden_states(
    model: AbstractModel, layers: LensLayers, x: Any, state: State | None = None, start=None, mask=None
) -> Float[Array, "layer time d"]:
    """What each layer gives for each token.

    **Arguments:** x, state, start, mask: as of `trace`.

    **Raises:** `InputError` for a state of a model that pools: it is a sum of what the last layer gave, and of no other's.
    """
    require(
        state is None or layers.readout.tokenwise,
        f"a {type(model).__name__} pools, and its state has the sum of its last layer alone, so that a lens on the others cannot "
        "go on from it. Read the whole sequence at once.",
    )
    return _hidden(model, *first_activations(model, x, start, mask), state, layers.places)


@compiled
def _hidden(model: Any, x: Any, start: Any, mask: Any, state: Any, places: tuple[str, ...]) -> Array:
    recorded = trace(model, x, record=places, state=state, start=start, mask=mask).recorded
    return jnp.stack([recorded[place] for place in places])
