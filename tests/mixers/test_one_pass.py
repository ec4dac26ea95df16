"""The call is the frozen pass: a mixer's output is its map's value, and a compiled call does nothing for the map."""

from collections import Counter

import equinox as eqx
import jax
import pytest

from dualform.maps import Identity
from dualform.mixers import AbstractMixer, registry
from tests.laws import laws
from tests.laws.broken import Around
from tests.tiers import tiers

X = laws.sequence(0, laws.TIME)


class Mapless(Around):
    """The inner mixer, whose pass makes no map."""

    def at(self, x, state, segments):
        return super().at(x, state, segments)._replace(map=Identity())


def operations(mixer: AbstractMixer) -> Counter[str]:
    """How many operations of each kind a call is compiled from."""
    arrays, rest = eqx.partition(mixer, eqx.is_array)
    text = jax.jit(lambda arrays, x: eqx.combine(arrays, rest)(x)).lower(arrays, X).as_text()
    return Counter(line.split(" = ")[1].split(" ")[0] for line in text.splitlines() if " = " in line)


@pytest.mark.parametrize("name", tiers(list(registry()), "gla", "lstm", "mamba", "pgn", "rwkv4", "softmax_attention"))
def test_a_call_pays_for_no_map(name):
    """The program of a call has the operations of a pass that makes no map, and no others."""
    mixer = laws.make(name)
    assert operations(mixer) == operations(Mapless(mixer))


def test_what_a_map_costs_is_seen():
    """A call that applies its map has more operations: the count is no constant."""

    class Twice(Around):
        def at(self, x, state, segments):
            frozen = super().at(x, state, segments)
            return frozen._replace(y=frozen.y + frozen.map(x))

    mixer = laws.make("gla")
    assert operations(Twice(mixer)).total() > 1.2 * operations(mixer).total()
