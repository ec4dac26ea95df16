"""Gated recurrent neural networks discover attention."""

from dualform.experiments.gated_rnn.fig1 import FIG1
from dualform.experiments.gated_rnn.fig2 import FIG2
from dualform.experiments.gated_rnn.fig3 import FIG3
from dualform.experiments.gated_rnn.fig4 import FIG4
from dualform.experiments.gated_rnn.fig5 import FIG5
from dualform.experiments.gated_rnn.in_context import IN_CONTEXT
from dualform.experiments.gated_rnn.scaling import SCALING
from dualform.experiments.gated_rnn.table1 import TABLE1
from dualform.experiments.gated_rnn.table2 import TABLE2
from dualform.experiments.gated_rnn.table3 import TABLE3
from dualform.experiments.gated_rnn.table4 import TABLE4
from dualform.experiments.reproduction import Paper

GATED_RNN = Paper(
    name="gated-rnn",
    title="Gated recurrent neural networks discover attention",
    citation="Zucchet et al. 2023 (arXiv 2309.01775)",
    results={
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
    },
)
