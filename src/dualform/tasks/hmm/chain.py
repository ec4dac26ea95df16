"""Hidden Markov models: a state that nobody sees, and observations that tell of it."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Int

from dualform.errors import InputError, require
from dualform.tasks.hmm.filtering import FORMS, Filtered, Form, as_tree, one_by_one
from dualform.tasks.hmm.source import Drawn, Source

SUMS = 1e-5
"""How far probabilities may be from a sum of 1: what float32 makes of a few hundred of them."""


class HMM(Source):
    """p(o_t, s_t | s_{t-1}) = kernels[o_t, s_{t-1}, s_t], from a state s_0 of p(s_0) = initial.

    A token is an observation and the state that it leaves behind, so that both may depend on each other: what is observed of
    a Markov decision process is the action, which says where the state goes. The usual model, whose observation depends on
    the state alone, is `HMM.of_matrices`.

        >>> import jax.numpy as jnp
        >>> from dualform.tasks.hmm import HMM
        >>> weather = HMM.of_matrices(jnp.array([1.0, 0]), jnp.array([[0.9, 0.1], [0.2, 0.8]]), jnp.eye(2))
        >>> weather.kernels.shape, round(float(weather.kernels[1, 0].sum()), 3)
        ((2, 2, 2), 0.1)

    **Arguments:** initial (state,); kernels (observation, state, state).

    **Raises:** `InputError` for a number that is negative or not finite, and for probabilities that do not sum to 1.
    """

    initial: Float[Array, " state"]
    kernels: Float[Array, "observation state state"]

    def __check_init__(self):
        require(
            self.kernels.ndim == 3 and self.initial.shape == self.kernels.shape[1:2] == self.kernels.shape[2:],
            f"initial has shape {self.initial.shape} and kernels {self.kernels.shape}; they must be (state,) and "
            "(observation, state, state).",
        )
        _check_probabilities("initial", self.initial[None], "")
        _check_probabilities("kernels", jnp.moveaxis(self.kernels, 1, 0).reshape(self.states, -1), "of state {}")

    @classmethod
    def of_matrices(
        cls,
        initial: Float[Array, " state"],
        transition: Float[Array, "state state"],
        emission: Float[Array, "state observation"],
    ) -> "HMM":
        """The model whose state goes on by `transition`, and is then observed by `emission`.

        The first observation is of the state after one transition: libraries that observe the first state itself start from
        initial @ transition.

        **Raises:** `InputError` as the class, naming the matrix and its row.
        """
        require(
            transition.shape == (*initial.shape, *initial.shape) and emission.shape[:1] == initial.shape,
            f"initial has shape {initial.shape}, transition {transition.shape} and emission {emission.shape}; they must be "
            "(state,), (state, state) and (state, observation).",
        )
        _check_probabilities("transition", transition, "of row {}")
        _check_probabilities("emission", emission, "of row {}")
        return cls(initial, transition[None] * emission.T[:, None])

    @property
    def d_in(self) -> int:
        """How many observations there are."""
        return len(self.kernels)

    @property
    def states(self) -> int:
        """How many states there are."""
        return len(self.initial)

    probabilities = True

    def drawn(self, key: Array, time: int) -> Drawn:
        """A sequence, its exact beliefs, and what is to be expected of each next token."""
        observed = self.observed(key, time + 1)
        tokens = jax.nn.one_hot(observed, self.d_in, dtype=self.initial.dtype)
        beliefs = self.beliefs(tokens[:-1])
        return Drawn(tokens[:-1], beliefs, tokens[1:], self.expected(beliefs))

    def filtered(self, observations: Int[Array, " time"], *, form: Form = "naive") -> Filtered:
        """The beliefs after each observation, exactly.

        **Arguments:** observations: numbers from 0; form: "naive" (one token after the other, the specification), or
        "associative" (products of matrices as a tree, log2(time) levels).

        **Raises:** `InputError` for observations that are none of the model's, or that it cannot have given. Under jit beliefs
        are NaN from there on.

            >>> import jax.numpy as jnp
            >>> from dualform.tasks.hmm import HMM
            >>> weather = HMM.of_matrices(jnp.array([0.5, 0.5]), jnp.array([[0.9, 0.1], [0.1, 0.9]]), jnp.eye(2))
            >>> jnp.exp(weather.filtered(jnp.array([0, 0, 1])).log_beliefs).round(3).tolist()
            [[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]
        """
        require(form in FORMS, f"there is no form {form!r} of the filter; there are {', '.join(FORMS)}.")
        check_observations(self, observations)
        found = (one_by_one if form == "naive" else as_tree)(self.initial, self.kernels, observations)
        _check_possible(observations, found)
        return found

    def beliefs(self, tokens: Float[Array, "time d_in"], *, form: Form = "naive") -> Float[Array, "time state"]:
        """As probabilities; `filtered` has them as logs."""
        return jnp.exp(self.filtered(jnp.argmax(tokens, axis=1), form=form).log_beliefs)

    def observed(self, key: Array, time: int) -> Int[Array, " time"]:
        """A sequence of observations, each a number from 0."""
        first, rest = jr.split(key)
        logits = jnp.log(jnp.moveaxis(self.kernels, 1, 0).reshape(self.states, -1))

        def step(state: Array, key: Array) -> tuple[Array, Array]:
            drawn = jr.categorical(key, logits[state]).astype(jnp.int32)
            return drawn % self.states, drawn // self.states

        begin = jr.categorical(first, jnp.log(self.initial)).astype(jnp.int32)
        return jax.lax.scan(step, begin, jr.split(rest, time))[1]

    def expected(self, beliefs: Float[Array, "time state"]) -> Float[Array, "time observation"]:
        """p(next observation), given beliefs."""
        return beliefs @ jnp.sum(self.kernels, axis=-1).T

    @property
    def informative(self) -> bool:
        """Whether what is observed next depends on the state."""
        of_state = np.sum(np.asarray(self.kernels), axis=-1)
        return bool(np.max(np.abs(of_state - of_state[:, :1])) > SUMS)


def check_observations(hmm: HMM, observations: Int[Array, " time"]) -> None:
    """Raise `InputError` unless observations are numbers of the model; seen only where values are known, not under jit."""
    require(
        observations.ndim == 1 and len(observations) > 0 and jnp.issubdtype(observations.dtype, jnp.integer),
        f"observations are whole numbers, (time,), at least one; got {observations.dtype} of shape {observations.shape}.",
    )
    if isinstance(observations, Tracer):
        return
    values = np.asarray(observations)
    wrong = np.flatnonzero((values < 0) | (values >= hmm.d_in))
    if len(wrong):
        raise InputError(
            f"the observation at token {wrong[0]} is {values[wrong[0]]}; this model has observations from 0 to {hmm.d_in - 1}."
        )


def _check_possible(observations: Array, found: Filtered) -> None:
    """Raise `InputError` where an observation has probability 0; seen only where values are known, not under jit."""
    if isinstance(found.log_likelihoods, Tracer):
        return
    impossible = np.flatnonzero(~np.isfinite(np.asarray(found.log_likelihoods)))
    if len(impossible):
        t = int(impossible[0])
        raise InputError(
            f"the observation at token {t}, {int(observations[t])}, has probability 0 after those before it: this model cannot "
            "have given the sequence. Is it of another model?"
        )


def _check_probabilities(name: str, rows: Array, which: str) -> None:
    """Raise `InputError` unless each row is one of probabilities; seen only where values are known, not under jit."""
    if isinstance(rows, Tracer):
        return
    values = np.asarray(rows)
    for i, row in enumerate(values):
        said = f"{name} {which.format(i)}".strip()
        require(
            bool(np.all(np.isfinite(row))),
            f"{said} holds {row[np.argmin(np.isfinite(row))]}; probabilities are finite.",
        )
        require(
            bool(np.all(row >= 0)),
            f"{said} holds {row.min():.3g}; probabilities are not negative. Was it given as logs?",
        )
        require(
            bool(abs(row.sum() - 1) <= SUMS),
            f"{said} sums to {row.sum():.6g}; probabilities sum to 1. Divide it by its sum.",
        )
