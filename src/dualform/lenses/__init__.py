"""What passes a model's places, looked at, changed and exchanged; edges knocked out; what a layer would say; texts steered."""

from dualform.lenses.added import Added, Behind, StateAdded, with_behind, with_states_added
from dualform.lenses.erasure import Eraser, erase
from dualform.lenses.exchange import Interchange, interchange, onion_interchange
from dualform.lenses.knockout import KnockOut, edge_effects, knock_out
from dualform.lenses.lens_training import LensConfig, LensLosses, Windows, lens_losses, train_lens
from dualform.lenses.onion import Onion, token_effects
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
from dualform.lenses.subspaces import Subspaces
from dualform.lenses.traces import Trace, trace
from dualform.lenses.tuned_lens import TunedLens, load_lens, save_lens

__all__ = [
    "Added",
    "Behind",
    "Eraser",
    "Interchange",
    "KnockOut",
    "LensConfig",
    "LensLosses",
    "LensReading",
    "Onion",
    "StateAdded",
    "SteeringVector",
    "Subspaces",
    "Trace",
    "TunedLens",
    "Windows",
    "contrast",
    "difference",
    "edge_effects",
    "erase",
    "interchange",
    "knock_out",
    "lens_log_probabilities",
    "lens_losses",
    "load_lens",
    "logit_lens",
    "onion_interchange",
    "random_like",
    "save_lens",
    "steerable",
    "steered",
    "steered_perplexity",
    "steered_session",
    "steered_state",
    "token_effects",
    "trace",
    "train_lens",
    "with_behind",
    "with_states_added",
]
