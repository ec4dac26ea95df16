"""Traveling waves encode the recent past and enhance sequence learning."""

from dualform.experiments.reproduction import Paper
from dualform.experiments.wave.adding import ADDING
from dualform.experiments.wave.copying import COPYING

WAVE = Paper(
    name="wave",
    title="Traveling waves encode the recent past and enhance sequence learning",
    citation="Keller et al. 2023 (arXiv 2309.08045)",
    results={"adding": ADDING, "copying": COPYING},
)
