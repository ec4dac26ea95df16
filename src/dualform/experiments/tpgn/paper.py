"""PGN: the RNN's new successor is effective for long-range time series forecasting."""

from dualform.experiments.reproduction import Paper
from dualform.experiments.tpgn.etth1 import FORECAST
from dualform.experiments.tpgn.horizons import LONGER

TPGN = Paper(
    name="tpgn",
    title="PGN: The RNN's new successor is effective for long-range time series forecasting",
    citation="Jia et al. 2024 (arXiv 2409.17703)",
    results={"etth1": FORECAST, "longer": LONGER},
)
