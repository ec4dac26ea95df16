"""A language model whose attention is bounded: a recurrent model, its state a set of keys and values for each layer."""

from typing import SupportsIndex

import equinox as eqx
from jaxtyping import Array, Float, Int

from dualform.arrays import State
from dualform.counts import count_of
from dualform.errors import require
from dualform.generation.multi_state import MultiStateAttention, PromptAttention
from dualform.generation.places import check_places
from dualform.generation.policy_table import Policy, policy
from dualform.mixers import SoftmaxAttention
from dualform.models import LanguageModel


def bounded(model: LanguageModel, by: str | Policy, states: SupportsIndex, *, rerotate: bool = False) -> LanguageModel:
    """The model with a bound on what each layer of softmax attention keeps: a `LanguageModel` as any other.

    It is called on a sequence, stepped, generated from and given its state as every recurrent model; a sequence read in one call
    is the same as token by token. `read_prompt` reads a prompt at once, as is published for TOVA and H2O.

    **Arguments:** by: a policy, or its name (`policies()`); states: how many keys and values each layer keeps; rerotate:
    positions are counted anew among the kept states.

    **Raises:** `InputError` for an unknown policy, fewer than 1 state, or a model without softmax attention.

        >>> import jax
        >>> from dualform import generation, models
        >>> sizes = dict(vocabulary=5, d=8, layers=2, heads=2, kv_heads=1, hidden=8, context=64)
        >>> model = generation.bounded(models.llama(key=jax.random.key(0), **sizes), "tova", 3)
        >>> logits, state = model(jax.numpy.arange(5))
        >>> state[0].keys.shape
        (1, 3, 4)
    """
    attends = [i for i, block in enumerate(model.blocks) if isinstance(block.mixer, SoftmaxAttention)]
    require(len(attends) >= 1, "this model has no layer of softmax attention: its memory is bounded as it is.")
    states = count_of("states", states, 1, "at least 1 key and value must be kept")
    make = lambda mixer: MultiStateAttention(mixer, policy(by), states, rerotate)
    mixers = lambda m: [m.blocks[i].mixer for i in attends]
    return eqx.tree_at(mixers, model, [make(mixer) for mixer in mixers(model)])


def read_prompt(model: LanguageModel, prompt: Int[Array, " time"]) -> tuple[Float[Array, " vocabulary"], State]:
    """A prompt read at once: full attention over it, and one choice of the states to keep at its end.

    **Arguments:** model: a bounded one; prompt: (time,).

    **Returns:** the logits after the prompt, and the state, from which the model goes on.

    **Raises:** `InputError` as a call of the model does, and for more tokens than the policy "full" has places.
    """
    attends = [i for i, block in enumerate(model.blocks) if isinstance(block.mixer, MultiStateAttention)]
    mixers = lambda m: [m.blocks[i].mixer for i in attends]
    require(len(attends) >= 1, "this model is not bounded; read the prompt by calling it.")
    check_places(model, len(prompt), what="the prompt")
    whole = eqx.tree_at(mixers, model, [PromptAttention(mixer) for mixer in mixers(model)])
    x, state = whole.read(prompt)
    return model.logits(x[-1:])[0], state
