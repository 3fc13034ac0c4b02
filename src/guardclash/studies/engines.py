"""Who runs the jobs: this process, or a few processes of one thread each.

The runner uses `submit(fn, *args)` and `.result()` only, so any executor of that shape can take their place.
"""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from guardclash.studies.workers import Workers

# Freed activations stay in the process instead of going back to the system at every step: fewer page faults, 1.2 to
# 1.3 times the speed for small networks. glibc reads these when a process starts, so they are set for workers before
# those are born. What stays grows from training to training, batches being of many sizes, so it is given back after
# each job (`_tidy`).
ALLOCATOR = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "4000000000", "MALLOC_TOP_PAD_": "100000000"}
SINGLE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Later:
    """A call that happens when its result is asked for."""

    call: Callable[[], Any]

    def result(self) -> Any:
        """The result of the call."""
        return self.call()


class Inline:
    """Runs each job in this process, when its result is asked for."""

    def submit(self, fn: Callable[..., Any], /, *args: Any) -> Later:
        """The call `fn(*args)`, not made yet."""
        return Later(partial(fn, *args))

    def shutdown(self, wait: bool = True, cancel_futures: bool = False) -> None:
        """Nothing to do."""


def processes(workers: int, plugins: tuple[Path, ...] = (), threads: int = 1, limit: float | None = None) -> Workers:
    """Worker processes that die with this one; a job that kills its worker costs no other.

    Args:
        workers: Number of processes.
        plugins: Single-file plugins that each imports before its first job.
        threads: Threads of each.
        limit: Seconds after which a job is stopped; None: never.
    """
    fresh = {**ALLOCATOR, **(SINGLE_THREAD if threads == 1 else {})}
    for name, value in fresh.items():
        os.environ.setdefault(name, value)
    return Workers(workers, partial(_start_worker, os.getpid(), plugins), _tidy, limit)


def _tidy() -> None:
    """Gives free memory back to the system after a job."""
    with suppress(AttributeError, OSError, TypeError):  # glibc only
        ctypes.CDLL(None).malloc_trim(0)


def _start_worker(parent: int, plugins: tuple[Path, ...]) -> None:
    threading.Thread(target=_die_with, args=(parent,), daemon=True).start()
    from guardclash.registry import find_mechanisms  # only workers need it here

    find_mechanisms(plugins)


def _die_with(parent: int) -> None:
    """Ends this process when its parent is gone: an orphan would train what the next run trains as well."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
