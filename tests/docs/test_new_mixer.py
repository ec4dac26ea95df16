"""The worked example of CONTRIBUTING.md is a mixer: one file and one line, and the laws hold."""

import importlib.util
import re
from pathlib import Path

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from dualform import dual_form
from dualform.errors import InputError
from dualform.mixers import AbstractMixer, mixer, registry
from dualform.mixers.registry import _MAKERS

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "CONTRIBUTING.md").read_text()
EXACT = 1e-12
"""float64 sums of a few dozen terms, in another order."""


@pytest.fixture
def make(tmp_path, monkeypatch):
    """The example's maker, taken from the registry, into which the example's own line has put it."""
    [code] = re.findall(r"^```python\n(.*?)^```$", TEXT, flags=re.M | re.S)
    [(name, maker)] = re.findall(r'^ {4}"(\w+)": (\w+)\.make,$', TEXT, flags=re.M)
    path = tmp_path / f"{name}.py"
    path.write_text(code)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setitem(_MAKERS, name, getattr(module, maker).make)
    return registry()[name]


def test_contract_is_named():
    """The table of the contract names all that a mixer must write, and nothing that is not there."""
    table = TEXT[TEXT.index("| name | gives | rule |") : TEXT.index("`x` is (time, d).")]
    named = {name.split("(")[0] for name in re.findall(r"^\| `([^`]+)`", table, flags=re.M)}
    assert named == {*AbstractMixer.__abstractmethods__, "linear_given_gates", "weight_decayed", "make"}
    assert named - {"make"} <= set(dir(AbstractMixer)) | set(AbstractMixer.__annotations__)
    assert mixer.AbstractMixer is AbstractMixer


def test_example_gives_its_equation(make, getkey):
    """The example's output is the double sum over (t, s) of its docstring's equation."""
    gla, x = make(4, key=getkey()), jr.normal(getkey(), (9, 4))
    v, k, q = (np.asarray(x @ w.T) for w in (gla.w_v, gla.w_k, gla.w_q))
    a = 1 / (1 + np.exp(-np.asarray(x @ gla.w_a.T)[:, 0]))
    expected = [sum(np.prod(a[s + 1 : t + 1]) * (q[t] @ k[s]) * v[s] for s in range(t + 1)) for t in range(9)]
    np.testing.assert_allclose(gla(x)[0], expected, rtol=0, atol=EXACT * np.abs(expected).max())


def test_example_keeps_the_laws(make, getkey):
    """Steps give the parallel form, a state goes on, contributions sum to the output, and packing changes nothing."""
    gla, x = make(4, key=getkey()), jr.normal(getkey(), (9, 4))
    y, final = gla(x)
    bound = EXACT * float(jnp.abs(y).max())

    state, stepped = gla.init_state(), []
    for x_t in x:
        y_t, state = gla.step(x_t, state)
        stepped.append(y_t)
    np.testing.assert_allclose(jnp.stack(stepped), y, rtol=0, atol=bound)
    np.testing.assert_allclose(state, final, rtol=0, atol=EXACT * float(jnp.abs(final).max()))

    form = dual_form(gla, x)
    assert form.residual < EXACT and form.kind == "linear given its gates"

    packed = gla(x, start=jnp.arange(9) == 5)[0]
    np.testing.assert_allclose(packed[5:], gla(x[5:])[0], rtol=0, atol=bound)

    padding = jnp.full((3, 4), jnp.nan)
    masked, _ = gla(jnp.concatenate([x, padding]), mask=jnp.arange(12) < 9)
    np.testing.assert_allclose(masked[:9], y, rtol=0, atol=bound)
    nothing, kept = gla(padding, final, mask=jnp.zeros(3, bool))
    assert not masked[9:].any() and not nothing.any() and (kept == final).all()


def test_example_refuses_what_does_not_fit(make, getkey):
    """Weights whose widths differ get a message with every shape."""
    gla = make(4, key=getkey())
    with pytest.raises(InputError, match=r"all must have d columns; got w_v \(4, 4\), .* w_a \(1, 3\)"):
        type(gla)(gla.w_v, gla.w_k, gla.w_q, gla.w_a[:, :3])
