"""The dual form: contributions, weights and the certificate, of a mixer, of any block, and of a whole model."""

from dualform.dual.as_rnn import attention_as_rnn
from dualform.dual.attribution import Attribution, Curves, attribute, perturbation_curves
from dualform.dual.form import DualForm, dual_form
from dualform.dual.frozen import Frozen, freeze
from dualform.dual.layer import LayerForm, layer_form
from dualform.dual.model_forms import Agreement, LogitForm, ModelForm, model_form
from dualform.dual.state_form import state_shares
from dualform.dual.views import to_bertviz, to_circuitsvis

__all__ = [
    "Agreement",
    "Attribution",
    "Curves",
    "DualForm",
    "Frozen",
    "LayerForm",
    "LogitForm",
    "ModelForm",
    "attention_as_rnn",
    "attribute",
    "dual_form",
    "freeze",
    "layer_form",
    "model_form",
    "state_shares",
    "perturbation_curves",
    "to_bertviz",
    "to_circuitsvis",
]
