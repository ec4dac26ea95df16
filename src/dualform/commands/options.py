"""Which options of a command are read beside which others: one that would do nothing is refused, and not passed over."""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

from dualform.counts import seed_of
from dualform.errors import require

MOST = 2**31 - 1
"""The largest number of tokens, states, texts or units: places are int32 here."""


class Read(NamedTuple):
    """Options that are read only where something holds.

    - options: the fields.  where: of the command, with all its options, whether it reads them.
    - what: they are of; the end of a sentence that begins with their names and "is" or "are".
    """

    options: tuple[str, ...]
    where: Callable[[Any], bool]
    what: str


class Options:
    """The base of a command: its options are the fields of a dataclass.

    - RULES: which options are read where; those without a rule are always read. An option of a rule is given where it is not
      its default.
    """

    RULES: ClassVar[tuple[Read, ...]] = ()

    def check_options(self) -> None:
        """Raise `InputError` for an option that nothing would read, and for a number of things that is none."""
        fields = {field.name: field for field in dataclasses.fields(self)}  # pyright: ignore[reportArgumentType] - a dataclass
        for rule in self.RULES:
            given = [name for name in rule.options if getattr(self, name) != fields[name].default]
            require(not given or rule.where(self), f"{listed(given)} {rule.what}")
        for name in fields:
            given = getattr(self, name)
            for value in given if isinstance(given, tuple) else (given,):
                if name == "seed" and value is not None:
                    seed_of(value)
                require(
                    name == "seed" or not isinstance(value, int) or abs(value) <= MOST,
                    f"{flag(name)} {value}: give a whole number of at most {MOST:,}.",
                )


def flag(name: str) -> str:
    """An option as it is typed."""
    return "--" + name.replace("_", "-")


def listed(names: list[str]) -> str:
    """Options by name, and the verb for so many: "--a is", "--a, --b and --c are"."""
    *first, last = [flag(name) for name in names] or [""]
    return f"{', '.join(first)} and {last} are" if first else f"{last} is"


OF_A_POLICY = "of a policy; give --policy, such as tova."


def drops(*policies: str | None) -> bool:
    """Whether one of these policies may drop something; None is no policy."""
    return any(name not in (None, "full") for name in policies)
