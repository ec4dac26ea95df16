"""Fig. 5: the runs of Fig. 4 against the number of parameters, with every form of the LRU, training and validation."""

import numpy as np

from dualform.experiments.gated_rnn.architectures import ARCHITECTURES
from dualform.experiments.gated_rnn.fig4 import GRIDS, UNKNOWNS, best, best_row, compare
from dualform.experiments.reproduction import Experiment, Findings, Number, Workshop, as_expected, at_least, ours_alone
from dualform.tasks import InContextRegression


def _run(workshop: Workshop, preset: str) -> Findings:
    teacher, failed = compare(workshop, preset, "teacher")
    regression, more = compare(workshop, preset, "regression")
    numbers = [_gating_helps(teacher)]
    ratios = [
        validation / train
        for row in teacher
        for validation, train in zip(row["validation"], row["train"], strict=True)
        if train > 0
    ]
    numbers.append(
        as_expected(
            "A: validation loss over training loss, median",
            1.0,
            float(np.median(ratios)) if ratios else float("nan"),
            0.3,
            "ours is of fresh sequences against the mean of the last chunk, which were fresh too",
            paper="almost the same",
        )
    )
    gated = best_row(regression, "gated_rnn")
    if "validation" in gated:
        doubled = [validation / loss for validation, loss in zip(gated["validation"], gated["loss"], strict=True)]
        numbers.append(
            as_expected(
                "B: gated RNN, validation loss (variance doubled) over training distribution's",
                2.0,
                float(max(doubled, key=lambda ratio: abs(ratio - 2))),
                0.1,
                "a map linear in W* has twice the loss at twice the variance; the seed furthest from it",
            )
        )
    data = {
        "teacher": teacher,
        "regression": regression,
        "optimal_loss": InContextRegression().one_step_loss(),
        "optimal_validation_loss": 2 * InContextRegression().one_step_loss(),
    }
    return Findings(numbers, data, GRIDS[preset]["seeds"], "The runs are those of Fig. 4.", [*failed, *more])


def _gating_helps(teacher) -> Number:
    """The paper: adding an input gate improves the LRU, with one layer and with more."""
    forms = {(row["architecture"], row["layers"]) for row in teacher}
    if ("lru_out", 1) in forms:
        ratio = best(teacher, "lru_out", 1) / best(teacher, "lru_in_out", 1)
        return at_least(
            "A: best loss of LRU Out over LRU In-Out, one layer", None, ratio, 2.0, "the input gate improves it clearly"
        )
    ratio = best(teacher, "lru_out") / best(teacher, "lru_in_out")
    return ours_alone(
        f"A: best loss of {ARCHITECTURES['lru_out']} (2 layers) over {ARCHITECTURES['lru_in_out']} (1 layer)",
        ratio,
        "the quick preset has no LRU Out of one layer",
    )


FIG5 = Experiment("Fig. 5: architectures against parameters", UNKNOWNS, _run)
