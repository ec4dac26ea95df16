"""The adding problem: of many numbers two are marked, and the last output is to be their sum."""

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array

from dualform.errors import require
from dualform.tasks.registration import register
from dualform.tasks.scores import of_numbers
from dualform.tasks.task import DrawnTask, setting


@register("adding")
class Adding(DrawnTask):
    """`time` numbers, uniform between 0 and 1, two of which are marked, one in each half; the target is the sum of these two.

    Always answering 1, the mean, has a loss of 1/6.

    **Raises:** `InputError` where `time` is below 2.

    **Source:** Hochreiter and Schmidhuber 1997, as Le et al. 2015 (arXiv 1504.00941) have it.
    """

    time: int = setting(default=100)
    judge = staticmethod(of_numbers)
    source = "Le, Jaitly and Hinton 2015 (arXiv 1504.00941)"
    pool = "last"

    def __check_init__(self):
        require(self.time >= 2, f"time is {self.time}; it must be at least 2, one number for each half.")

    @property
    def d_in(self) -> int:
        """A number and its mark."""
        return 2

    @property
    def d_out(self) -> int:
        """The sum."""
        return 1

    def sequence(self, key: Array) -> tuple[Array, Array]:
        """Numbers and marks, (time, 2), and the sum, (1,)."""
        for_values, first, second = jr.split(key, 3)
        values, half = jr.uniform(for_values, (self.time,), jnp.float32), self.time // 2
        places = jnp.stack([jr.randint(first, (), 0, half), jr.randint(second, (), half, self.time)])
        marks = jnp.sum(jax.nn.one_hot(places, self.time, dtype=values.dtype), axis=0)
        return jnp.stack([values, marks], axis=1), jnp.sum(values * marks, keepdims=True)
