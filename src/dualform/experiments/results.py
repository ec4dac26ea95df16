"""Every result that can be reproduced, by name."""

from dualform.errors import require
from dualform.experiments.fig1 import FIG1
from dualform.experiments.fig2 import FIG2
from dualform.experiments.fig3 import FIG3
from dualform.experiments.fig4 import FIG4
from dualform.experiments.fig5 import FIG5
from dualform.experiments.in_context import IN_CONTEXT
from dualform.experiments.reproduction import Experiment
from dualform.experiments.scaling import SCALING
from dualform.experiments.table1 import TABLE1
from dualform.experiments.table2 import TABLE2
from dualform.experiments.table3 import TABLE3
from dualform.experiments.table4 import TABLE4

RESULTS: dict[str, Experiment] = {
    "table1": TABLE1,
    "table2": TABLE2,
    "table3": TABLE3,
    "table4": TABLE4,
    "fig1": FIG1,
    "fig2": FIG2,
    "fig3": FIG3,
    "fig4": FIG4,
    "fig5": FIG5,
    "scaling": SCALING,
    "in-context": IN_CONTEXT,
}
"""The paper's tables and figures, then what goes beyond it."""


def chosen(name: str) -> dict[str, Experiment]:
    """The results that a name stands for: one, or `all`.

    **Raises:** `InputError` for an unknown name, listing the known ones.
    """
    require(name == "all" or name in RESULTS, f"there is no result {name!r}; there are {', '.join(RESULTS)}, and all.")
    return dict(RESULTS) if name == "all" else {name: RESULTS[name]}
