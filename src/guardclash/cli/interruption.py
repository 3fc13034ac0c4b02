"""Ctrl-C during a run, noticed for certain."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any


class Interruption:
    """Remembers that Ctrl-C was pressed; a watcher of a run, which it ends at the next finished job at the latest.

    Where Python waits for a lock, as it does most of the time for worker processes, a KeyboardInterrupt may be lost or
    become another error ("release unlocked lock").
    """

    def __init__(self) -> None:
        self.asked = False
        self._before: Any = None

    def __enter__(self) -> Interruption:
        usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # a background job may ignore it
        if usual and threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        raise KeyboardInterrupt  # at once if Python lets it through, else by `done`

    def started(self, waves: Any, seconds: dict[str, float]) -> None:
        """Nothing, unless it is to end."""
        self.done()

    def done(self, done: Any = None) -> None:
        """Ends the run if it is to end."""
        if self.asked:
            raise KeyboardInterrupt

    def collected(self, results: Any) -> None:
        """Nothing: what was collected is written."""
