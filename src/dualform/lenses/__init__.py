"""What passes a model's places, looked at and changed; edges of its maps, knocked out; what each layer would say."""

from dualform.lenses.knockout import KnockOut, edge_effects, knock_out
from dualform.lenses.lens_training import LensConfig, LensLosses, Windows, lens_losses, train_lens
from dualform.lenses.readings import LensReading, lens_log_probabilities, logit_lens
from dualform.lenses.traces import Trace, trace
from dualform.lenses.tuned_lens import TunedLens, load_lens, save_lens

__all__ = [
    "KnockOut",
    "LensConfig",
    "LensLosses",
    "LensReading",
    "Trace",
    "TunedLens",
    "Windows",
    "edge_effects",
    "knock_out",
    "lens_losses",
    "lens_log_probabilities",
    "load_lens",
    "logit_lens",
    "save_lens",
    "trace",
    "train_lens",
]
