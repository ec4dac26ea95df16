"""What `dualform perplexity` prints: a row for each policy and bound."""

from dualform.generation import Perplexity
from dualform.reports.terminal import Terminal


def head(terminal: Terminal, model: str, text: str, passages: int, length: int) -> None:
    """What is measured, and the table's head."""
    terminal.unbroken(
        f"{model} on {text}: {passages} passages of {length:,} tokens; intervals of 95%, and nats a token above full"
    )
    terminal.print(f"{'policy':<14}{'states':>8}{'perplexity':>12}  {'interval':<20}{'above full':<20}")


def row(terminal: Terminal, policy: str, states: int | None, measured: Perplexity, full: Perplexity | None) -> None:
    """A row of the table; the difference is paired, passage by passage."""
    count = "all" if states is None else f"{states:,}"
    above = ""
    if full is not None and full is not measured:
        gap = Perplexity.of(measured.losses - full.losses)
        value, low, high = gap.nats
        above = f"{value:.3f} ({low:.3f} to {high:.3f})"
    interval = f"{measured.low:.2f} to {measured.high:.2f}"
    terminal.print(f"{policy:<14}{count:>8}{measured.value:>12.2f}  {interval:<20}{above:<20}")
