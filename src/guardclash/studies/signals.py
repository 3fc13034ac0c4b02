"""What a job may not change of the process that it runs in."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

KEPT = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGALRM") if hasattr(signal, name))


@contextmanager
def signals_kept() -> Iterator[Callable[[], bool]]:
    """Gives the process its answers to signals back when the body ends.

    Yields:
        Whether Ctrl-C came in the meantime: a KeyboardInterrupt without it is somebody's mistake.
    """
    if threading.current_thread() is not threading.main_thread():  # only that one may say what a signal does
        yield lambda: False
        return
    before = {number: signal.getsignal(number) for number in KEPT}
    usual, came = before[signal.SIGINT], []

    def note(number: int, frame: FrameType | None) -> None:
        came.append(number)
        if callable(usual):
            usual(number, frame)

    if callable(usual):
        signal.signal(signal.SIGINT, note)
    try:
        yield lambda: bool(came)
    finally:
        for number, handler in before.items():
            if handler is not None:  # else it was not set from Python, and cannot be put back from here
                signal.signal(number, handler)
