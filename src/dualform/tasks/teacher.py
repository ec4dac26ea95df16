"""The attention that a student is trained on: real heads that ship with the package, a user's file, or Gaussian weights."""

import os
from importlib import resources

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float

from dualform.arrays import accumulator
from dualform.counts import key_of
from dualform.errors import FileError, InputError, require
from dualform.mixers import LinearAttention
from dualform.room import check_fits
from dualform.tensor_file import read_tensors, write_tensors

EMBEDDED = {
    "smollm2_layer4_head2_d4": "layer 4, head 2 of SmolLM2-135M-Instruct, in 4 dimensions",
    "smollm2_layer20_head7_d6": "layer 20, head 7 of SmolLM2-135M-Instruct, in 6 dimensions",
}
"""The heads that ship with the package, by name; the first is the default. Apache-2.0, see `tasks/data/NOTICE`."""

_KEYS = ("w_v", "w_k", "w_q", "w_o", "inputs")


class Teacher(eqx.Module):
    """An attention, and real inputs for it where there are any.

    - attention: the `LinearAttention` to be learned.
    - inputs: (sequence, time, d), or None where inputs are drawn from a standard normal distribution.
    - name: short, for titles.  source: where it comes from, for people.
    """

    attention: LinearAttention
    inputs: Float[Array, "sequence time d"] | None
    name: str = eqx.field(static=True)
    source: str = eqx.field(static=True)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Teacher":
        """A teacher from a safetensors file.

        The file holds `w_v` (d_v, d) or (head, d_v, d), `w_k` and `w_q` (d_k, d) or (head, d_k, d), and where wanted `w_o`
        (d_out, head * d_v) and `inputs` (sequence, time, d), in float16, bfloat16, float32 or float64. Half precision is
        widened to float32; float64 is kept where JAX has it enabled. Other keys are refused, so that a misspelt one is
        not passed over.

        **Raises:** `FileError` where the file is missing, truncated or foreign; `InputError` where keys are missing or
        unknown, a dtype is not a float's, a value is NaN or infinite, or shapes do not fit.
        """
        arrays, metadata = read_tensors(path)
        where = repr(os.fspath(path))
        missing = [key for key in _KEYS[:3] if key not in arrays]
        require(
            not missing,
            f"{where} has no {' and no '.join(missing)}; a teacher needs w_v, w_k and w_q (it has "
            f"{', '.join(sorted(arrays)) or 'nothing'}).",
        )
        unknown = sorted(set(arrays) - set(_KEYS))
        require(
            not unknown,
            f"{where} has unknown arrays {', '.join(unknown)}; a teacher's are {', '.join(_KEYS)}. Remove them.",
        )
        weights = {key: _floats(key, array, where) for key, array in arrays.items()}
        inputs = weights.pop("inputs", None)
        try:
            attention = LinearAttention(**weights)
        except InputError as error:
            raise InputError(f"the weights in {where} do not fit together: {error}") from None
        if inputs is not None:
            _check_inputs(inputs, attention.d_in, where)
        name = os.path.splitext(os.path.basename(os.fspath(path)))[0]
        return cls(attention, inputs, name, metadata.get("source", f"the file {os.path.basename(os.fspath(path))}"))

    @classmethod
    def default(cls) -> "Teacher":
        """A real attention head with real text as its input: layer 4, head 2 of SmolLM2-135M-Instruct, d = 4."""
        return cls.embedded("default")

    @classmethod
    def embedded(cls, name: str) -> "Teacher":
        """A head that ships with the package, by its name in `EMBEDDED`, or "default".

        **Raises:** `InputError` for a name that is not there.
        """
        name = next(iter(EMBEDDED)) if name == "default" else name
        require(name in EMBEDDED, f"no embedded head is called {name!r}; there are {', '.join(EMBEDDED)}.")
        with resources.as_file(resources.files("dualform.tasks") / "data" / f"{name}.safetensors") as path:
            try:
                teacher = cls.load(path)
            except FileError:
                raise FileError(f"the data file of {name} is missing or broken. Install dualform again.") from None
        return cls(teacher.attention, teacher.inputs, name, f"{EMBEDDED[name]}, on tiny Shakespeare (Apache-2.0)")

    @classmethod
    def find(cls, name: str, *, d: int = 4, rank: int | None = None, seed: int = 0, dtype=jnp.float32) -> "Teacher":
        """A teacher by what a person types: "gaussian" (with d, rank, seed and dtype), an embedded head's name, or a file.

        **Raises:** `InputError` and `FileError` as the others do, listing what is known for a name that is nothing.
        """
        if name == "gaussian":
            return cls.gaussian(d, key=key_of(seed), rank=rank, dtype=dtype)
        require(rank is None, f"rank is an option of the gaussian teacher; {name!r} has its own.")
        if name == "default" or name in EMBEDDED:
            return cls.embedded(name)
        if not os.path.exists(name):
            raise InputError(
                f"there is no teacher {name!r}: no such file, and the names are default, gaussian, {', '.join(EMBEDDED)}."
            )
        return cls.load(name)

    @classmethod
    def gaussian(cls, d: int, *, key: Array, rank: int | None = None, dtype=None) -> "Teacher":
        """Random W_V, W_K and W_Q (d, d), entries of variance 1 / d, and no inputs of its own.

        The paper says "Gaussian" and gives no variance: 1 / d, which keeps values, keys and queries of variance 1, is our
        choice.

        **Arguments:** rank: of W_V, which is then a product of two Gaussian factors, its entries of variance 1 / d too; W_K
        and W_Q keep full rank. None for full rank.

        **Raises:** `InputError` where d or the rank is out of range, or there is no memory for the weights.
        """
        require(d >= 1, f"d is {d}; a teacher needs a width of at least 1.")
        require(rank is None or 1 <= rank <= d, f"rank is {rank}; it must lie between 1 and d = {d}.")
        check_fits(3 * d * d * jnp.dtype(dtype or float).itemsize, f"a teacher of width {d:,}", "Give a smaller d.")
        w_v, w_k, w_q = jr.normal(key, (3, d, d), dtype or float) / d**0.5
        if rank is not None:
            left, right = jr.normal(jr.fold_in(key, 1), (2, d, rank), dtype or float)
            w_v = left @ right.T / (rank * d) ** 0.5
        named = f"gaussian d={d}" if rank is None else f"gaussian d={d} rank={rank}"
        return cls(LinearAttention(w_v, w_k, w_q), None, named, "Gaussian weights of variance 1/d, inputs N(0, 1)")

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write what `load` reads.

        **Raises:** `FileError` where the file cannot be written.
        """
        attention = self.attention
        arrays = {"w_v": attention.w_v, "w_k": attention.w_k, "w_q": attention.w_q}
        optional = {"w_o": attention.w_o, "inputs": self.inputs}
        arrays |= {name: array for name, array in optional.items() if array is not None}
        write_tensors(path, {name: np.asarray(array) for name, array in arrays.items()}, {"source": self.source})


def _floats(name: str, array: np.ndarray, where: str) -> Float[Array, "..."]:
    """The array in float32 or wider, once it is known to hold finite floats."""
    floating = jnp.issubdtype(array.dtype, jnp.floating)
    require(floating, f"{name} in {where} has dtype {array.dtype}; save it as float16, bfloat16, float32 or float64.")
    widened = jnp.asarray(array.astype(accumulator(array.dtype)))
    bad = np.argwhere(~np.isfinite(np.asarray(widened)))
    if len(bad):
        place = tuple(int(i) for i in bad[0])
        raise InputError(
            f"{name} in {where} holds {float(array[place])} at {place} ({len(bad)} such values in all), which float32 or "
            "wider cannot train on; repair or leave out what made it."
        )
    return widened


def _check_inputs(inputs: Array, d: int, where: str) -> None:
    require(
        inputs.ndim == 3 and 0 not in inputs.shape,
        f"inputs in {where} has shape {inputs.shape}; it must be (sequence, time, d), none of them 0.",
    )
    require(
        inputs.shape[2] == d,
        f"inputs in {where} has tokens of width {inputs.shape[2]}, but the weights take {d}; give inputs "
        f"(sequence, time, {d}).",
    )
