"""From a path of layers to the weights of a network, one file for each family of architectures."""

from dualform.programs.emit import delta as _delta
from dualform.programs.emit import diagonal as _diagonal
from dualform.programs.emit import gated_rnn as _gated_rnn
from dualform.programs.emit import griffin as _griffin
from dualform.programs.emit import gru as _gru
from dualform.programs.emit import hawk as _hawk
from dualform.programs.emit import lstm as _lstm
from dualform.programs.emit import mamba as _mamba
from dualform.programs.emit import rnn as _rnn
from dualform.programs.emit.registration import Target, target, targets

__all__ = ["Target", "target", "targets"]

del _delta, _diagonal, _gated_rnn, _griffin, _gru, _hawk, _lstm, _mamba, _rnn
