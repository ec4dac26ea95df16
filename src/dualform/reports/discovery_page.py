"""The report of `dualform discover`: a run folder in, one self-contained HTML page out."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from dualform import dual_form
from dualform.checkpoints import load_weights
from dualform.discover import monomial_names, output_kernels, polynomial, saliency, split_decays
from dualform.errors import FileError
from dualform.experiments.gated_rnn.evidence import (
    COLUMNS,
    MEANING,
    PAPER,
    UNKNOWNS,
    construction_sentence,
    recipe_name,
)
from dualform.experiments.gated_rnn.identification import Identification, data_of
from dualform.experiments.numerals import count, number
from dualform.mixers import AbstractMixer, GatedRNN, LinearAttention
from dualform.reading import json_of_file
from dualform.reports import figures
from dualform.reports.page import Section, Table, picture, render
from dualform.tasks import Teacher
from dualform.training import Run, write_atomically


def write_discovery_page(run: Path) -> Path:
    """Write `report.html` into a finished run folder of `dualform discover`, and return its path.

    **Raises:** `FileError` where the folder is not such a run, or the page cannot be written.
    """
    page = run / "report.html"
    write_atomically(page, discovery_page(run).encode())
    return page


def discovery_page(run: Path) -> str:
    """The page's HTML, from the run's files alone."""
    result, config = _json(run / "result.json"), _json(run / "config.json")
    teacher = Teacher.load(run / "teacher.safetensors")
    student, network, recovered = (
        load_weights(run / f"{name}.safetensors") for name in ("student", "weights", "recovered")
    )
    assert isinstance(student, GatedRNN) and isinstance(network, GatedRNN) and isinstance(recovered, LinearAttention)
    began = config["config"]["identification"]
    held_out = _held_out(teacher, began)
    sections = [
        _evidence(result),
        _training(run, result, began["by_position"]),
        _weights(student, network),
        _decays(student, network, held_out, result),
        _reduction(result),
        _polynomial(network, teacher.attention),
        _kernels(network),
        _maps(network, recovered, teacher, held_out[0]),
        _unknowns(config),
    ]
    return render(
        title="Does this gated RNN implement attention?",
        lead=f"A student of {began['n']} hidden and {began['m']} pre-readout units, of which training kept "
        f"{len(student.w_m_in)} and {student.readout.shape[1]}; teacher: {result['teacher']}. "
        f"{result['steps']} training steps, {result['seconds']:.0f} s in all.",
        verdict=result["verdict"].capitalize(),
        reasons=result["reasons"],
        sections=sections,
    )


def _json(path: Path) -> Any:
    content = json_of_file(path, "Make the run again.")
    if content is None:
        raise FileError(f"{path} is missing: the run has not finished. Go on with `dualform discover`.")
    return content


def _held_out(teacher: Teacher, began: Mapping[str, Any]) -> Float[np.ndarray, "sequence time d"]:
    """The sequences that the evidence was measured on: no token of them was trained on, or showed what a unit is worth."""
    return data_of(teacher, Identification(**{name: began[name] for name in ("time", "batch", "seed")})).test


def _evidence(result: Mapping[str, Any]) -> Section:
    baseline = result.get("paper_recipe")
    beside = [""] if baseline else []
    rows = [["verdict", *(result[name]["verdict"] for name in COLUMNS), "", *beside, "on this network alone"]]
    for key, meaning in MEANING.items():
        written = count if isinstance(PAPER[key], int) else number
        row = [
            meaning.name,
            *(written(column[key]) for column in (*(result[name] for name in COLUMNS), PAPER)),
        ]
        rows.append([*row, *([written(baseline[key])] if baseline else []), meaning.proves])
    rows.append(
        ["recovered weights", *(number(result[name]["recovered_error"]) for name in COLUMNS), "", *beside]
        + ["relative error of the outputs of the attention read back from the network"]
    )
    head = ["number", *COLUMNS, "paper", *([recipe_name(result["steps"])] if baseline else []), "what it is"]
    return Section(
        "The evidence",
        [
            "Three networks, each judged by itself on held-out tokens, beside Table 1 of the paper (d = 4). Trained: AdamW "
            "in float32 and nothing else. Reduced: the same network after algebra on its weights; units went only where an "
            "ablation on held-out tokens did not miss them, and nothing was fitted to the teacher. The verdict above rests "
            "on these two. Polished: the trained network after a second stage, Levenberg-Marquardt in float64, which adds no "
            "unit and forces no decay. A small loss alone proves nothing: read the numbers together.",
            construction_sentence(result),
        ],
        Table(head, rows, numeric=range(1, len(head) - 1)),
    )


def _training(run: Path, result: Mapping[str, Any], by_position: bool) -> Section:
    metrics = Run(run).metrics()
    named = {"train": "AdamW", "paper recipe": "paper's recipe"}
    polishing = [m["loss"] for m in metrics if m["stage"] == "polish"]
    curves = {
        named[stage]: (
            [m["step"] for m in metrics if m["stage"] == stage],
            [m["loss"] for m in metrics if m["stage"] == stage],
        )
        for stage in sorted({m["stage"] for m in metrics} & set(named), reverse=True)
    }
    stages = {"reduced": result["reduced"]["relative_loss"]}
    return Section(
        "Learning",
        [
            f"AdamW ended at a relative loss of {number(result['trained']['relative_loss'])} on held-out tokens, with "
            f"{result['trained']['memory_units']} units at 1, {result['trained']['forget_units']} at 0 and "
            f"{result['trained']['other_units']} between. The curve is the loss that was trained on"
            + (", each position's error over that position's power." if by_position else ".")
            + " Polishing starts from there, and the verdict does not rest on it."
        ],
        figures=[
            picture(
                figures.learning(curves, polishing, stages),
                "Loss over the target's power: AdamW by steps; apart, polishing by iterations.",
            )
        ],
    )


def _weights(student: GatedRNN, network: GatedRNN) -> Section:
    return Section(
        "The weights, before and after",
        ["As Fig. 2A of the paper. Blue is positive, red negative, grey zero, each matrix on its own scale."],
        figures=[
            picture(figures.weights(student, "after training"), "As AdamW left them; units in no order."),
            picture(
                figures.weights(network, "reduced and arranged"),
                "The reduced network. Units at 1 come first: they take in products of two linear functions of the token and "
                "see no constant (last column of the input gates). Units at 0 take in a linear function times the constant. "
                "One output gate reads the first, the other the second.",
            ),
        ],
    )


def _decays(student: GatedRNN, network: GatedRNN, inputs, result: Mapping[str, Any]) -> Section:
    from dualform.training.second_order import weights_of

    ablation = result["ablation"]
    names = {
        "whole": "all units",
        "without_between": "without units between 0.01 and 0.99",
        "without_memory": "without units at 1",
        "without_forget": "without units at 0",
        "only_between": "units between alone",
    }
    table = Table(
        ["trained student", "relative loss"], [[names[key], number(ablation[key])] for key in names], numeric=[1]
    )
    drawn = figures.decays(weights_of(student).decay, saliency(student, inputs).hidden, weights_of(network).decay)
    return Section(
        "Only units at 0 and 1 matter",
        [
            "Groups of units are taken out of the student as AdamW left it, before any reduction, and nothing else is "
            "changed."
        ],
        table,
        [
            picture(
                drawn,
                "Left: each unit's decay against its share of the output's power on held-out tokens, as trained. Right: what "
                "the reduction left.",
            )
        ],
    )


def _reduction(result: Mapping[str, Any]) -> Section:
    polishing = [{**stage, "name": f"apart, {stage['name']}"} for stage in result["polished"]["stages"]]
    rows = [
        [
            s["name"],
            number(s["thrown_away"]),
            number(s["relative_loss"]),
            str(s["hidden_units"]),
            str(s["readout_units"]),
        ]
        for s in (*result["stages"], *polishing)
    ]
    return Section(
        "What the reduction did",
        [
            "Each step says what it threw away: the mean squared change of the outputs, as a share of the target's power. "
            f"In all, the outputs moved by {number(result['moved'])}. The last two are the second stage, which goes on from the "
            "trained network and not from its reduction."
        ],
        Table(["step", "thrown away", "relative loss after", "hidden", "pre-readout"], rows, numeric=[1, 2, 3, 4]),
    )


def _polynomial(network: GatedRNN, attention: LinearAttention) -> Section:
    drawn = figures.coefficients(monomial_names(attention.d_in), polynomial(network), polynomial(attention))
    return Section(
        "The same polynomial",
        [
            "From an empty state, both are polynomials of the token. Their coefficients follow from the weights by algebra; no "
            "input is sampled, so that this holds off the training distribution too."
        ],
        figures=[
            picture(drawn, "Every coefficient to degree 4: bars are the attention's, points the reduced network's.")
        ],
    )


def _kernels(network: GatedRNN) -> Section:
    memory = len(split_decays(network).memory)
    return Section(
        "What the readout multiplies",
        ["Each output is a quadratic form in the hidden state (as Fig. 2C of the paper)."],
        figures=[
            picture(
                figures.kernels(output_kernels(network), memory),
                "Units at 1 before the line, units at 0 after it. Only the off-diagonal blocks, memory times query, are used.",
            )
        ],
    )


def _maps(network: GatedRNN, recovered: LinearAttention, teacher: Teacher, x: Float[np.ndarray, "time d"]) -> Section:
    forms = {
        "attention (teacher)": _form(teacher.attention, x),
        "gated RNN (student)": _form(network, x),
        "attention read back": _form(recovered, x),
    }
    error = np.linalg.norm(forms["gated RNN (student)"].contributions - forms["attention (teacher)"].contributions)
    error /= np.linalg.norm(forms["attention (teacher)"].contributions)
    residuals = ", ".join(f"{name}: {form.residual:.0e}" for name, form in forms.items())
    shares = {name: form.share for name, form in forms.items()}
    limit = float(np.quantile(np.abs(shares["attention (teacher)"]), 0.995))
    kind = "the teacher's own input" if teacher.inputs is not None else "Gaussian input"
    return Section(
        "What it attends to",
        [
            f"What each output takes from each token of a held-out sequence of {kind}, as a signed share of the output, from the "
            "dual form of each. "
            f"The student's contributions are the teacher's to {number(float(error))} (relative, over all tokens and channels).",
            f"Certificates, ||sum of contributions - output|| / ||output||: {residuals}.",
        ],
        figures=[picture(figures.maps(shares, limit), "Rows are the tokens that read, columns the tokens read from.")],
    )


class _Map(NamedTuple):
    """A dual form on the host: contributions, the share of each output that each token brings, the certificate."""

    contributions: Float[np.ndarray, "time source d_out"]
    share: Float[np.ndarray, "time source"]
    residual: float


def _form(mixer: AbstractMixer, x: Float[np.ndarray, "time d"]) -> _Map:
    with jax.enable_x64(True):
        widen = lambda a: jnp.asarray(np.asarray(a), jnp.float64) if eqx.is_inexact_array(a) else a
        wide = jax.tree_util.tree_map(widen, mixer)
        form = jax.jit(lambda x: dual_form(wide, x))(jnp.asarray(x))
        return _Map(np.asarray(form.contributions), np.asarray(form.aggregate()[0]), float(form.residual))


def _unknowns(config: Mapping[str, Any]) -> Section:
    return Section(
        "What the paper does not say, and what was taken here",
        table=Table(["unknown", "taken here"], UNKNOWNS),
        code=json.dumps(config, indent=1),
    )
