"""Where sequences with a hidden state come from: what all families of them say."""

from abc import abstractmethod
from typing import ClassVar, NamedTuple

import equinox as eqx
from jaxtyping import Array, Float

from dualform.tasks.hmm.filtering import Form


class Drawn(NamedTuple):
    """One sequence.

    - tokens: what is read: observations, one-hot or vectors.  beliefs: what is known of the state after each of them, exactly.
    - following: the token after each.  expected: its exact distribution, or its exact mean, given all before it.
    """

    tokens: Float[Array, "time d_in"]
    beliefs: Float[Array, "time state"]
    following: Float[Array, "time d_in"]
    expected: Float[Array, "time d_in"]


class Source(eqx.Module):
    """Sequences with a hidden state, and an exact filter.

    - probabilities: whether beliefs are probabilities of states; else they are the mean of a state that is a vector.
    """

    probabilities: ClassVar[bool]

    @property
    @abstractmethod
    def d_in(self) -> int:
        """Width of a token."""

    @property
    @abstractmethod
    def states(self) -> int:
        """Width of a belief."""

    @property
    @abstractmethod
    def informative(self) -> bool:
        """Whether what is observed next depends on the state, so that there is something to foretell."""

    @abstractmethod
    def beliefs(self, tokens: Float[Array, "time d_in"], *, form: Form = "naive") -> Float[Array, "time state"]:
        """What is known of the state after each token, exactly.

        **Arguments:** form: "naive" (one token after the other), or "associative" (a tree of products).

        **Raises:** `InputError` for another form.
        """

    @abstractmethod
    def drawn(self, key: Array, time: int) -> Drawn:
        """A sequence with its beliefs, pure."""
