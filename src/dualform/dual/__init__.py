"""The dual form of a mixer: contributions, weights and the certificate."""

from dualform.dual.form import DualForm, dual_form

__all__ = ["DualForm", "dual_form"]
