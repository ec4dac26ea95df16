"""Unlocking state-tracking in linear RNNs through negative eigenvalues."""

from dualform.experiments.reproduction import Paper
from dualform.experiments.state_tracking.languages import LANGUAGES
from dualform.experiments.state_tracking.parity import PARITY

STATE_TRACKING = Paper(
    name="state-tracking",
    title="Unlocking state-tracking in linear RNNs through negative eigenvalues",
    citation="Grazzi et al. 2024 (arXiv 2411.12537)",
    results={"parity": PARITY, "languages": LANGUAGES},
)
