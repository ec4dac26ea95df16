"""Law 7: a state survives a round trip through disk."""

import pytest

from dualform.mixers import registry
from tests.laws import laws


@pytest.mark.parametrize("name", registry())
def test_a_state_survives_the_disk(name, tmp_path):
    """A state written as safetensors and read back goes on as if it had never been written."""
    laws.a_state_survives_the_disk(laws.alone(laws.table(name)), None, 2, tmp_path)
