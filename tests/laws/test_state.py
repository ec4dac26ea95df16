"""Law 7: a state survives a round trip through disk."""

import hypothesis
import pytest

from dualform.mixers import registry
from tests.laws import laws
from tests.laws.strategies import TIME, seeds


@pytest.mark.parametrize("name", registry())
@hypothesis.given(seed=seeds)
def test_a_state_survives_the_disk(name, tmp_path_factory, seed):
    """A state written as safetensors and read back goes on as if it had never been written."""
    folder = tmp_path_factory.mktemp("state")
    laws.a_state_survives_the_disk(laws.make(name, seed=seed), laws.sequence(seed, TIME), 2, folder)
