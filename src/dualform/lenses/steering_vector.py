"""What is added to a model to steer it, and the places that it can be added to."""

import os
import re
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, Float, PyTree

from dualform.errors import FileError, InputError, require
from dualform.generation.fingerprints import Fingerprint, fingerprint
from dualform.generation.multi_state import MultiState
from dualform.growing import grows
from dualform.lenses.added import plus
from dualform.models import LanguageModel
from dualform.models.chain import remembers
from dualform.reading import whole
from dualform.recurrences.softmax import LOWEST
from dualform.tensor_file import read_tensors, write_tensors

FORMAT, VERSION = "dualform-steering-vector", 1
ANEW = "make the vector anew"
_PLACE = re.compile(r"(?P<stage>block \d+)\.(?P<what>out|state)")


class SteeringVector(eqx.Module):
    """What is added, for each place, to go once from one set of texts to the other.

    - values: by place. Of "block 2.out" an array, (d,); of "block 2.state" a state whose arrays of real numbers are differences,
      and whose counts and flags are None: these stay as they are.
    - of: the fingerprint of the model that read the texts.
    - texts: how many there were toward and away.
    """

    values: dict[str, Any]
    of: Fingerprint = eqx.field(static=True)
    texts: tuple[int, int] = eqx.field(static=True)

    @property
    def norms(self) -> dict[str, float]:
        """The Euclidean norm of each place's value."""
        squares = lambda value: sum(float(np.sum(np.square(np.asarray(a, float)))) for a in jtu.tree_leaves(value))
        return {place: squares(value) ** 0.5 for place, value in self.values.items()}

    def check(self, model: Any) -> None:
        """Raise `InputError` where it is of another model."""
        fingerprint(model).check(self.of, "the steering vector", ANEW)

    def scaled(self, times: float | int) -> dict[str, Any]:
        """The values, `times` each.

        **Raises:** `InputError` for a dose that is not finite.
        """
        return _scaled(self.values, _dose(times))

    def edits(self, times: float | int, after: int | None = None) -> dict[str, Any]:
        """The edits of a `lenses.trace` of the model that add `times` this vector, to states once.

        **Arguments:** after: the token after which states are added to; needed where there are states.

        **Raises:** `InputError` where there are states, and `after` is not given; for a dose that is not finite.
        """
        found: dict[str, Any] = {}
        for place, value in self.scaled(times).items():
            stage, what = stage_and_what(place)
            if what == "out":
                found[place] = lambda y, value=value: y + value.astype(y.dtype)[None]
            else:
                require(after is not None, f"{place!r} is a state; say by after behind which token it is added to.")
                found[f"{stage}.state@{after}"] = lambda state, value=value: plus(state, value)
        return found

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it into one safetensors file, with what it is of.

        **Raises:** `FileError` where the file cannot be written.
        """
        arrays = {name: np.asarray(leaf) for place, value in self.values.items() for name, leaf in _named(place, value)}
        notes = {
            "format": FORMAT,
            "version": str(VERSION),
            "texts": " ".join(map(str, self.texts)),
            **self.of._asdict(),
        }
        write_tensors(path, arrays, notes)

    @classmethod
    def load(cls, path: str | os.PathLike[str], model: Any) -> "SteeringVector":
        """The vector that `save` wrote, of this model.

        **Raises:** `FileError` where the file is missing, damaged or another; `InputError` where it is of another model.
        """
        arrays, notes = read_tensors(path)
        where = repr(os.fspath(path))
        if notes.get("format") != FORMAT or notes.get("version") != str(VERSION):
            raise FileError(
                f"{where} is no steering vector of this version. Give a file that dualform steer wrote by --out."
            )
        texts = [whole(each) for each in notes.get("texts", "").split()]
        lacking = [name for name in Fingerprint._fields if name not in notes]
        if lacking or len(texts) != 2 or None in texts:
            raise FileError(f"{where} does not say which model and texts it is of. Make it anew.")
        of = Fingerprint(*(notes[name] for name in Fingerprint._fields))
        fingerprint(model).check(of, f"the steering vector in {where}", ANEW)
        known = set(steerable(model))
        likes = {
            place: _like(model, place) for place in dict.fromkeys(n.split("/")[0] for n in arrays) if place in known
        }
        named = {name: leaf for place, like in likes.items() for name, leaf in _named(place, like)}
        fits = (
            bool(arrays)
            and arrays.keys() == named.keys()
            and all(
                (array.shape, array.dtype) == (named[name].shape, named[name].dtype) and np.isfinite(array).all()
                for name, array in arrays.items()
            )
        )
        if not fits:
            raise FileError(f"what is in {where} does not fit this model. The file is damaged; copy it again.")
        values = {
            place: jtu.tree_unflatten(
                jtu.tree_structure(like), [jnp.asarray(arrays[name]) for name, _ in _named(place, like)]
            )
            for place, like in likes.items()
        }
        return cls(values, of, (texts[0] or 0, texts[1] or 0))


def steerable(model: LanguageModel) -> tuple[str, ...]:
    """The places of a model that can be steered: every block's output, and its state where that can be added to."""
    blocks = [(name, block) for name, block in model.stages() if name.startswith("block ")]
    return tuple(
        place
        for name, block in blocks
        for place in (f"{name}.out", f"{name}.state")
        if place.endswith(".out") or _state_refused(block) is None
    )


