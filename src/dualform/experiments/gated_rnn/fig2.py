"""Fig. 2: the weights of a student that has identified its teacher, and how near they are to the construction's blocks."""

import jax
import numpy as np
from jaxtyping import Float

from dualform.checkpoints import load_weights
from dualform.discover import output_kernels
from dualform.experiments.gated_rnn.evidence import UNKNOWNS
from dualform.experiments.gated_rnn.table1 import jobs
from dualform.experiments.reproduction import Experiment, Findings, Workshop, at_most, ours_alone, results_of
from dualform.mixers import GatedRNN, LinearAttention
from dualform.tasks import Teacher
from dualform.training import Run


def outside_the_blocks(rnn: GatedRNN) -> dict[str, float]:
    """How far a network is from the construction: shares of squared norm where the construction has zeros.

    **Returns:**

    - memory_input: terms of degree 0 and 1 in what units at 1 receive (they hold products of two coordinates).
    - forget_input: terms of degree 0 and 2 in what units at 0 receive (they hold coordinates).
    - readout: products of two units of one kind in the outputs (a memory is read by a query).
    """
    decay = np.asarray(rnn.decay)
    memory, forget = decay > 0.99, decay < 0.01
    left, right = np.asarray(rnn.w_m_in, np.float64), np.asarray(rnn.w_x_in, np.float64)
    kernel = left[:, :, None] * right[:, None, :]
    kernel = (kernel + kernel.swapaxes(1, 2)) / 2
    quadratic = np.sum(kernel[:, :-1, :-1] ** 2, axis=(1, 2))
    linear = 2 * np.sum(kernel[:, :-1, -1] ** 2, axis=1)
    power = np.sum(kernel**2, axis=(1, 2))
    share = lambda kept, of: float(max(0.0, 1 - np.sum(kept) / max(np.sum(of), 1e-300)))
    outputs = output_kernels(rnn)
    crossed = outputs[:, memory][:, :, forget]
    return {
        "memory_input": share(quadratic[memory], power[memory]),
        "forget_input": share(linear[forget], power[forget]),
        "readout": share(2 * crossed**2, outputs**2),
    }


def _run(workshop: Workshop, preset: str) -> Findings:
    done, failed = results_of(workshop.sweep("identification", jobs(1)))
    if not done:
        return Findings([], {}, 0, "The run failed.", failed)
    folder = workshop.runs("identification", jobs(1)) / "seed=0" / "run"
    with jax.enable_x64(True):
        rnn = load_weights(folder / "weights.safetensors", GatedRNN)
        teacher = Teacher.load(folder / "teacher.safetensors").attention
        assert isinstance(rnn, GatedRNN)
        shares = outside_the_blocks(rnn)
        data = {
            name: _plain(getattr(rnn, name)) for name in ("w_m_in", "w_x_in", "w_m_out", "w_x_out", "readout", "decay")
        }
    data |= {"kernels": _plain(output_kernels(rnn)), "teacher": _weights(teacher)}
    result = Run(folder).read_json("result.json")
    why = "zero in the construction; 1e-6 of the squared norm is a thousandth of a weight"
    numbers = [
        at_most("inputs of units at 1: terms of degree 0 or 1", None, shares["memory_input"], 1e-6, why),
        at_most("inputs of units at 0: terms of degree 0 or 2", None, shares["forget_input"], 1e-6, why),
        at_most("readout: products that are not memory times query", None, shares["readout"], 1e-6, why),
        at_most(
            "how far reduction moved the outputs of the network that AdamW trained, as a share of the target's power",
            None,
            result["moved"],
            1e-6,
            "the trained student had these blocks before, but for a change of basis",
        ),
        ours_alone("pre-readout units", rnn.readout.shape[1], "the paper shows 13, of which three act as one"),
    ]
    note = (
        "Another teacher than the paper's, whose weights are not given. Reduction writes the student that AdamW trained in the "
        "basis of the construction: that its blocks are exact follows, and what says that they were there is how little it moved."
    )
    return Findings(numbers, data, 1, note, failed)


def _plain(array) -> list:
    return np.asarray(array, np.float64).round(6).tolist()


def _weights(teacher: LinearAttention) -> dict[str, Float[np.ndarray, "d d"] | list]:
    return {name: _plain(getattr(teacher, name)[0]) for name in ("w_v", "w_k", "w_q")}


FIG2 = Experiment("Fig. 2: the weights of a student that identified its teacher", UNKNOWNS, _run)
