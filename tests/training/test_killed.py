"""`dualform train`, killed again and again, ends as if nothing had been."""

import json
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

COMMAND = [
    *(
        sys.executable,
        "-m",
        "dualform",
        "train",
        "selective-copy",
        "--mixer",
        "min_gru",
        "--width",
        "8",
        "--layers",
        "1",
    ),
    *("--steps", "3000", "--batch", "4", "--set", "settings.time=6", "settings.tokens=2", "settings.symbols=3"),
    *("settings.held=8", "model.mlp=none", "fit.chunk=10", "--out"),
]


def told(folder: Path) -> tuple[Any, ...]:
    """All that a training leaves but the seconds that it took."""
    result = json.loads((folder / "result.json").read_text())
    lasting = {name: value for name, value in result.items() if name not in ("seconds", "tokens_per_second")}
    return lasting, (folder / "metrics.jsonl").read_bytes(), (folder / "model.safetensors").read_bytes()


@pytest.mark.slow
def test_a_training_killed_at_random_moments_ends_with_the_same_numbers(tmp_path):
    """The same result, every line of metrics and the best weights, to the bit; it was killed while it trained, several times."""
    whole, broken, moments = tmp_path / "whole", tmp_path / "broken", random.Random(0)
    subprocess.run([*COMMAND, str(whole)], check=True, capture_output=True)
    cut = 0
    for _ in range(8):
        process = subprocess.Popen([*COMMAND, str(broken)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        lines = (broken / "metrics.jsonl").read_text().count("\n") if (broken / "metrics.jsonl").exists() else 0
        while process.poll() is None:  # until it has trained in this session, too, then a moment more
            now = (broken / "metrics.jsonl").read_text().count("\n") if (broken / "metrics.jsonl").exists() else 0
            if now > lines:
                time.sleep(moments.uniform(0, 0.4))
                break
            time.sleep(0.02)
        if process.poll() is not None:
            break
        process.kill()
        process.wait()
        cut += 1
    subprocess.run([*COMMAND, str(broken)], check=True, capture_output=True)
    assert cut >= 3 and told(broken) == told(whole)
