"""Universal in-context approximation by prompting fully recurrent models: the language LSRL."""

from dualform.experiments.lsrl.fine_tuning import FINE_TUNING
from dualform.experiments.lsrl.networks import NETWORKS
from dualform.experiments.lsrl.noise import NOISE
from dualform.experiments.lsrl.noise_vec2vec import NOISE_VEC2VEC
from dualform.experiments.reproduction import Paper

LSRL = Paper(
    name="lsrl",
    title="Universal in-context approximation by prompting fully recurrent models",
    citation="Petrov et al. 2024 (arXiv 2406.01424)",
    results={"noise": NOISE, "noise-vec2vec": NOISE_VEC2VEC, "networks": NETWORKS, "fine-tuning": FINE_TUNING},
)
