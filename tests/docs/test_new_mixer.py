"""The worked example of CONTRIBUTING.md is a mixer: one file, here or in a package of its own, and the laws hold."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from dualform import dual_form
from dualform.errors import InputError
from dualform.mixers import GLA, AbstractMixer, mixer, register, registry

registration = sys.modules["dualform.mixers.registration"]  # the module: the function of its name hides it
ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "CONTRIBUTING.md").read_text()
EXACT = 1e-12
"""float64 sums of a few dozen terms, in another order."""


@pytest.fixture
def make(tmp_path, monkeypatch):
    """The example's maker, taken from the registry, into which the example's own line has put it."""
    [code] = [code for code in re.findall(r"^```python\n(.*?)^```$", TEXT, flags=re.M | re.S) if "@register" in code]
    [name] = re.findall(r'^@register\("(\w+)"\)$', TEXT, flags=re.M)
    path = tmp_path / f"{name}.py"
    path.write_text(code)
    monkeypatch.setattr(registration, "_MAKERS", registry())  # what is registered is forgotten in the end
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
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
    """Weights whose widths differ get a message that names the field, its shape, the one that it must have, and why."""
    gla = make(4, key=getkey())
    with pytest.raises(
        InputError, match=r"ScalarGLA.w_a has shape \(1, 3\); it must be \(1, 4\): \(1, d\), where d is 4 in w_v"
    ):
        type(gla)(gla.w_v, gla.w_k, gla.w_q, gla.w_a[:, :3])


@pytest.fixture
def package(tmp_path):
    """A folder of an installed package with the example in it, and the environment in which it is."""
    [code] = [code for code in re.findall(r"^```python\n(.*?)^```$", TEXT, flags=re.M | re.S) if "@register" in code]
    [point] = re.findall(r'^```toml\n\[project.entry-points."(.*?)"\]\n.*\n```$', TEXT, flags=re.M)
    (tmp_path / "of_mine.py").write_text(code)
    (tmp_path / "of_mine-1.0.dist-info").mkdir()
    (tmp_path / "of_mine-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: of-mine\nVersion: 1.0\n")
    (tmp_path / "of_mine-1.0.dist-info" / "entry_points.txt").write_text(f"[{point}]\nmine = of_mine\n")
    path = os.pathsep.join([str(tmp_path), str(ROOT / "src"), str(ROOT)])
    return tmp_path, os.environ | {"PYTHONPATH": path, "JAX_ENABLE_X64": "1"}


def run(package, *command: str) -> subprocess.CompletedProcess[str]:
    folder, environment = package
    return subprocess.run([sys.executable, *command], env=environment, cwd=folder, capture_output=True, text=True)


def test_another_packages_mixer_is_known(package):
    """The command line lists it, and a file of weights brings it back, without anything of that package being imported first."""
    code = """
import jax.random as jr, sys
from dualform import checkpoints, cli, mixers, models
code = cli.main(["mixers", "scalar_gla"])
made = models.Block.make(mixers.registry()["scalar_gla"](4, key=jr.key(0)), key=jr.key(1))
checkpoints.save_weights("block.safetensors", made)
sys.exit(code)
"""
    shown = run(package, "-c", code)
    assert shown.returncode == 0 and "scalar-decay case" in " ".join(shown.stdout.split()), shown.stderr
    read = "from dualform import checkpoints; print(type(checkpoints.load('block.safetensors').model.mixer).__module__)"
    done = run(package, "-c", read)
    assert done.stdout.strip() == "of_mine", done.stderr


@pytest.mark.slow
def test_another_packages_mixer_keeps_the_laws(package):
    """The tests of the laws take it from the registry, as they take those that are here."""
    laws = ["tests/laws", "-k", "scalar_gla", "-m", "", "-p", "no:cacheprovider"]
    done = run(package, "-m", "pytest", "--rootdir", str(ROOT), *(str(ROOT / laws[0]), *laws[1:]))
    passed = re.findall(r"(\d+) passed", done.stdout)
    assert done.returncode == 0 and passed and int(passed[0]) >= 10, done.stdout[-3000:]


def test_a_package_that_cannot_be_imported_is_named(package):
    """The message says which package it is."""
    (package[0] / "of_mine.py").write_text("import nothing_of_that_name\n")
    done = run(package, "-m", "dualform", "mixers")
    said = " ".join(done.stderr.split())
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    assert "installed package of-mine brings mixers in 'of_mine', which cannot be imported (ModuleNotFoundError" in said


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("gla", type("Mine", (GLA,), {}), "there is a mixer 'gla' already, a GLA of dualform.mixers.gla"),
        ("mine", type("GLA", (GLA,), {}), "there is a mixer class GLA already, of dualform.mixers.gla"),
        ("my mixer", type("Mine", (GLA,), {}), "'my mixer' is no name for a mixer"),
        ("mine", dict, "<class 'dict'> cannot be registered as 'mine': a mixer is a class made of AbstractMixer"),
    ],
)
def test_what_cannot_be_registered(name, kind, message, unchecked):
    """A name or a class name that is taken, a name that is none, and what is no mixer; the registry stays as it is."""
    before = registry()
    with pytest.raises(InputError, match=re.escape(message)):
        register(name)(kind)
    assert registry() == before
