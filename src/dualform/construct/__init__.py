"""construct: attention written into the weights of an RNN, exactly, with a certificate."""

from dualform.construct.build import FORMS, Construction, build, gated_rnn, side_gated_rnn
from dualform.construct.certificate import Certificate

__all__ = ["FORMS", "Certificate", "Construction", "build", "gated_rnn", "side_gated_rnn"]
