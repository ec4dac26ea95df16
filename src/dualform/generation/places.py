"""Whether a policy that drops nothing has a place for every token, told before any is read."""

from typing import Any

import jax.tree_util as jtu
from jax.core import Tracer

from dualform.errors import require
from dualform.generation.decoding import JoinedAttention
from dualform.generation.multi_state import MultiState, MultiStateAttention
from dualform.mixers.cache import Cache


def places_of(model: Any) -> int | None:
    """How many tokens a model reads until a policy that drops nothing has no place left; None where nothing bounds it."""
    blocks = getattr(model, "blocks", ())
    mixers = [block.mixer for block in blocks if isinstance(block.mixer, MultiStateAttention | JoinedAttention)]
    places = min((mixer.states for mixer in mixers if mixer.policy.whole), default=None)
    # The newest token is read beside those that are kept.
    return None if places is None else places + 1


def check_places(model: Any, tokens: int, follow: int = 0, *, before: int = 0, what: str = "the text") -> None:
    """Raise `InputError` where a policy that drops nothing has too few places: all that followed would be NaN.

    **Arguments:** tokens: that are to be read; follow: how many are to be written behind them, the last of which is not read;
    before: how many were read already; what: has the tokens, for the message.
    """
    places = places_of(model)
    read = before + tokens + max(follow - 1, 0)
    already = f"{before:,} tokens were read; " if before else ""
    behind = f", and {follow:,} are to follow" if follow else ""
    require(
        places is None or read <= places,
        f"{already}{what} has {tokens:,} tokens{behind}; the policy full has {(places or 1) - 1} places. Bound the model to "
        f"{read:,} states, give a shorter {'prompt or length' if follow else 'one'}, or take a policy that drops, such as tova.",
    )


def read_before(state: Any) -> int:
    """How many tokens a state has read, by the places that attention counts; 0 where none does, or under jit."""
    of_cache = lambda part: isinstance(part, tuple) and len(part) == 2 and isinstance(part[0], Cache)
    parts = jtu.tree_leaves(state, is_leaf=lambda part: isinstance(part, MultiState) or of_cache(part))
    places = [part.place for part in parts if isinstance(part, MultiState)] + [
        part[1] for part in parts if of_cache(part)
    ]
    known = [int(place) for place in places if not isinstance(place, Tracer) and place.ndim == 0]
    return max(known, default=0)
