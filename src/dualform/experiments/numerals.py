"""Numbers as the tables of reports have them."""


def number(value: float | int) -> str:
    """A number for a table."""
    return f"{value:.2e}"


def count(value: float | int) -> str:
    """A count for a table."""
    return f"{int(value)}"
