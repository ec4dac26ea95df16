"""construct: attention written into the weights of an RNN, exactly, with a certificate; into LRU and LSTM, linearised.

Beside them, exact filters of hidden states in the weights of an LSTM and of an LRU.
"""

from dualform.construct.certificate import Certificate
from dualform.construct.forms import FORMS, Construction, build, gated_rnn, side_gated_rnn
from dualform.construct.hidden_states import filter_lru, filter_lstm
from dualform.construct.into_lru import VARIANTS, lru
from dualform.construct.into_lstm import lstm
from dualform.construct.layers_needed import Row, table3
from dualform.construct.lstm_configuration import Table4, table4
from dualform.construct.scale import Curve, linearisation_curve
from dualform.construct.stacked import STACKS, StackConstruction, build_stack

__all__ = [
    "FORMS",
    "STACKS",
    "VARIANTS",
    "Certificate",
    "Construction",
    "Curve",
    "Row",
    "StackConstruction",
    "Table4",
    "build",
    "build_stack",
    "filter_lru",
    "filter_lstm",
    "gated_rnn",
    "linearisation_curve",
    "lru",
    "lstm",
    "side_gated_rnn",
    "table3",
    "table4",
]
