"""`dualform construct`: write an attention into the weights of an RNN."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp

from dualform.commands.options import Options, Read
from dualform.errors import require

GATED = ("full", "compact", "low-rank", "side-gated")
"""The forms that are gated RNNs; the others are stacks."""


@dataclass(frozen=True)
class Construct(Options):
    """Write an attention into the weights of an RNN, exactly, and certify it."""

    teacher: str = "default"
    """An embedded head's name, "gaussian", or a safetensors file with w_v, w_k, w_q and, if any, w_o, inputs."""
    form: Literal["full", "compact", "low-rank", "side-gated", "lru-out", "lru-in-out", "lru-in-skip", "lstm"] = (
        "compact"
    )
    """Which construction: the first four are gated RNNs and exact; the others are stacks whose gates are linearised."""
    layers: int | None = None
    """Layers of a stack; the fewest that serve by default."""
    d: int | None = None
    """Width of a Gaussian teacher; 4 by default."""
    rank: int | None = None
    """Rank of a Gaussian teacher's W_V; full by default."""
    seed: int = 0
    """Of a Gaussian teacher and of the certificate's random input."""
    tolerance: float | None = None
    """Of a gated RNN: singular values below this share of the largest count as 0; 2.5e-13 by default. Weights rounded to float32
    have a rank only up to 1e-6."""
    out: Path | None = None
    """Where to save the RNN (safetensors)."""
    RULES: ClassVar = (
        Read(
            ("d", "rank"), lambda given: given.teacher == "gaussian", "of --teacher gaussian; every other has its own."
        ),
        Read(("layers",), lambda given: given.form not in GATED, "of the stacks; a gated RNN is one layer."),
        Read(("tolerance",), lambda given: given.form in GATED, "of the gated RNNs; a stack has no rank to find."),
    )

    def __call__(self) -> int:
        """Run it, and return the exit code."""
        from dualform.checkpoints import save_weights
        from dualform.construct import build, build_stack
        from dualform.construct.low_rank import TOLERANCE
        from dualform.counts import key_of
        from dualform.reports.console import Console
        from dualform.tasks import Teacher
        from dualform.tensor_file import check_writable

        self.check_options()
        tolerance = TOLERANCE if self.tolerance is None else self.tolerance
        require(
            0 <= tolerance < 1,
            f"--tolerance {tolerance}: give a share of the largest singular value, from 0 to below 1.",
        )
        if self.out is not None:
            check_writable(self.out)
        with jax.enable_x64(True):  # a rank is exact in float64, and so is what is saved
            teacher = Teacher.find(
                self.teacher, d=4 if self.d is None else self.d, rank=self.rank, seed=self.seed, dtype=jnp.float64
            )
            _check_fits(teacher.attention, self.form)
            if self.form not in GATED:
                stacked = build_stack(
                    teacher.attention, self.form, teacher.inputs, layers=self.layers, key=key_of(self.seed)
                )
                if self.out is not None:
                    save_weights(self.out, stacked.stack)
                Console().stack(stacked, teacher.name, self.out)
                return 0
            built = build(teacher.attention, self.form, teacher.inputs, key=key_of(self.seed), tolerance=tolerance)
            if self.out is not None:
                save_weights(self.out, built.rnn)
        Console().construction(built, teacher.name, self.out)
        return 0


def _check_fits(attention: Any, form: str) -> None:
    """Raise `InputError` where the weights of such an RNN, or the products that a stack is made of, do not fit into memory."""
    from dualform.room import check_fits

    (heads, d_v, d), d_k = attention.w_v.shape, attention.w_k.shape[1]
    units = heads * min(d_v, d) * min(d_k, d)
    numbers = 5 * units * (d + 1) if form in GATED else units * units
    check_fits(8 * numbers, f"{form} of an attention of width {d:,}", "Give a narrower teacher.")
