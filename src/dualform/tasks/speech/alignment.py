"""An alignment held to the timings of what was spoken: what is read again, what is passed over, and how far off the rest is."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from dualform.errors import require


@dataclass(frozen=True)
class AlignmentErrors:
    """What is wrong with an alignment.

    - phonemes: how many of the text are said in at least one frame.  repeats: how often reading one of the text begins that was
      read before, or that lies before one that was.  skips: how many of those that are said are read in no frame.
    - distance: median over those that are read of how many frames lie between the first in which one is read and the first in
      which it is said; NaN where none is.
    """

    phonemes: int
    repeats: int
    skips: int
    distance: float

    @property
    def repeats_per_100(self) -> float:
        """Of 100 phonemes."""
        return 100 * self.repeats / self.phonemes

    @property
    def skips_per_100(self) -> float:
        """Of 100 phonemes."""
        return 100 * self.skips / self.phonemes


def alignment_errors(weights: Float[np.ndarray, "frame text"], said: Int[np.ndarray, " frame"]) -> AlignmentErrors:
    """The errors of where frames read, each at its largest weight, the first of several.

    **Arguments:** weights: of an alignment, a head of `SpeechModel.alignments`; said: which phoneme of the text is said in each
    frame, by number, such as `utterance.phoneme_at(places)` of the samples in the frames' middles.

    **Raises:** `InputError` where shapes do not fit, there is no frame, a weight is not finite, or a number is none of the text.
    """
    weights, said = np.asarray(weights), np.asarray(said)
    require(
        weights.ndim == 2 and 0 not in weights.shape and said.shape == weights.shape[:1],
        f"weights {weights.shape} and said {said.shape} do not fit; give (frame, text) and (frame,).",
    )
    require(bool(np.isfinite(weights).all()), "a weight is NaN or infinite.")
    require(
        bool((said >= 0).all() and (said < weights.shape[1]).all()),
        f"said has a number outside of 0 to {weights.shape[1] - 1}.",
    )
    read = weights.argmax(axis=1)
    begins = np.flatnonzero(np.concatenate([[True], read[1:] != read[:-1]]))
    places = read[begins]
    before = np.maximum.accumulate(places)[:-1]
    there, first_said = np.unique(said, return_index=True)
    found, first_read = np.unique(read, return_index=True)
    both, of_said, of_read = np.intersect1d(there, found, return_indices=True)
    distance = np.median(np.abs(first_said[of_said] - first_read[of_read])) if len(both) else np.nan
    return AlignmentErrors(len(there), int((places[1:] <= before).sum()), len(there) - len(both), float(distance))
