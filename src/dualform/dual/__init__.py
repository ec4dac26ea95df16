"""The dual form: contributions, weights and the certificate, of a mixer, of any block, and of a whole model."""

from dualform.dual.form import DualForm, dual_form
from dualform.dual.frozen import Frozen, freeze
from dualform.dual.layer import LayerForm, layer_form
from dualform.dual.model_form import Agreement, LogitForm, ModelForm, model_form
from dualform.dual.views import to_bertviz, to_circuitsvis

__all__ = [
    "Agreement",
    "DualForm",
    "Frozen",
    "LayerForm",
    "LogitForm",
    "ModelForm",
    "dual_form",
    "freeze",
    "layer_form",
    "model_form",
    "to_bertviz",
    "to_circuitsvis",
]
