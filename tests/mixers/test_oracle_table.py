"""The stored table of errors: every registered mixer has an oracle, and the table is of the oracles that there are."""

import json
from importlib.resources import files

import pytest
from benchmarks.oracles import all_held

from dualform.mixers import registry
from dualform.mixers.card import provenance, stored_errors
from dualform.mixers.registration import classes
from tests.oracles.held import DATA

STORED = json.loads((files("dualform.mixers") / "oracle_errors.json").read_text())["mixers"]
HELD = {stem: held for stem, held in all_held().items() if held.mixer in registry()}
ANEW = "Run `python -m benchmarks.oracles --write src/dualform/mixers/oracle_errors.json`."


def test_every_mixer_has_an_oracle():
    """The table has every registered mixer, and none that is gone; the docs and the command line read it as it is."""
    assert set(STORED) == set(registry()), ANEW
    assert stored_errors() == {name: row["error"] for name, row in STORED.items()}


def test_the_table_is_of_these_oracles():
    """A new oracle, or one that is gone, is missed in the table; each row's error is the largest of its oracles'."""
    found = {stem: each["peer"] for row in STORED.values() for stem, each in row["oracles"].items()}
    assert found == {stem: held.peer for stem, held in HELD.items()}, ANEW
    for name, row in STORED.items():
        assert {HELD[stem].mixer for stem in row["oracles"]} == {name}, ANEW
        assert row["error"] == max(each["error"] for each in row["oracles"].values()), name


def test_every_stored_file_is_held():
    """No file of outputs lies there that nothing is compared with, and none is missing."""
    assert {path.stem for path in DATA.glob("*.safetensors")} == set(all_held())


WIDER = {"hgrn_fla": 1e-6, "rg_lru_extreme": 1e-8}
"""Peers that compute in float32; and one that computes 1 - a^2 where a is almost 1, and loses the digits itself."""


def test_errors_are_small():
    """1e-10, relative, of outputs, states and gradients, where the peer has as many digits."""
    for row in STORED.values():
        for stem, each in row["oracles"].items():
            assert each["error"] <= HELD[stem].tolerance <= WIDER.get(stem, 1e-10), stem


@pytest.mark.parametrize("name", classes())
def test_every_docstring_says_source_and_oracle(name):
    """Where a mixer is from and what it was checked against stands in its docstring, and so in the table."""
    source, oracle = provenance(classes()[name])
    assert source and oracle, name
