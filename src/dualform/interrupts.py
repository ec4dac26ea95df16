"""Ctrl-C, and SIGTERM with it: what is under way is finished, or ends as after Ctrl-C."""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM") if hasattr(signal, name))


def as_interrupt(number: int, frame: FrameType | None) -> None:
    """What SIGTERM does in the command line: it interrupts, as Ctrl-C does, also the processes that were started here."""
    for process in multiprocessing.active_children():
        if process.pid is not None:
            with contextlib.suppress(OSError):
                os.kill(process.pid, signal.SIGINT)
    raise KeyboardInterrupt


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Within it SIGTERM is as Ctrl-C, unless somebody else handles it."""
    if not _default(signal.SIGTERM):
        yield
        return
    before = signal.signal(signal.SIGTERM, as_interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def deferred_interrupt() -> Iterator[threading.Event]:
    """Within it, Ctrl-C or SIGTERM sets the event, so that what is under way can be finished; a second one is not deferred.

    What somebody else handles is left alone, and so is all outside of the main thread.
    """
    event = threading.Event()
    before: dict[int, Any] = {}

    def handle(number: int, frame: FrameType | None) -> None:
        event.set()
        _restore(before)

    for number in SIGNALS:
        if _default(number):
            before[number] = signal.signal(number, handle)
    try:
        yield event
    finally:
        _restore(before)


def _default(number: int) -> bool:
    """Whether the signal can be handled here, and does what it does by itself, or what `terminable` makes of it."""
    if threading.current_thread() is not threading.main_thread():
        return False
    return signal.getsignal(number) in (signal.default_int_handler, as_interrupt) or (
        number != signal.SIGINT and signal.getsignal(number) is signal.SIG_DFL
    )


def _restore(before: dict[int, Any]) -> None:
    for number, handler in before.items():
        signal.signal(number, handler)
