"""Several hosts that train together, on JAX's own runtime; where one of them ends, the others end with its name."""

import contextlib
import ctypes
import os
import re
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import NoReturn

import jax
import numpy as np
from jax.experimental import multihost_utils

from dualform.counts import counted
from dualform.errors import DualformError, LostError, printable, require

HEARTBEAT = 20
"""Seconds without a sign of life after which a host is given up."""
JOINING = 300
"""Seconds in which all hosts must have joined."""
_NAME = 64
"""Bytes of a host's name."""


@contextlib.contextmanager
def joined(
    coordinator: str, hosts: int, host: int, *, heartbeat: int = HEARTBEAT, joining: int = JOINING
) -> Iterator[None]:
    """Within it this process is one of several that train together, each of which calls this: `jax.devices()` are those of all.

    It must come before anything is computed. Where another host ends, or cannot be reached any longer, this process ends, too:
    with exit code 1, and a sentence that names it. What JAX's runtime writes to stderr meanwhile is kept off the terminal.

    **Arguments:** coordinator: HOST:PORT of host 0, on which it listens, and the others reach it.  hosts: how many.  host: the
    number of this one, from 0.  heartbeat: seconds without a sign of life, after which a host is given up.  joining: seconds in
    which all must have joined.

    **Raises:** `InputError` where the numbers or the address cannot be; `LostError` where another host has ended, and JAX does
    not say which.
    """
    check_hosts(coordinator, hosts, host)
    last = _LastWords(
        host,
        f"host {host} cannot train with the others: not all of the {hosts} hosts joined at {coordinator} within {joining} s, or "
        "two have one number. Start each with the same --hosts and --coordinator and with a --host of its own, host 0 where "
        "that address is.",
    )
    with last.heard():
        # Ctrl-C and SIGTERM are agreed on at a chunk's end; JAX would take SIGTERM for itself.
        jax.config.update("jax_enable_preemption_service", False)
        try:
            jax.distributed.initialize(
                coordinator,
                hosts,
                host,
                initialization_timeout=joining,
                heartbeat_timeout_seconds=heartbeat,
                shutdown_timeout_seconds=heartbeat,
            )
        except Exception as error:
            why = printable(str(error), 300).rstrip(".")
            raise LostError(f"host {host} cannot join at {coordinator} ({why}). Is the port free on host 0?") from error
        try:
            last.names = _names()
            yield
            multihost_utils.sync_global_devices("the end")  # leaving has a time limit, and what is left to do has none
            jax.distributed.shutdown()
        except BaseException as error:
            if isinstance(error, DualformError | KeyboardInterrupt) or not _is_of_another(error):
                last.own = True  # said by whoever catches it; at the end of the process JAX tells the others
                raise
            time.sleep(2 * heartbeat)  # the coordinator finds out who it was, and tells all
            raise LostError(f"the connection to another host broke: {printable(str(error), 300)}.") from error


def check_hosts(coordinator: str | None, hosts: int, host: int | None) -> None:
    """Raise `InputError` where the numbers of hosts, or the coordinator's address, cannot be."""
    require(counted(hosts) is not None and hosts >= 1, f"there are {hosts} hosts; there must be at least 1.")
    require(
        host is not None and counted(host) is not None and 0 <= host < hosts,
        f"this is host {host} of {hosts}; give its number, from 0 to {hosts - 1}.",
    )
    address = re.fullmatch(r"(?:[\w.-]+|\[[\da-fA-F:.]+\]):(\d{1,5})", coordinator or "", re.ASCII)
    require(
        address is not None and 0 < int(address[1]) < 1 << 16,
        f"the coordinator is {coordinator!r}; give the address of host 0 with a free port there, such as 10.0.0.1:1234.",
    )


def named(number: int, names: list[str]) -> str:
    """A host by its number and, if it is known, its name."""
    return f"host {number} ({names[number]})" if number < len(names) else f"host {number}"


