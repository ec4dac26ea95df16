"""The tuned lens: for each layer an affine translator into the last layer's terms, saved with the model that it belongs to."""

import json
import os
from collections.abc import Mapping
from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, Float

from dualform.arrays import accumulator
from dualform.errors import FileError, require
from dualform.generation import fingerprint
from dualform.lenses.lens_layers import lens_layers
from dualform.reading import reading, shown
from dualform.tensor_file import read_tensors, write_tensors

FORMAT, VERSION = "dualform-tuned-lens", "1"
FIELDS = ("layers", "weights", "words", "outputs")
"""What a file says beside its arrays."""


class TunedLens(eqx.Module):
    """h_l + A_l h_l + b_l, for every layer but the last: what that layer gives, in the terms of the last one.

    With A and b at 0, as `make` has them, it is the logit lens; `train_lens` trains them.

    **Arguments:** matrices: A, (layer, d, d); biases: b, (layer, d); layers: the layers' names; outputs: of the model's readout;
    weights: a digest of the model's weights; words: what that model is, for a person.

    **Raises:** `InputError` where the shapes do not fit.

    **Source:** Belrose et al. 2023 (arXiv 2303.08112), "Eliciting latent predictions from transformers with the tuned lens".
    """

    matrices: Float[Array, "layer d d"] = eqx.field(converter=jnp.asarray)
    biases: Float[Array, "layer d"] = eqx.field(converter=jnp.asarray)
    layers: tuple[str, ...] = eqx.field(static=True, converter=tuple)
    outputs: int = eqx.field(static=True)
    weights: str = eqx.field(static=True)
    words: str = eqx.field(static=True)
    weight_decayed: ClassVar[tuple[str, ...]] = ("matrices",)

    def __check_init__(self):
        a, b, count = jnp.shape(self.matrices), jnp.shape(self.biases), len(self.layers)
        require(
            len(a) == 3 and a[1] == a[2] and b == a[:2] and a[0] == count,
            f"matrices {a} and biases {b} must be ({count}, d, d) and ({count}, d), one for each of {count} layers.",
        )

    @classmethod
    def make(cls, model: Any) -> "TunedLens":
        """Translators of 0 for a model, in the dtype in which sums over what its layers give are kept.

        **Raises:** `InputError` as `logit_lens` does, and for a model whose last layer is all that there is.
        """
        found = lens_layers(model)
        count, d = len(found.names) - 1, found.width
        require(count >= 1, f"a {type(model).__name__} has no layer before its last one that a lens could translate.")
        own = fingerprint(model)
        dtype = accumulator(*(leaf.dtype for leaf in _arrays(model)))
        zeros = lambda *shape: jnp.zeros(shape, dtype)
        names = found.names[:-1]
        return cls(zeros(count, d, d), zeros(count, d), names, found.outputs, own.weights, own.words)

    @property
    def width(self) -> int:
        """d, of what a layer gives."""
        return self.biases.shape[1]

    def check(self, model: Any, what: str = "the tuned lens") -> None:
        """Raise `InputError` where it, called `what`, is of another model, vocabulary or width."""
        found = lens_layers(model)
        require(
            self.outputs == found.outputs,
            f"{what} is of a vocabulary of {self.outputs:,}, and this model has one of {found.outputs:,}. Take the lens that was "
            "trained for this model, or train one.",
        )
        own = fingerprint(model)
        require(
            self.layers == found.names[:-1] and self.width == found.width,
            f"{what} is of another model: of {self.words}, {len(self.layers)} layers of width {self.width}. This one is "
            f"{own.words}, with {len(found.names) - 1} layers to translate, of width {found.width}. Train a lens for it.",
        )
        require(
            self.weights == own.weights,
            f"{what} is of a model with other weights, as of another training, on the same {own.words}. Take the model that it "
            "was trained for, or train a lens for this one.",
        )

    def padded(self, layers: int) -> tuple[Float[Array, "layers d d"], Float[Array, "layers d"]]:
        """A and b of so many layers, those that have none at 0."""
        more = layers - len(self.biases)
        zeros = lambda a: jnp.concatenate([a, jnp.zeros((more, *a.shape[1:]), a.dtype)])
        return zeros(self.matrices), zeros(self.biases)


def translated(h: Float[Array, "*time d"], *translator: Array) -> Float[Array, "*time d"]:
    """h + A h + b, in the dtype of h; h itself without a translator."""
    if not translator:
        return h
    matrix, bias = translator
    wide = accumulator(h.dtype, matrix.dtype)
    moved = h.astype(wide) @ matrix.astype(wide).T + jnp.broadcast_to(bias.astype(wide), h.shape)
    return (h.astype(wide) + moved).astype(h.dtype)


def save_lens(path: str | os.PathLike[str], lens: TunedLens, record: Mapping[str, Any] | None = None) -> None:
    """Write the translators, to the bit, and which model they belong to.

    **Arguments:** record: what else is to be known of them, such as how they were trained, as JSON can hold it.

    **Raises:** `FileError` where the file cannot be written.
    """
    told = {"layers": json.dumps(lens.layers), "weights": lens.weights, "words": lens.words}
    told |= {"format": FORMAT, "version": VERSION, "outputs": str(lens.outputs), "record": json.dumps(record or {})}
    write_tensors(path, {"matrices": np.asarray(lens.matrices), "biases": np.asarray(lens.biases)}, told)


def load_lens(path: str | os.PathLike[str], model: Any) -> TunedLens:
    """The translators that `save_lens` wrote for this model, to the bit.

    **Raises:** `FileError` where the file is missing, truncated, damaged, foreign or of a later version; `InputError` where it
    is of another model or vocabulary.
    """
    arrays, metadata = read_tensors(path)
    where = repr(os.fspath(path))
    if metadata.get("format") != FORMAT:
        raise FileError(
            f"{where} is no tuned lens: dualform did not write it as one. Give what `dualform lens --train` wrote."
        )
    if metadata.get("version") != VERSION:
        raise FileError(
            f"{where} is of version {shown(metadata.get('version'))} of its format; this dualform reads {VERSION}. Update it."
        )
    with reading(where, "tuned lens"):
        layers, weights, words, outputs = (metadata[name] for name in FIELDS)
        lens = TunedLens(arrays["matrices"], arrays["biases"], tuple(json.loads(layers)), int(outputs), weights, words)
    lens.check(model, f"the tuned lens in {where}")
    if not all(np.isfinite(array).all() for array in (arrays["matrices"], arrays["biases"])):
        raise FileError(f"{where} holds NaN or infinity. The file is damaged; copy it again, or train the lens anew.")
    return lens


def _arrays(model: Any) -> list[Any]:
    return [leaf for leaf in jtu.tree_leaves(model) if eqx.is_inexact_array(leaf)]
