"""The one place that chooses the form of a recurrence."""

import logging

import jax
import jax.numpy as jnp
import pytest

from dualform.errors import InputError
from dualform.recurrences import diagonal
from dualform.recurrences.choice import choose


@pytest.mark.parametrize(("platform", "form"), [("cpu", "scan"), ("gpu", "associative"), ("tpu", "associative")])
def test_the_platform_decides(monkeypatch, caplog, platform, form):
    """A CPU and an accelerator get each its own form, and the choice is logged."""
    monkeypatch.setattr(jax, "default_backend", lambda: platform)
    with caplog.at_level(logging.DEBUG, "dualform.recurrences.choice"):
        assert choose("diagonal", ("scan", "associative", "naive"), None, time=8) == form
    assert f"diagonal: form {form} for 8 tokens on {platform} (chosen)" in caplog.text


def test_a_form_can_be_forced(caplog):
    """The caller's form is taken, and logged as forced."""
    with caplog.at_level(logging.DEBUG, "dualform.recurrences.choice"):
        assert choose("diagonal", ("scan", "naive"), "naive", time=8) == "naive"
    assert "(forced)" in caplog.text


def test_one_token_needs_no_chunks():
    """A single token takes the specification itself."""
    assert choose("outer", ("chunked", "naive"), None, time=1) == "naive"


def test_an_unknown_form_is_refused(unchecked):
    """The message names the form and those there are."""
    with pytest.raises(InputError, match="diagonal has no form 'fast'; it has scan, associative, naive"):
        diagonal(jnp.ones(3), jnp.ones((2, 3)), form="fast")  # pyright: ignore[reportArgumentType] - refused
