"""`dualform construct`: write an attention into the weights of an RNN."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import jax
import jax.numpy as jnp

from dualform.commands import flags
from dualform.commands.flags import option
from dualform.commands.options import Options, Read
from dualform.errors import require

GATED = ("full", "compact", "low-rank", "side-gated")
"""The forms that are gated RNNs; the others are stacks."""


@dataclass(frozen=True)
class Construct(Options):
    """Write an attention into the weights of an RNN, exactly, and certify it."""

    teacher: Annotated[str, flags.teacher()] = "default"
    form: Annotated[
        Literal["full", "compact", "low-rank", "side-gated", "lru-out", "lru-in-out", "lru-in-skip", "lstm"],
        option(
            None,
            "Which construction: the first four are gated RNNs and exact; the others are stacks whose gates are linearised.",
        ),
    ] = "compact"
    layers: Annotated[
        int | None, option("N", "Layers of a stack. In training, residual blocks.", "the fewest that serve")
    ] = None
    d: Annotated[int | None, flags.width("4")] = None
    rank: Annotated[int | None, flags.RANK] = None
    seed: Annotated[int, flags.seed()] = 0
    tolerance: Annotated[
        float | None,
        option(
            "SHARE",
            "Of a gated RNN: singular values below this share of the largest count as 0. Weights rounded to float32 have a "
            "rank only up to 1e-6.",
            "2.5e-13",
        ),
    ] = None
    out: Annotated[Path | None, flags.out("The RNN's weights, as safetensors.", "nowhere")] = None
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
        from dualform.reports.terminal import Terminal
        from dualform.reports.terminal import construct as prints
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
                prints.stack(Terminal(), stacked, teacher.name, self.out)
                return 0
            built = build(teacher.attention, self.form, teacher.inputs, key=key_of(self.seed), tolerance=tolerance)
            if self.out is not None:
                save_weights(self.out, built.rnn)
        prints.construction(Terminal(), built, teacher.name, self.out)
        return 0


def _check_fits(attention: Any, form: str) -> None:
    """Raise `InputError` where the weights of such an RNN, or the products that a stack is made of, do not fit into memory."""
    from dualform.room import check_fits

    (heads, d_v, d), d_k = attention.w_v.shape, attention.w_k.shape[1]
    units = heads * min(d_v, d) * min(d_k, d)
    numbers = 5 * units * (d + 1) if form in GATED else units * units
    check_fits(8 * numbers, f"{form} of an attention of width {d:,}", "Give a narrower teacher.")
