"""What an output is owed to, input token by input token: one interface, several methods, and how faithful each one is."""

from dualform.dual.attribution.attributions import METHODS, Attribution, attribute
from dualform.dual.attribution.faithfulness import Curves, perturbation_curves

__all__ = ["METHODS", "Attribution", "Curves", "attribute", "perturbation_curves"]
