"""Numbers that are given, not learned: kept where no rule of training sees them."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from dualform.errors import require


class Constant(eqx.Module):
    """An array that no training changes, whatever its rule: gradients, weight decay and casts to another dtype pass it by.

    It is kept as the integers that its bits spell. So it is a leaf like any other to `jax.jit`, `jax.vmap` (a constant for each
    member of an ensemble), checkpoints and donation, and `equinox.is_inexact_array`, by which optimisers and gradients choose
    what is trained, does not see it. A mixer declares one as a field, `gamma: Float[Constant, " head"]`, and
    reads it by `.value`. In a file of weights it is an array as any other.

    **Arguments:** bits: unsigned integers, as wide as the numbers; dtype: theirs.

        >>> import equinox as eqx, jax.numpy as jnp
        >>> from dualform.mixers import Constant
        >>> given = Constant.of(jnp.asarray([0.5, 1.0]))
        >>> given.value.tolist(), eqx.filter(given, eqx.is_inexact_array).bits
        ([0.5, 1.0], None)
    """

    bits: Array
    dtype: Any = eqx.field(static=True)

    @classmethod
    def of(cls, values: Any) -> "Constant":
        """These numbers as a constant; one that is one already, itself. What made them gets no gradient."""
        if isinstance(values, Constant):
            return values
        values = jnp.asarray(values)
        if not jnp.issubdtype(values.dtype, jnp.floating):
            values = values.astype(float)
        with jax.enable_x64(True):
            bits = jax.lax.bitcast_convert_type(jax.lax.stop_gradient(values), _words(values.dtype))
        return cls(bits, values.dtype)

    @property
    def value(self) -> Array:
        """The numbers.

        **Raises:** `InputError` where the bits were made numbers of another kind, by a cast of every leaf of a model.
        """
        require(
            self.bits.dtype == _words(self.dtype),
            f"the bits of a constant are {self.bits.dtype}, and those of {self.dtype} are {_words(self.dtype)}: they were cast, "
            "or counted with, as if they were numbers. Change only the leaves that equinox.is_inexact_array is True of.",
        )
        with jax.enable_x64(True):  # 64 bits stay 64, whatever JAX's default is
            return jax.lax.bitcast_convert_type(self.bits, self.dtype)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the numbers."""
        return self.bits.shape

    @property
    def ndim(self) -> int:
        """How many axes they have."""
        return self.bits.ndim

    @property
    def size(self) -> int:
        """How many they are."""
        return self.bits.size

    def __len__(self) -> int:
        return len(self.bits)

    def astype(self, dtype: Any) -> Array:
        """The numbers in another dtype."""
        return self.value.astype(dtype)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self.value, dtype)

    def __jax_array__(self) -> Array:
        return self.value


def _words(dtype: Any) -> np.dtype:
    """The unsigned integers that are as wide as numbers of `dtype`."""
    return np.dtype(f"uint{8 * np.dtype(dtype).itemsize}")
