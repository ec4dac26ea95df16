"""Tasks of memory: a context that is shared by several questions, in text and, for small models, in tokens."""

from dualform.errors import require
from dualform.tasks.memory.example import Example, MemoryTask, Question, Room
from dualform.tasks.memory.passages import needle, summary_needle
from dualform.tasks.memory.retrieval import kv, prefix_suffix, variable_tracking
from dualform.tasks.memory.scoring import SCORES, score
from dualform.tasks.memory.token_form import FORMS, MemorySample, TokenMemory
from dualform.tasks.memory.whole import LABELS, many_shot, math_find
from dualform.tasks.memory.words import filler, sentences_of

__all__ = [
    "FORMS",
    "SCORES",
    "Example",
    "MemorySample",
    "MemoryTask",
    "Question",
    "Room",
    "TokenMemory",
    "filler",
    "memory_task",
    "memory_tasks",
    "register",
    "score",
    "sentences_of",
]

_SCBENCH = "SCBench (arXiv 2412.10319)"
_RULER = "RULER (arXiv 2404.06654)"
_TASKS = {
    task.name: task
    for task in (
        MemoryTask("kv", kv, f"{_SCBENCH} Retr.KV"),
        MemoryTask("prefix-suffix", prefix_suffix, f"{_SCBENCH} Retr.Prefix-Suffix"),
        MemoryTask("variable-tracking", variable_tracking, f"{_SCBENCH} Retr.MultiHop, {_RULER}"),
        MemoryTask("many-shot", many_shot, f"{_SCBENCH} ICL.ManyShot", chance=1 / LABELS),
        MemoryTask("needle", needle, _RULER),
        MemoryTask("math-find", math_find, f"{_SCBENCH} Math.Find"),
        MemoryTask("summary-needle", summary_needle, f"{_SCBENCH} Mix.Sum+NIAH"),
    )
}


def memory_tasks() -> dict[str, MemoryTask]:
    """Every memory task by name."""
    return dict(_TASKS)


def memory_task(name: str) -> MemoryTask:
    """The memory task of that name.

    **Raises:** `InputError` where there is none.
    """
    require(name in _TASKS, f"there is no memory task {name!r}; there are {', '.join(_TASKS)}.")
    return _TASKS[name]


def register(task: MemoryTask) -> MemoryTask:
    """Add a task of one's own, under its name.

    **Raises:** `InputError` where the name is taken.
    """
    require(task.name not in _TASKS, f"there is a memory task {task.name!r} already. Call yours otherwise.")
    _TASKS[task.name] = task
    return task
