"""Training: one compiled loop, any optax transformation, run folders, and resuming to the bit."""

from dualform.tasks.scores import NO_TARGET, cross_entropy
from dualform.tensor_file import write_atomically
from dualform.training.batches import batched, mean_squared_error
from dualform.training.carried import Carried
from dualform.training.checkpoints import Checkpoints
from dualform.training.config import FitConfig
from dualform.training.ensemble import FittedEnsemble, fit_ensemble
from dualform.training.event_files import to_tensorboard
from dualform.training.fitting import Fitted, Progress, fit
from dualform.training.hosts import joined
from dualform.training.keeping import resume
from dualform.training.optimiser import adamw
from dualform.training.parameters import decayed, trainable
from dualform.training.run import Run
from dualform.training.second_order import Polished, SecondOrder, levenberg_marquardt
from dualform.training.state import TrainState, initial_state, select_units, silence_units
from dualform.training.step import make_chunk
from dualform.training.sweeps import Job, Row, run_job, sweep
from dualform.training.together import fit_together

__all__ = [
    "NO_TARGET",
    "Carried",
    "Checkpoints",
    "FitConfig",
    "Fitted",
    "FittedEnsemble",
    "Job",
    "Polished",
    "Progress",
    "Row",
    "Run",
    "SecondOrder",
    "TrainState",
    "adamw",
    "batched",
    "cross_entropy",
    "decayed",
    "fit",
    "fit_ensemble",
    "fit_together",
    "initial_state",
    "joined",
    "levenberg_marquardt",
    "make_chunk",
    "mean_squared_error",
    "resume",
    "run_job",
    "select_units",
    "silence_units",
    "sweep",
    "to_tensorboard",
    "trainable",
    "write_atomically",
]
