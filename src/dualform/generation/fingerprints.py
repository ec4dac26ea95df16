"""Which model a state is of: what it is made of, and a digest of its weights."""

import hashlib
import itertools
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import equinox as eqx
import jax

from dualform.described import array_digest, described
from dualform.errors import require
from dualform.models.chain import core_of


class Fingerprint(NamedTuple):
    """What two models share if and only if they are the same one.

    - structure: a digest of all classes, settings, shapes and dtypes; a policy and its number of states are among them.
    - weights: a digest of every number.
    - words: what the model is, for a person.
    """

    structure: str
    weights: str
    words: str

    def check(self, other: "Fingerprint", what: str, anew: str = "read the tokens anew") -> None:
        """Raise `InputError` unless `what`, whose fingerprint is `other`, is of the model whose fingerprint this is.

        **Arguments:** anew: what else can be done than to take that model.
        """
        require(
            self.structure == other.structure,
            f"{what} is of another model: of {other.words}. This one is {self.words}. Take the model, the policy and the number "
            f"of states that it was made with, or {anew}.",
        )
        require(
            self.weights == other.weights,
            f"{what} is of a model with other weights, as of another training, on the same {self.words}. Take the model that it "
            f"was made with, or {anew}.",
        )


def fingerprint(module: eqx.Module) -> Fingerprint:
    """The fingerprint of a mixer or a model, the same in every process; each array is looked at once in its life.

    >>> import jax
    >>> from dualform import mixers
    >>> from dualform.generation import fingerprint
    >>> one, other = (mixers.GRU.make(4, key=jax.random.key(seed)) for seed in (0, 1))
    >>> fingerprint(one).structure == fingerprint(other).structure
    True
    >>> fingerprint(one).weights == fingerprint(other).weights
    False
    """
    return _remembered(module, _fingerprint)


def _fingerprint(module: eqx.Module) -> Fingerprint:
    arrays: list[Any] = []
    structure = repr(described(module, arrays.append))
    with ThreadPoolExecutor(4) as pool:
        digests = list(pool.map(lambda array: _remembered(array, array_digest), arrays))
    hashed = lambda text: hashlib.sha256(text.encode()).hexdigest()[:32]
    return Fingerprint(hashed(structure), hashed(repr(digests)), words_of(module))


_MEMORY: dict[int, tuple[weakref.ref, Any]] = {}


def _remembered(thing: Any, find: Callable[[Any], Any]) -> Any:
    """What `find` gives of it, found once for as long as it lives. Only what never changes may be handed in."""
    number = id(thing)
    there = _MEMORY.get(number)
    if there is not None and there[0]() is thing:
        return there[1]
    found = find(thing)
    if isinstance(thing, eqx.Module | jax.Array):  # an array of NumPy may be written to
        forget = lambda own: _MEMORY.pop(number) if _MEMORY.get(number, (None,))[0] is own else None
        _MEMORY[number] = (weakref.ref(thing, forget), found)
    return found


def words_of(module: eqx.Module) -> str:
    """What the model is made of, for a person: its class, its mixers, and what they keep."""
    kind = f"a {type(module).__name__}"
    if not hasattr(module, "blocks"):
        return f"{kind}{_kept(module)}"
    blocks: Any = getattr(module, "blocks")  # noqa: B009 - only some modules have them
    mixers = [type(mixer).__name__ + _kept(mixer) for mixer in map(core_of, blocks)]
    runs = [(name, len(list(group))) for name, group in itertools.groupby(mixers)]
    layers = ", ".join(name if count == 1 else f"{count} times {name}" for name, count in runs)
    return f"{kind} with {layers}"


def _kept(mixer: Any) -> str:
    if not hasattr(mixer, "policy"):
        return ""
    return f" ({mixer.policy.name}, {mixer.states} states{', rerotated' if mixer.rerotate else ''})"
