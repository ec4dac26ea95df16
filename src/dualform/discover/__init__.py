"""Trained RNN -> attention: merge, prune, split, reduce, score, compare, recover. Each stage can be used alone."""

from dualform.discover.arrangement import arrange
from dualform.discover.decays import Ablation, Split, ablate, set_decays, split_decays
from dualform.discover.discovery import Discovery, Stage, discover
from dualform.discover.forms import effective_tensor, input_forms, output_kernels
from dualform.discover.lags import errors_by_length
from dualform.discover.merge import merge_equivalent
from dualform.discover.polynomials import monomial_names, polynomial, polynomial_distance
from dualform.discover.recover import Recovered, recover_attention
from dualform.discover.reduction import Reduced, least_power, reduce
from dualform.discover.scores import kv_score, q_score
from dualform.discover.units import Saliency, keep_units, prune, relative_loss, remove_idle, saliency, targets
from dualform.discover.verdict import Evidence, Judged, Limits, measure

__all__ = [
    "Ablation",
    "Discovery",
    "Evidence",
    "Judged",
    "Limits",
    "Recovered",
    "Reduced",
    "Saliency",
    "Split",
    "Stage",
    "ablate",
    "arrange",
    "discover",
    "effective_tensor",
    "errors_by_length",
    "input_forms",
    "keep_units",
    "kv_score",
    "least_power",
    "measure",
    "merge_equivalent",
    "monomial_names",
    "output_kernels",
    "polynomial",
    "polynomial_distance",
    "prune",
    "q_score",
    "recover_attention",
    "reduce",
    "relative_loss",
    "remove_idle",
    "saliency",
    "set_decays",
    "split_decays",
    "targets",
]
