"""How a command ends badly: one sentence for the person, and an exit code."""

import sys


def say(message: object, code: int) -> int:
    """Print the sentence where errors go, and hand on the exit code."""
    print(f"dualform: {message}", file=sys.stderr)
    return code
