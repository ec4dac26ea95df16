"""Hidden Markov models: families, exact filters, and the task of knowing the state that is hidden."""

from dualform.tasks.hmm.affine import carried
from dualform.tasks.hmm.chain import HMM
from dualform.tasks.hmm.families import cyclic_det, cyclic_hard, cyclic_rnd, random_hmm
from dualform.tasks.hmm.feedback import with_feedback
from dualform.tasks.hmm.filtering import Filtered
from dualform.tasks.hmm.judging import THRESHOLD, distances, estimates, fit_length, judged
from dualform.tasks.hmm.products import MatrixProduct, matrix_product
from dualform.tasks.hmm.source import Drawn, Source
from dualform.tasks.hmm.systems import Kalman, LinearSystem, linear_system
from dualform.tasks.hmm.task import FAMILIES, HiddenMarkov

__all__ = [
    "FAMILIES",
    "HMM",
    "THRESHOLD",
    "Drawn",
    "Filtered",
    "HiddenMarkov",
    "Kalman",
    "LinearSystem",
    "MatrixProduct",
    "Source",
    "carried",
    "cyclic_det",
    "cyclic_hard",
    "cyclic_rnd",
    "distances",
    "estimates",
    "fit_length",
    "judged",
    "linear_system",
    "matrix_product",
    "random_hmm",
    "with_feedback",
]
