"""The worked example of docs/tasks.md is a task: one file, registered by its own line, with all that follows from it."""

import re
from pathlib import Path

import numpy as np
import pytest

from dualform.errors import InputError
from dualform.tasks import DrawnTask, registration

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "tasks.md").read_text()


def test_the_example_is_a_task(tmp_path, monkeypatch):
    """Its file gives a task by its path and by its name, with splits, lengths and settings; its answers are what it says."""
    monkeypatch.setattr(registration, "_TASKS", {})  # what is registered is forgotten in the end
    [code] = [code for code in re.findall(r"^```python\n(.*?)^```$", TEXT, flags=re.M | re.S) if "@register" in code]
    assert sum(bool(line.strip()) for line in code.splitlines()) <= 11
    (tmp_path / "mine.py").write_text(code)
    kind = registration.named(str(tmp_path / "mine.py"))
    assert registration.known() == {"first-again": kind} and issubclass(kind, DrawnTask)
    task = kind.open(time=6, batch=4, held=4, lengths=[9])
    for split, time in (("validation", 6), ("test", 6), ("length 9", 9)):
        [(x, y)] = task.held_out(split)
        assert x.shape == (4, time) and (np.asarray(y)[:, :-1] == -1).all() and (y[:, -1] == x[:, 0]).all()
    with pytest.raises(InputError, match="FirstAgain has no setting 'size'; it has time, batch, held, lengths"):
        kind.open(size=3)
