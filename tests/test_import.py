import json
import subprocess
import sys

_REPORT = """
import json, sys
before = set(sys.modules)
import dualform, jax
modules = sorted(m for m in set(sys.modules) - before if m.count(".") == 0 or m.startswith("dualform"))
import dualform.tasks
print(json.dumps({
    "modules": modules,
    "with tasks": sorted(m for m in set(sys.modules) - before if m.count(".") == 0),
    "x64": jax.config.jax_enable_x64,
    "promotion": str(jax.config.jax_numpy_dtype_promotion),
    "backends": bool(getattr(__import__("jax._src.xla_bridge", fromlist=["_backends"]), "_backends")),
}))
"""


def _fresh_import() -> dict:
    """What a new Python process, told that every warning is an error, says about `import dualform`, then `dualform.tasks`."""
    done = subprocess.run([sys.executable, "-W", "error", "-c", _REPORT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", done.stderr
    return json.loads(done.stdout)


def test_import_is_light_and_silent():
    """`import dualform` warns of nothing, starts no backend, turns no global switch, and loads neither PyTorch nor plots.

    The tasks load no SciPy, which two of them want when they are opened.
    """
    report = _fresh_import()
    heavy = {
        "torch",
        "matplotlib",
        "orbax",
        "optax",
        "tyro",
        "rich",
        "jinja2",
        "dualform.training",
        "dualform.discover",
    }
    assert not heavy & set(report["modules"])
    assert "dualform" in report["with tasks"] and "scipy" not in report["with tasks"]
    assert (report["x64"], report["promotion"], report["backends"]) == (False, "standard", False)
