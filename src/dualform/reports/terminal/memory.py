"""What `dualform memory` prints: a row for each task, policy and bound."""

from dualform.experiments.memory import Row
from dualform.reports.memory import labels, percent
from dualform.reports.terminal import Terminal


def head(terminal: Terminal, about: str, turns: int) -> None:
    """What is measured, and the table's head."""
    terminal.unbroken(f"{about} Scores in percent, with intervals of 95%.")
    turn_names = "".join(f"{f'turn {i + 1}':<15}" for i in range(turns))
    terminal.print(f"{'task, score':<30}{'policy':<12}{'states':>7}  {turn_names}{'mean':>4}", soft_wrap=True)


def row(terminal: Terminal, scores: Row) -> None:
    """A row of the table."""
    task, name, states = labels(scores)
    cells = "".join(f"{percent(each):<15}" for each in scores.turns)
    terminal.unbroken(f"{task:<30}{name:<12}{states:>7}  {cells}{100 * scores.mean:>4.0f}")
