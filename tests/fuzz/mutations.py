"""Damage that is done to a file: bits, lengths, numbers at their limits, escapes, parts that are missing, doubled or moved."""

import copy
import json
import random
import struct
from collections.abc import Callable
from typing import Any

BYTES = (
    b"\0",
    b"\xff",
    b"\x1b[2J",
    b"\n",
    b"\xed\xa0\x80",
    b"\xe2\x80\xae",
    b"\x80",
    b'"',
    b"{",
    b"[",
    b"]",
    b"}",
    b",",
)
NUMBERS = (0, 1, -1, 2**7, 2**15, 2**16, 2**31 - 1, -(2**31), 2**32 - 1, 2**48, 2**62, 2**63 - 1, -(2**63))
TEXTS = (
    b"-1",
    b"0",
    b"1e400",
    b"NaN",
    b"null",
    b"true",
    b"[]",
    b"{}",
    b'""',
    b"9" * 30,
    b"\xd9\xa3",
    b"\xc2\xb2",
    b'"\\ud800"',
)
DIGITS = b"0123456789"


def flipped(data: bytearray, random: random.Random) -> None:
    """One bit is another."""
    data[random.randrange(len(data))] ^= 1 << random.randrange(8)


def replaced(data: bytearray, random: random.Random) -> None:
    """One byte is any other."""
    data[random.randrange(len(data))] = random.randrange(256)


def cut(data: bytearray, random: random.Random) -> None:
    """The end is missing."""
    del data[random.randrange(len(data)) :]


def removed(data: bytearray, random: random.Random) -> None:
    """A part is missing."""
    place = random.randrange(len(data))
    del data[place : place + random.randrange(1, 33)]


def doubled(data: bytearray, random: random.Random) -> None:
    """A part is there twice."""
    place = random.randrange(len(data))
    data[place:place] = data[place : place + random.randrange(1, 65)]


def moved(data: bytearray, random: random.Random) -> None:
    """A part lies upon another."""
    begin, end, size = random.randrange(len(data)), random.randrange(len(data)), random.randrange(1, 33)
    data[end : end + size] = data[begin : begin + size]


def inserted(data: bytearray, random: random.Random) -> None:
    """What ends, begins or breaks a text."""
    place = random.randrange(len(data))
    data[place:place] = random.choice(BYTES) * random.choice((1, 1, 1, 2, 50))


def limits(data: bytearray, random: random.Random) -> None:
    """A binary number of 2, 4 or 8 bytes is at its limit."""
    size, form = random.choice(((2, "<H"), (4, "<I"), (8, "<Q")))
    place = random.randrange(max(len(data) - size, 0) + 1)
    data[place : place + size] = struct.pack(form, random.choice(NUMBERS) % 2 ** (8 * size))


def written(data: bytearray, random: random.Random) -> None:
    """A number that is written out, or the value behind a colon, is another text."""
    places = [i for i, byte in enumerate(data) if byte in DIGITS or byte == 58]
    if not places:
        return flipped(data, random)
    place = random.choice(places)
    end = place = place + (data[place] == 58)
    while end < len(data) and data[end] in DIGITS + b".-+e":
        end += 1
    data[place:end] = random.choice(TEXTS)


KINDS: tuple[Callable[[bytearray, random.Random], None], ...]
KINDS = (flipped, replaced, cut, removed, doubled, moved, inserted, limits, written)


VALUES = (None, True, 0, 1, -1, 2**31, 2**63, 10**30, 0.5, 1e300, float("nan"), "", "a", "\u00b2", "\x1b[2J", "\ud800")
VALUES += ([], {}, [[]])
"""What stands in JSON where something else should."""


def misplaced(said: Any, random: random.Random) -> Any:
    """JSON in which one value is another, is missing, is there under another name, or has changed places."""
    at, places = said, []
    while isinstance(at, dict | list) and at:
        keys = list(at) if isinstance(at, dict) else range(len(at))
        places.append((at, random.choice(keys)))
        at = at[places[-1][1]]
    if not places:
        return copy.deepcopy(random.choice(VALUES))
    within, key = random.choice(places)
    how = random.randrange(6)
    if how == 0:
        del within[key]
    elif how == 1:
        within[key] = copy.deepcopy(
            within[random.choice(list(within) if isinstance(within, dict) else range(len(within)))]
        )
    elif how == 2 and isinstance(within, dict):
        within[str(random.choice(VALUES))] = within.pop(key)
    elif how == 3 and isinstance(within, list):
        within.insert(key, within[key])
    else:
        within[key] = copy.deepcopy(random.choice(VALUES))
    return said


def rewritten(whole: bytes, random: random.Random) -> bytes:
    """A file of JSON, or one that begins with its length and JSON as safetensors does, whose JSON is another."""
    size = int.from_bytes(whole[:8], "little")
    begin, end = (0, len(whole)) if whole[:1] == b"{" else (8, 8 + size)
    said = json.loads(whole[begin:end])
    for _ in range(random.choice((1, 1, 2, 4))):
        said = misplaced(said, random)
    text = json.dumps(said).encode()
    return text if begin == 0 else len(text).to_bytes(8, "little") + text + whole[end:]


def mutation(whole: bytes, seed: int) -> bytes:
    """The file with some damage; the same seed gives the same bytes. Every other file with JSON has that alone damaged."""
    drawn, data = random.Random(seed), bytearray(whole)
    if seed % 2 and (whole[:1] == b"{" or whole[8:9] == b"{"):
        return rewritten(whole, drawn)
    for _ in range(drawn.choice((1, 1, 1, 2, 2, 4))):
        if data:
            drawn.choice(KINDS)(data, drawn)
    return bytes(data)
