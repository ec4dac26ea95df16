"""What `dualform steer` prints: each dose with its text, and what it costs."""

from dualform.generation import Perplexity
from dualform.lenses import SteeringVector
from dualform.reports.terminal import Terminal


def head(terminal: Terminal, model: str, vector: SteeringVector) -> None:
    """What is added."""
    norms = ", ".join(f"{place} (norm {norm:.4g})" for place, norm in vector.norms.items())
    terminal.unbroken(f"{model}: {vector.texts[0]:,} texts less {vector.texts[1]:,} at {norms}")


def row(
    terminal: Terminal, dose: float, text: str, cost: Perplexity | None = None, unsteered: Perplexity | None = None
) -> None:
    """A dose: its perplexity, and how many nats a token are above the unsteered one's, passage by passage; then its text."""
    said = ""
    if cost is not None:
        said = f"  perplexity {cost.value:.2f} ({cost.low:.2f} to {cost.high:.2f})"
    if cost is not None and unsteered is not None and cost is not unsteered:
        value, low, high = Perplexity.of(cost.losses - unsteered.losses).nats
        said += f", {value:+.3f} ({low:+.3f} to {high:+.3f}) nats a token"
    terminal.unbroken((f"[{dose:g} times]" if dose else "[unsteered]", "bold"), said)
    for line in text.split("\n"):
        terminal.unbroken(line)
