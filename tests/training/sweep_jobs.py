"""What the sweep's tests run in processes of their own."""

import os
import signal
from pathlib import Path
from typing import Any


def double(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    """2 x, and a mark in the folder for each call."""
    with (folder / "calls").open("a") as file:
        file.write("x")
    return {"y": 2 * config["x"], "process": os.getpid()}


def two(config: dict[str, Any], folder: Path) -> list[dict[str, Any]]:
    """Two rows of one job."""
    del folder
    return [{"seed": seed, "y": config["x"] + seed} for seed in (0, 1)]


def picky(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Fails for 1 until a file `ready` stands beside the jobs."""
    if config["x"] == 1 and not (folder.parent / "ready").exists():
        raise ValueError("one is refused")
    return {"y": config["x"]}


def unstorable(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    """What JSON cannot hold."""
    del config, folder
    return {"y": object()}


def dies(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Kills its own process for 1; 2 x for others."""
    if config["x"] == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return double(config, folder)
