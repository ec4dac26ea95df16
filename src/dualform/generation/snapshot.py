"""What a session gives: a moment of it, and what was written."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array, Float, Int

from dualform.arrays import State
from dualform.generation.fingerprints import Fingerprint
from dualform.generation.history import bytes_of


class Written(NamedTuple):
    """What was written of one text.

    - tokens: (length,).  logprobs: (length,), the natural logarithm of each one's probability by the model, whatever the
      sampling made of it.
    - ended: whether one of `ends` came.
    """

    tokens: Int[np.ndarray, " length"]
    logprobs: Float[np.ndarray, " length"]
    ended: bool


@dataclass(frozen=True)
class Snapshot:
    """What a session remembers at one moment; nothing that the session does later changes it.

    - tokens: (time,), all that were read so far; of several texts a list of such.  calls: (call,) or (call, text), how many
      each compiled call read, in order.
    - state: of the model after them.  logits: (*text, vocabulary), of the token that follows; None where nothing was read.
    - model: whose it is.
    """

    tokens: Any
    calls: Int[np.ndarray, "call *text"]
    state: State
    logits: Float[Array, "*text vocabulary"] | None
    model: Fingerprint

    @property
    def nbytes(self) -> int:
        """How many bytes its arrays take."""
        return bytes_of((self.tokens, self.calls, self.state, self.logits))
