"""`dualform construct`: write an attention into the weights of an RNN."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import jax
import jax.numpy as jnp

from dualform.errors import require


@dataclass(frozen=True)
class Construct:
    """Write an attention into the weights of an RNN, exactly, and certify it."""

    teacher: str = "default"
    """An embedded head's name, "gaussian", or a safetensors file with w_v, w_k, w_q and, if any, w_o, inputs."""
    form: Literal["full", "compact", "low-rank", "side-gated", "lru-out", "lru-in-out", "lru-in-skip", "lstm"] = (
        "compact"
    )
    """Which construction: the first four are gated RNNs and exact; the others are stacks whose gates are linearised."""
    layers: int | None = None
    """Layers of a stack; the fewest that serve by default."""
    d: int = 4
    """Width of a Gaussian teacher."""
    rank: int | None = None
    """Rank of a Gaussian teacher's W_V; full by default."""
    seed: int = 0
    """Of a Gaussian teacher and of the certificate's random input."""
    tolerance: float = 2.5e-13
    """Singular values below this share of the largest count as 0. Weights rounded to float32 have a rank only up to 1e-6."""
    out: Path | None = None
    """Where to save the RNN (safetensors)."""

    def __call__(self) -> int:
        """Run it, and return the exit code."""
        from dualform.construct import STACKS, build, build_stack
        from dualform.counts import key_of
        from dualform.reports.console import Console
        from dualform.tasks import Teacher
        from dualform.tensor_file import check_writable
        from dualform.training import save_weights

        if self.out is not None:
            check_writable(self.out)
        with jax.enable_x64(True):  # a rank is exact in float64, and so is what is saved
            teacher = Teacher.find(self.teacher, d=self.d, rank=self.rank, seed=self.seed, dtype=jnp.float64)
            if self.form in STACKS:
                stacked = build_stack(
                    teacher.attention, self.form, teacher.inputs, layers=self.layers, key=key_of(self.seed)
                )
                if self.out is not None:
                    save_weights(self.out, stacked.stack)
                Console().stack(stacked, teacher.name, self.out)
                return 0
            require(self.layers is None, f"--layers is of the stacks {', '.join(STACKS)}; {self.form} is one layer.")
            built = build(teacher.attention, self.form, teacher.inputs, key=key_of(self.seed), tolerance=self.tolerance)
            if self.out is not None:
                save_weights(self.out, built.rnn)
        Console().construction(built, teacher.name, self.out)
        return 0
