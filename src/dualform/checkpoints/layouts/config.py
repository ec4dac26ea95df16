"""What a config.json may say: the keys that a layout knows, each checked, and every other refused by its name.

A form is how one library writes the config of one architecture: it names every key that is read, with the library's own
default; every key that must be as it is here; and every key that changes no logit, and why. Nothing else may be said.
"""

import json
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from dualform.errors import FileError
from dualform.reading import text_of_file

MOST = 2**31 - 1
"""The largest whole number of a config: sizes and places in a text are int32 here."""


class Kind(NamedTuple):
    """What a value must be, in words; whether one is; and whether it is a real number, which may be written as a whole one."""

    wanted: str
    fits: Callable[[Any], bool]
    real: bool = False


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e30


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


COUNT = Kind("a whole number from 1 to 2^31 - 1", lambda value: _is_whole(value) and 1 <= value <= MOST)
NUMBER = Kind("a whole number from 0 to 2^31 - 1", lambda value: _is_whole(value) and 0 <= value <= MOST)
REAL = Kind("a number, below 10^30", _is_number, True)
EPSILON = Kind("a number of at least 0, below 10^30", lambda value: _is_number(value) and value >= 0, True)
POSITIVE = Kind("a number above 0, below 10^30", lambda value: _is_number(value) and value > 0, True)
SHARE = Kind("a number above 0 and up to 1", lambda value: _is_number(value) and 0 < value <= 1, True)
FLAG = Kind("true or false", lambda value: isinstance(value, bool))
ANY = Kind("anything", lambda value: True)


def optional(kind: Kind) -> Kind:
    """The same, or null."""
    return Kind(f"{kind.wanted}, or null", lambda value: value is None or kind.fits(value))


def texts(*allowed: str) -> Kind:
    """A list of these words, at least one."""
    fits = lambda value: isinstance(value, list) and value != [] and all(each in allowed for each in value)
    return Kind("a list of " + " and ".join(json.dumps(each) for each in allowed), fits)


def _are_tokens(value: Any) -> bool:
    return all(map(_is_whole, value if isinstance(value, list) else [value]))


TOKENS = Kind("a token's number, a list of such, or null", lambda value: value is None or _are_tokens(value))


class Key(NamedTuple):
    """One key that a form knows.

    - name: in the file; a dot leads into an object.  also: other names, which must say the same.
    - kind: what its value must be.  default: what the library takes where the file does not say it.
    - role: "read", "fixed" (it must be as it is here) or "ignored".
    - why: of an ignored one.
    - asked: what a layout asks for it by.
    """

    name: str
    kind: Kind
    default: Any
    role: str
    why: str
    asked: str
    also: tuple[str, ...] = ()


def read(name: str, kind: Kind, default: Any = None, *, asked: str = "", also: tuple[str, ...] = ()) -> Key:
    """A key that is read. Of sizes the tensors tell, and the default is None: what they have."""
    return Key(name, kind, default, "read", "", asked or name, also)


def fixed(name: str, *allowed: Any, asked: str = "", also: tuple[str, ...] = ()) -> Key:
    """A key that must be as the models here are; the first is the library's default."""
    kind = Kind(" or ".join(json.dumps(each) for each in allowed), lambda value: any(same(value, a) for a in allowed))
    return Key(name, kind, allowed[0], "fixed", "", asked or name, also)


def ignored(why: str, *names: str, kind: Kind = ANY) -> tuple[Key, ...]:
    """Keys that change no logit."""
    return tuple(Key(name, kind, None, "ignored", why, name) for name in names)


def same(one: Any, other: Any) -> bool:
    """Whether two values of a config are one: 1 and 1.0 are, 1 and true are not."""
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    return isinstance(one, bool) == isinstance(other, bool) and one == other


