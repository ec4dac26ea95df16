"""Fig. 1: weights of a gated RNN that implement linear self-attention, and the number that proves it."""

import jax.random as jr
import numpy as np

from dualform.construct import build
from dualform.experiments.reproduction import Experiment, Findings, Number, Workshop, at_most
from dualform.tasks import Teacher

COUNTS = {"full": (20, 16), "compact": (14, 10)}
"""Hidden and pre-readout units for d = 4: d^2 + d and d^2 (Sec. 2.1), d (d + 1) / 2 + d and d (d + 1) / 2 (Sec. 2.2)."""


def _run(workshop: Workshop, preset: str) -> Findings:
    del workshop
    numbers, data = [], {}
    seeds = {"quick": 3, "full": 20}[preset]
    for form, (hidden, readout) in COUNTS.items():
        built = [build(Teacher.gaussian(4, key=jr.key(seed)).attention, form) for seed in range(seeds)]
        counts = {
            (one.certificate.memory_units + one.certificate.forget_units, one.certificate.readout_units)
            for one in built
        }
        numbers.append(
            Number(
                f"{form}: hidden and pre-readout units",
                f"{hidden} and {readout}",
                " / ".join(f"{n} and {m}" for n, m in sorted(counts)),
                f"the same for {seeds} teachers",
                "met" if counts == {(hidden, readout)} else "differs",
            )
        )
        error = max(one.certificate.error for one in built)
        numbers.append(
            at_most(f"{form}: relative error of the outputs", None, error, 1e-12, "exact, but for rounding of float64")
        )
        rnn = built[0].rnn
        names = ("w_m_in", "w_x_in", "w_m_out", "w_x_out", "readout", "decay")
        data[form] = {name: np.asarray(getattr(rnn, name)).round(6).tolist() for name in names}
    return Findings(numbers, data, seeds)


FIG1 = Experiment(
    "Fig. 1: an attention written into a gated RNN",
    (("one step late", "Eq. 2 as printed reads h before x_t is in it; h is updated first, or nothing is exact"),),
    _run,
)
