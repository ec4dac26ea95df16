"""Trained RNN -> attention: prune, split, merge, reduce, score, compare, recover. Each stage can be used alone."""

from dualform.discover.arrange import arrange
from dualform.discover.decays import Ablation, Split, ablate, set_decays, settle_decays, split_decays
from dualform.discover.discovery import Discovery, Evidence, Limits, Stage, discover, measure
from dualform.discover.forms import effective_tensor, input_forms, output_kernels
from dualform.discover.merge import merge_equivalent
from dualform.discover.polynomial import monomial_names, polynomial, polynomial_distance
from dualform.discover.recover import Recovered, recover_attention
from dualform.discover.reduce import Reduced, reduce
from dualform.discover.scores import kv_score, q_score
from dualform.discover.units import Saliency, keep_units, prune, relative_loss, saliency, targets

__all__ = [
    "Ablation",
    "Discovery",
    "Evidence",
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
    "input_forms",
    "keep_units",
    "kv_score",
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
    "saliency",
    "set_decays",
    "settle_decays",
    "split_decays",
    "targets",
]