def stage_and_what(place: str) -> tuple[str, str]:
    """The stage of a place, and whether it is what that gives ("out") or remembers ("state").

    **Raises:** `InputError` for what is no such place.
    """
    match = _PLACE.fullmatch(place)
    if match is None:
        raise InputError(f"{place!r} is no place to steer at; there are block 1.out and block 1.state, and so on.")
    return match["stage"], match["what"]


def check_place(model: LanguageModel, place: str) -> None:
    """Raise `InputError` unless the model can be steered there."""
    stages, known = dict(model.stages()), steerable(model)
    stage, what = stage_and_what(place)
    require(stage in stages, f"there is no {stage!r} in this model; it can be steered at {', '.join(known)}.")
    refused = _state_refused(stages[stage]) if what == "state" else None
    require(
        refused is None,
        f"the state of {stage} cannot be steered: {refused} Steer its output, or one of {', '.join(known)}.",
    )


def _state_refused(block: Any) -> str | None:
    """Why nothing can be added to a block's state; None where it can."""
    if not remembers(block):
        return "it is not one."
    state = jax.eval_shape(block.init_state)
    kept = lambda part: grows(part) or isinstance(part, MultiState)
    if any(kept(part) for part in jtu.tree_leaves(state, is_leaf=kept)):
        return "it keeps keys and values of single tokens, and has no fixed size."
    if not any(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in jtu.tree_leaves(state)):
        return "it has no real numbers."
    lowest = lambda leaf: eqx.is_inexact_array(leaf) and bool((leaf <= LOWEST).any())
    if any(lowest(leaf) for leaf in jtu.tree_leaves(block.init_state())):
        return "its sums are kept relative to a running maximum, so that a mean of states is no state."
    return None


@eqx.filter_jit
def _scaled(values: PyTree, times: Float[Array, ""] | float | int) -> PyTree:
    """So many times each array."""
    return jtu.tree_map(lambda a: a * jnp.asarray(times, a.dtype), values)


def _dose(times: Any) -> float:
    require(
        np.ndim(times) == 0 and bool(np.isfinite(times)), f"the dose is {times}; give a finite number, such as 1.5."
    )
    return float(times)


def _like(model: LanguageModel, place: str) -> Any:
    """Shapes and dtypes of a place's value."""
    stage, what = stage_and_what(place)
    block: Any = dict(model.stages())[stage]
    if what == "out":
        return jax.ShapeDtypeStruct((model.d_in,), model.embedding.dtype)
    floating = lambda leaf: leaf if jnp.issubdtype(leaf.dtype, jnp.floating) else None
    return jtu.tree_map(floating, jax.eval_shape(block.init_state))


def _named(place: str, value: PyTree) -> list[tuple[str, Any]]:
    """Each array of a place's value by its name in a file."""
    return [(f"{place}/{jtu.keystr(path)}", leaf) for path, leaf in jtu.tree_leaves_with_path(value)]