class Form(NamedTuple):
    """How one library writes the config of one architecture.

    - library: whose.  model_type: what the file calls the architecture, None where the library writes none.
    - classes: what "architectures" may name.  keys: all that it may say.
    """

    library: str
    model_type: str | None
    classes: tuple[str, ...]
    keys: tuple[Key, ...]

    def by_name(self) -> dict[str, Key]:
        """Every key by each of its names."""
        return {name: key for key in self.keys for name in (key.name, *key.also)}

    def flat(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """What a file says, where a form knows keys within an object, by names with a dot."""
        within = {name.partition(".")[0] for name in self.by_name() if "." in name}
        found: dict[str, Any] = {}
        for name, value in fields.items():
            if name in within and isinstance(value, dict):
                found |= {f"{name}.{inner}": each for inner, each in value.items()}
            elif not (name in within and value is None):
                found[name] = value
        return found

    def strange(self, fields: Mapping[str, Any]) -> int:
        """How many of a file's keys this form does not know, or must have otherwise."""
        names = self.by_name()
        fixed = lambda key, value: key.role != "fixed" or key.kind.fits(value)
        return sum(
            value is not None and (name not in names or not fixed(names[name], value))
            for name, value in self.flat(fields).items()
        )


ANY_FORM = Form("any library", None, (), ())
"""Of a config of which nothing is known: its keys are asked for one by one, with `Config.number`."""


class Config:
    """A config.json in one form: what it says, checked when it is made.

    **Arguments:** fields: what the file says; where: its name in messages; form: whose keys it may have, any if not given; kind:
    the architecture in words.

    **Raises:** `FileError` for a key that the form does not know and whose value is not null, a value that no model has, one
    that the models here do not have, and one key said twice, differently.
    """

    def __init__(self, fields: Mapping[str, Any], where: str, form: Form = ANY_FORM, kind: str = "model"):
        self.fields, self.where, self.form, self.kind = dict(fields), where, form, kind
        self._keys = {key.asked: key for key in form.keys}
        self._said: dict[str, tuple[str, Any]] = {}
        names = form.by_name()
        for name, value in form.flat(self.fields).items():
            key = names.get(name)
            if key is None:
                if value is not None and form is not ANY_FORM:
                    raise self._unknown(name, value)
            elif key.role != "ignored":
                self._take(key, name, value)
            elif not key.kind.fits(value):
                raise self.refused(name, value, key.kind.wanted)

    def _take(self, key: Key, name: str, value: Any) -> None:
        if not key.kind.fits(value):
            raise self.refused(name, value, key.kind.wanted)
        before, said = self._said.setdefault(key.asked, (name, value))
        if not same(said, value):
            raise FileError(
                f"{self.where} says {before} {shown_json(said)} and {name} {shown_json(value)}, which are one thing. Leave out "
                "the one that is not meant."
            )

    def __getitem__(self, asked: str) -> Any:
        """What the file says, the library's default where it says nothing."""
        value = self._said[asked][1] if asked in self._said else self._keys[asked].default
        return float(value) if self._keys[asked].kind.real and value is not None else value

    def number(self, name: str, default: float) -> float:
        """What the file says by this name, whatever the form: a finite number, the default where it says nothing.

        **Raises:** `FileError` for what is no number.
        """
        value = self.fields.get(name)
        if value is not None and not REAL.fits(value):
            raise self.refused(name, value, REAL.wanted)
        return float(default if value is None else value)

    def knows(self, asked: str) -> bool:
        """Whether the form has this key."""
        return asked in self._keys

    def says(self, asked: str) -> bool:
        """Whether the file has this key, and it is not null."""
        return asked in self._said and self._said[asked][1] is not None

    def agrees(self, asked: str, found: Any) -> None:
        """Raise `FileError` where the config has another size than the tensors."""
        if self.says(asked) and not same(self[asked], found):
            name, value = self._said[asked]
            raise FileError(
                f"{self.where} says {name} {shown_json(value)}, and the tensors have {found}. They are of different models."
            )

    def needed(self, asked: str) -> Any:
        """What the shapes of the tensors do not tell, and the library has no default for.

        **Raises:** `FileError` where the file does not say it.
        """
        if self[asked] is None:
            raise FileError(
                f"{self.where} does not say {self._keys[asked].name}, which the shapes of a {self.kind}'s tensors do not tell. "
                "Keep the checkpoint's config.json beside it."
            )
        return self[asked]

    def wrong(self, asked: str, wanted: str) -> FileError:
        """What a person reads of a value that does not fit what else is said."""
        name, value = self._said.get(asked, (self._keys[asked].name, self._keys[asked].default))
        return self.refused(name, value, wanted)

    def refused(self, name: str, value: Any, wanted: str) -> FileError:
        """What a person reads of a key that cannot be used."""
        return FileError(
            f"{self.where} says {name} {shown_json(value)}; what can be read here needs {wanted}. Take another checkpoint, or "
            "convert it."
        )

    def _unknown(self, name: str, value: Any) -> FileError:
        return FileError(
            f"{self.where} says {name} {shown_json(value)}, a key that is not known here of a {self.kind} of "
            f"{self.form.library}: it may change what the model computes. Leave it out if it does not, or take another "
            "checkpoint."
        )


def shown_json(value: Any) -> str:
    """A value as the file has it, short, and nothing in it moves a terminal's cursor."""
    text = json.dumps(value)  # ASCII alone
    return text if len(text) <= 80 else f"{text[:77]}..."


def read_json(path: Path) -> tuple[dict[str, Any], str]:
    """The object in a file, and what messages call the file.

    **Raises:** `FileError` where it is missing, no JSON object, or says one thing twice, differently.
    """
    where, text = repr(os.fspath(path)), text_of_file(path)

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, value in pairs:
            if name in found and not same(found[name], value):
                raise FileError(
                    f"{where} says {shown_json(name)} twice, differently. Leave out the one that is not meant."
                )
            found[name] = value
        return found

    try:
        fields = json.loads(text, object_pairs_hook=once)
    except (ValueError, RecursionError):
        raise FileError(f"{where} is not JSON. Copy it again.") from None
    if not isinstance(fields, dict):
        raise FileError(f"{where} is not a config: it is a {type(fields).__name__}, not an object. Copy it again.")
    return {name: _numbers(value) for name, value in fields.items()}, where


def _numbers(value: Any) -> Any:
    """A value in which the floats that JSON has no word for, as transformers writes them, are floats."""
    if isinstance(value, dict) and set(value) == {"__float__"}:
        named = {"Infinity": math.inf, "-Infinity": -math.inf, "NaN": math.nan}
        return named.get(str(value["__float__"]), value)
    if isinstance(value, list):
        return [_numbers(each) for each in value]
    return {name: _numbers(each) for name, each in value.items()} if isinstance(value, dict) else value
