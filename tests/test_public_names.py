"""The public names are locked: adding one is a line here, losing one breaks somebody's code."""

import importlib

import pytest

import dualform
from dualform import mixers, models, recurrences
from dualform.dual import DualForm

OLDER = {"linear_attention", "gated_rnn", "dense_gated_rnn", "side_gated_rnn"}
RECURRENT = {"lru", "lru_out", "lru_in_out", "lru_in_skip", "lstm", "lstm_chung", "gru", "gru_chung", "tanh_rnn"}
CLASSES = {"AbstractMixer", "DenseGatedRNN", "GatedRNN", "LinearAttention", "SideGatedRNN"}
CLASSES |= {"LRU", "LRUOut", "LRUInOut", "LRUInSkip", "LSTM", "GRU", "TanhRNN"}
PARTS = {"construct", "discover", "dual", "lenses", "mixers", "models", "tasks", "training"}


def test_public_names():
    """The top level and the folders of the foundation hand on exactly these names."""
    assert set(dualform.__all__) == {"DualForm", "dual_form"} | PARTS
    assert set(mixers.__all__) == CLASSES | {"registry"}
    assert set(models.__all__) == {"Stack"}
    assert set(recurrences.__all__) == {"dense", "diagonal", "outer"}


@pytest.mark.parametrize("module", ["dualform.mixers", "dualform.models", "dualform.recurrences", "dualform.dual"])
def test_public_names_exist(module):
    """Every name that a folder announces is there and documented."""
    loaded = importlib.import_module(module)
    for name in loaded.__all__:
        assert getattr(loaded, name).__doc__, name


def test_dual_form_fields():
    """A DualForm's fields are what the design names, in order."""
    names = list(DualForm.__dataclass_fields__)
    assert names == ["contributions", "bias", "weights", "residual", "y", "kind"]


def test_unknown_name():
    """A name that does not exist is an AttributeError that says whose."""
    with pytest.raises(AttributeError, match="module 'dualform' has no attribute 'transformers'"):
        dualform.transformers  # noqa: B018


def test_registry_is_a_copy():
    """Changing what `registry()` gave changes no later call."""
    mixers.registry().clear()
    assert set(mixers.registry()) == OLDER | RECURRENT
