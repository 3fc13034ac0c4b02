"""Claims of trials, in the store's `work/`, so that several runs on one store share the work instead of doing it twice.

To do something twice does no harm, so a claim need not be certain: where it cannot be written, there is none.
"""

from __future__ import annotations

import json
import os
import platform
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from guardclash.studies.activity import alive, this_process
from guardclash.studies.store import Store

SIGN_S = 60.0
"""How often a process that works at a trial shows that it lives."""
SILENT_S = 600.0
"""After how long without such a sign a claim from another host counts no more."""


@contextmanager
def claimed(store: Store, key: str, clock: Callable[[], float] = time.time) -> Iterator[bool]:
    """Claims a trial while the body runs.

    Yields:
        Whether it is ours: not if another process that lives has claimed it.
    """
    name = f"work/{key}.claim.json"
    there, living = _read(store, key, clock)
    if living:
        yield False
        return
    if there:  # of a process that is dead; where there was none, another's may have come meanwhile, which must stay
        store.forget_json(name)
    if not store.keep_first(name, {**this_process(), "started": clock()}):
        yield False
        return
    over = threading.Event()
    threading.Thread(target=_signs, args=(store.folder / name, over), daemon=True).start()
    try:
        yield True
    finally:
        over.set()
        store.forget_json(name)


def claim_of(store: Store, key: str, clock: Callable[[], float] = time.time) -> dict[str, Any] | None:
    """The claim of a trial, if there is one of a process that lives."""
    return _read(store, key, clock)[1]


def _read(store: Store, key: str, clock: Callable[[], float]) -> tuple[bool, dict[str, Any] | None]:
    """Whether there is any claim of a trial, and the one of a process that lives."""
    path = store.folder / "work" / f"{key}.claim.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        far = content["host"] != platform.node()  # whose processes cannot be seen from here
        lives = clock() - path.stat().st_mtime < SILENT_S if far else alive(content)
    except FileNotFoundError:
        return False, None
    except (OSError, ValueError, KeyError, TypeError):
        return True, None  # none of ours
    return True, dict(content) if lives else None


def _signs(path: Path, over: threading.Event) -> None:
    while not over.wait(SIGN_S):
        with suppress(OSError):
            os.utime(path)