def lost(said: str) -> list[int]:
    """The hosts that ended, by what JAX's runtime said last; none where it does not say."""
    if found := re.search(r"unhealthy \(stopped sending heartbeats\):\n((?:\d+\n)+)", said):
        return [int(number) for number in found[1].split()]
    if found := re.search(r"The first task at the barrier: (\d+)", said):  # it left the training before the others
        return [int(found[1])]
    return [0] if "Failed to send RPC to coordination service" in said else []


def _names() -> list[str]:
    """The names of all hosts; the first thing that they do together, of which JAX's runtime speaks on stdout."""
    own = socket.gethostname().encode()[:_NAME].ljust(_NAME, b"\0")
    with _kept_off(1):
        every = np.asarray(multihost_utils.process_allgather(np.frombuffer(own, np.uint8)))
    return [printable(each.tobytes().rstrip(b"\0").decode(errors="replace")) for each in every.reshape(-1, _NAME)]


def _is_of_another(error: BaseException) -> bool:
    """Whether it may come from another host's end: an operation that all take part in has failed."""
    return isinstance(error, jax.errors.JaxRuntimeError) or re.search("Gloo|NCCL|coordination", str(error)) is not None


class _LastWords:
    """What is said as JAX's runtime aborts the process: that is how it ends one when another host has ended.

    Python's own handlers come too late for an abort, so it is the C library's that is set.

    - names: of the hosts, once they have joined.  own: whether this process ends for a reason of its own, said elsewhere.
    """

    def __init__(self, host: int, unjoined: str):
        self.host, self.unjoined, self.names, self.own = host, unjoined, [], False
        self.file, self.stderr = tempfile.TemporaryFile(), os.dup(2)
        self.handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(self.say)

    @contextlib.contextmanager
    def heard(self) -> Iterator[None]:
        """Within it the runtime's stderr is a file, Python's goes where it went, and an abort is answered.

        After an error that stays so until the process ends, since the runtime speaks, and may abort, at its very end.
        """
        before = sys.stderr
        before.flush()
        os.dup2(self.file.fileno(), 2)
        sys.stderr = open(self.stderr, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)
        signal_of_c = ctypes.CDLL(None).signal
        signal_of_c.argtypes, signal_of_c.restype = (ctypes.c_int, ctypes.c_void_p), ctypes.c_void_p
        earlier = signal_of_c(signal.SIGABRT, ctypes.cast(self.handler, ctypes.c_void_p))
        try:
            yield
        except BaseException:
            _ENDING.append(self)
            raise
        signal_of_c(signal.SIGABRT, earlier)
        sys.stderr = before
        os.dup2(self.stderr, 2)
        os.close(self.stderr)
        self.file.close()

    def say(self, number: int) -> NoReturn:
        """End the process with exit code 1, and with a sentence unless another one has been said."""
        if not self.own:
            said = os.pread(self.file.fileno(), 1 << 20, 0).decode(errors="replace")
            os.write(self.stderr, f"dualform: {self.sentence(said)}\n".encode())
        os._exit(1)

    def sentence(self, said: str) -> str:
        """What a person is told, by what the runtime said."""
        if not self.names:
            return self.unjoined
        ended = " and ".join(named(number, self.names) for number in lost(said)) or "another host"
        return (
            f"{ended} has ended, or cannot be reached, and so {named(self.host, self.names)} ends, too. Run the same command "
            "again: it goes on from the last checkpoint, on fewer hosts as well."
        )


_ENDING: list[_LastWords] = []
"""Handlers that stay until the process ends."""


@contextlib.contextmanager
def _kept_off(number: int) -> Iterator[None]:
    """Within it what is written to a file descriptor, past Python, goes nowhere."""
    sys.stdout.flush()
    before = os.dup(number)
    with open(os.devnull, "wb") as nothing:
        os.dup2(nothing.fileno(), number)
    try:
        yield
    finally:
        os.dup2(before, number)
        os.close(before)
