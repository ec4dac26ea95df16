"""What passes a model's places, looked at and changed; edges knocked out; what each layer would say; texts steered."""

from dualform.lenses.added import Added, Behind, StateAdded, with_behind, with_states_added
from dualform.lenses.erasure import Eraser, erase
from dualform.lenses.knockout import KnockOut, edge_effects, knock_out
from dualform.lenses.lens_training import LensConfig, LensLosses, Windows, lens_losses, train_lens
from dualform.lenses.readings import LensReading, lens_log_probabilities, logit_lens
from dualform.lenses.steering import (
    contrast,
    difference,
    random_like,
    steered,
    steered_perplexity,
    steered_session,
    steered_state,
)
from dualform.lenses.steering_vector import SteeringVector, steerable
from dualform.lenses.traces import Trace, trace
from dualform.lenses.tuned_lens import TunedLens, load_lens, save_lens

__all__ = [
    "Added",
    "Behind",
    "Eraser",
    "KnockOut",
    "LensConfig",
    "LensLosses",
    "LensReading",
    "StateAdded",
    "SteeringVector",
    "Trace",
    "TunedLens",
    "Windows",
    "contrast",
    "difference",
    "edge_effects",
    "erase",
    "knock_out",
    "lens_log_probabilities",
    "lens_losses",
    "load_lens",
    "logit_lens",
    "random_like",
    "save_lens",
    "steerable",
    "steered",
    "steered_perplexity",
    "steered_session",
    "steered_state",
    "trace",
    "train_lens",
    "with_behind",
    "with_states_added",
]
