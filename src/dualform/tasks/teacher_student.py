"""Teacher and student: fresh sequences and what the teacher's attention says to them, made on the device."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float

from dualform.errors import require
from dualform.tasks.teacher import Teacher


class TeacherStudent(eqx.Module):
    """Pairs of inputs and the teacher's outputs.

    Inputs are standard normal where the teacher has none (the paper does not say what its inputs are), else windows of
    `time` tokens at random places of the teacher's own sequences.

    **Arguments:** teacher; time: tokens of a sequence; batch: sequences of a sample.

    **Raises:** `InputError` where a size is below 1, or the teacher's inputs are shorter than a window.

    **Source:** Sec. 3 of Zucchet et al. 2023 (arXiv 2309.01775): time 32, batch 64, every sequence seen once.
    """

    teacher: Teacher
    time: int = eqx.field(static=True, default=32)
    batch: int = eqx.field(static=True, default=64)

    def __check_init__(self):
        require(
            self.time >= 1 and self.batch >= 1, f"time is {self.time} and batch {self.batch}; both must be at least 1."
        )
        inputs = self.teacher.inputs
        require(
            inputs is None or inputs.shape[1] >= self.time,
            f"the teacher's inputs have {0 if inputs is None else inputs.shape[1]} tokens, fewer than the window of "
            f"{self.time}; give longer ones, or a smaller time.",
        )

    def sample(self, key: Array) -> tuple[Float[Array, "batch time d"], Float[Array, "batch time d_out"]]:
        """Inputs and the teacher's outputs: pure, and made to be compiled into the training loop."""
        x = self.inputs(key)
        return x, jax.vmap(lambda x: self.teacher.attention(x)[0])(x)

    def inputs(self, key: Array) -> Float[Array, "batch time d"]:
        """The inputs alone."""
        source = self.teacher.inputs
        if source is None:
            weights = self.teacher.attention.w_v
            return jr.normal(key, (self.batch, self.time, weights.shape[-1]), weights.dtype)
        for_sequence, for_place = jr.split(key)
        sequence = jr.randint(for_sequence, (self.batch,), 0, source.shape[0])
        place = jr.randint(for_place, (self.batch,), 0, source.shape[1] - self.time + 1)
        return source[sequence[:, None], place[:, None] + jnp.arange(self.time)[None]]

    def target_power(self, key: Array, batches: int = 64) -> float:
        """The mean square of the teacher's output, over `batches` samples: what a loss is divided by.

        It depends on nothing but the key and the task.
        """
        return float(jnp.mean(self.target_powers(key, batches)))

    def target_powers(self, key: Array, batches: int = 64) -> Float[Array, " time"]:
        """The same for each position: what is remembered grows, and the outputs with it."""
        return jnp.mean(_powers(self, jr.split(key, batches)), axis=0)


@eqx.filter_jit
def _powers(task: TeacherStudent, keys: Array) -> Float[Array, "sample time"]:
    """The mean square of the teacher's output at each position of each sample."""
    return jax.lax.map(lambda key: jnp.mean(jnp.square(task.sample(key)[1]), axis=(0, 2)), keys)
