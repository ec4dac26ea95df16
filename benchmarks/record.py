"""The record of a benchmark that trains: one JSON file beside its report, with all that is needed to run it again."""

import json
import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any


def keep(path: str | None, record: dict[str, Any]) -> None:
    """Write the record with versions and machine, as the report's path with the suffix .json; nothing without a path."""
    packages = ("dualform", "jax", "jaxlib", "equinox", "optax", "numpy")
    versions = {name: version(name) for name in packages} | {"python": platform.python_version()}
    machine = {"cores": os.cpu_count(), "architecture": platform.machine()}
    if path:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(record | {"versions": versions, "machine": machine}, indent=1)
        Path(path).with_suffix(".json").write_text(text + "\n")
