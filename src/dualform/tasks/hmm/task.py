"""Hidden Markov models as a task: what is known of the state, or the next token, of sequences of one model."""

from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dualform.counts import seed_of
from dualform.errors import require
from dualform.tasks.hmm.families import cyclic_det, cyclic_hard, cyclic_rnd, random_hmm
from dualform.tasks.hmm.feedback import with_feedback
from dualform.tasks.hmm.judging import estimates, judged
from dualform.tasks.hmm.products import matrix_product
from dualform.tasks.hmm.source import Source
from dualform.tasks.hmm.systems import linear_system
from dualform.tasks.registration import register
from dualform.tasks.scores import Scores, of_numbers
from dualform.tasks.task import DrawnTask, setting

FAMILIES: Mapping[str, Callable[..., Source]] = {
    "random": random_hmm,
    "linear-system": linear_system,
    "matrix-product": matrix_product,
    "cyclic-det": cyclic_det,
    "cyclic-rnd": cyclic_rnd,
    "cyclic-hard": cyclic_hard,
}
TARGETS = ("belief", "next")


@register("hmm")
class HiddenMarkov(DrawnTask):
    """Observations of a hidden Markov model, which is drawn once; each token asks what is known of the state, or what comes next.

    All sequences, those that are held out too, are of the same model: it is what is to be learnt. Tokens are observations,
    one-hot, or vectors (linear-system), and a mark, 1 at the first of them: without it attention that sees how far tokens are
    apart, and not where they are, takes a run of equal ones for one.

    - family: one of `FAMILIES`.  states, observations: how many there are, or widths of vectors (linear-system; matrix-product
      has a state that is a vector); cyclic-hard has states * stage states, and two observations more.
    - target: "belief", the exact distribution of the state (its mean, of the two families of vectors), or "next", the token that
      follows, judged against its exact distribution.
    - model_seed: from which the model is drawn.  slip: of cyclic-rnd and cyclic-hard.  stage: of cyclic-hard.
    - feedback: 0, or of how many tokens a block is, at whose end what the model said is fed back to it (`with_feedback`).

    **Raises:** `InputError` for a family or a target that is none, numbers below 1, and "next" where the next token does not
    depend on the state.

    **Source:** Hu et al. 2024 (arXiv 2406.04089), whose families are known to us in words alone; each family's docstring says
    what it is here.
    """

    time: int = setting(default=32)
    family: str = setting(default="random")
    states: int = setting(default=3)
    observations: int = setting(default=3)
    target: str = setting(default="belief")
    model_seed: int = setting(default=0)
    slip: float = setting(default=0.05)
    stage: int = setting(default=4)
    feedback: int = setting(default=0)
    judge = staticmethod(of_numbers)
    source = "Hu et al. 2024 (arXiv 2406.04089)"

    def __check_init__(self):
        require(self.family in FAMILIES, f"there is no family {self.family!r}; there are {', '.join(FAMILIES)}.")
        require(self.target in TARGETS, f"target is {self.target!r}; it must be 'belief' or 'next'.")
        for name in ("states", "observations"):
            require(getattr(self, name) >= 1, f"{name} is {getattr(self, name)}; it must be at least 1.")
        require(self.feedback >= 0, f"feedback is {self.feedback}; give the tokens of a block, or 0 for none.")
        seed_of(self.model_seed)
        require(
            self.target == "belief" or self.hidden.informative,
            f"each observation of {self.family} is as likely as any other, whatever the state: there is nothing to foretell. Ask "
            "for target = belief.",
        )

    @property
    def hidden(self) -> Source:
        """What sequences are drawn from, with its exact filter."""
        options = {"slip": self.slip} if self.family in ("cyclic-rnd", "cyclic-hard") else {}
        options |= {"stage": self.stage} if self.family == "cyclic-hard" else {}
        wide = "float64" if jax.config.read("jax_enable_x64") else "float32"
        return _drawn(self.family, self.states, self.observations, self.model_seed, wide, tuple(options.items()))

    @property
    def d_in(self) -> int:
        """Width of an observation, the mark, and the place of what is fed back, if anything is."""
        return self.hidden.d_in + 1 + (self.d_out if self.feedback else 0)

    @property
    def d_out(self) -> int:
        """Width of a belief, or of an observation."""
        return self.hidden.states if self.target == "belief" else self.hidden.d_in

    @property
    def probabilities(self) -> bool:
        """Whether outputs are logits of probabilities."""
        return self.hidden.probabilities

    def sequence(self, key: Array) -> tuple[Array, Array]:
        """Tokens (time, d_in); and what is asked for beside what is exact, (time, 2 * d_out)."""
        tokens, beliefs, following, expected = self.hidden.drawn(key, self.time)
        pair = (beliefs, beliefs) if self.target == "belief" else (following, expected)
        x = jnp.pad(tokens, ((0, 0), (0, self.d_in - tokens.shape[1]))).at[0, tokens.shape[1]].set(1)
        return x, jnp.concatenate(pair, axis=1)

    def outputs(self, model: Any, x: Float[Array, "batch time d_in"]) -> Float[Array, "batch time d_out"]:
        """What a model gives for sequences, with feedback where there is any."""
        if not self.feedback:
            return jax.vmap(lambda x: model(x)[0])(x)
        said = partial(estimates, probabilities=self.probabilities)
        return jax.vmap(lambda x: with_feedback(model, x, self.feedback, said))(x)

    def scores(self, model: Any, x: Array, y: Array) -> Scores:
        """As `judging.judged`."""
        return self.judged(self.outputs(model, x), y)

    def judged(self, outputs: Array, y: Array) -> Scores:
        """As `judging.judged`."""
        return judged(outputs, y[..., : self.d_out], y[..., self.d_out :], self.probabilities)


@lru_cache
def _drawn(
    family: str, states: int, observations: int, seed: int, dtype: str, options: tuple[tuple[str, Any], ...]
) -> Source:
    # Under a trace, too, its arrays are known numbers.
    with jax.ensure_compile_time_eval():
        return FAMILIES[family](states, observations, seed, jnp.dtype(dtype), **dict(options))
