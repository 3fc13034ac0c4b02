"""Notes of work under way, in the store's `work/`: a training and its epoch, a measurement, a run and its estimates.

They are how the terminal view and `guardclash status` know what other processes do, whatever executor started those:
all that is needed is a store that both see. A note belongs to a process and says nothing once that is dead. No torch.
"""

from __future__ import annotations

import json
import math
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Protocol

from guardclash.studies.store import Store

Kind = Literal["progress", "measuring", "run"]


class Write(Protocol):
    """Rewrites a note with other values of some of its fields."""

    def __call__(self, **changes: Any) -> None:
        """Fields that are not given stay as they are."""


@contextmanager
def noted(store: Store, name: str, clock: Callable[[], float] = time.time, **content: Any) -> Iterator[Write]:
    """Keeps a note in the store while the body runs.

    Args:
        store: Where.
        name: Key and kind, such as "<trial>.progress" or "<probe>.measuring".
        clock: Seconds since 1970.
        content: Fields; numbers that are not finite become null.

    Yields:
        What rewrites the note. Beside its own fields it holds `pid`, `host` and `born` (of the process), `started` and
        `written` (seconds since 1970).
    """
    path = f"work/{name}.json"
    fields = {**this_process(), "started": clock(), **content}

    def write(**changes: Any) -> None:
        fields.update(changes)
        store.keep_json(path, _finite({**fields, "written": clock()}))

    write()
    try:
        yield write
    finally:
        store.forget_json(path)


def seldom(write: Write, clock: Callable[[], float] = time.monotonic, every: float = 1.0) -> Callable[[int, int], None]:
    """What writes how many of how many are done into a note, at most once in so many seconds."""
    last = -math.inf

    def told(done: int, total: int) -> None:
        nonlocal last
        if clock() - last >= every:
            last = clock()
            write(done=done, of=total)

    return told


def notes(store: Store, kind: Kind) -> dict[str, dict[str, Any]]:
    """The notes of one kind whose processes live, by key."""
    found = {}
    for path in (store.folder / "work").glob(f"*.{kind}.json"):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if isinstance(content, dict) and alive(content):
                written = path.stat().st_mtime
                found[path.name.removesuffix(f".{kind}.json")] = {"started": written, "written": written, **content}
        except (OSError, ValueError, KeyError, TypeError):
            continue  # gone in the meantime, or none of ours
    return found


def alive(note: Mapping[str, Any]) -> bool:
    """Whether the process of a note runs.

    Of another machine that shares the store, and where the system does not tell, it is taken to: such a note goes when
    the store is swept, a day after it was written.
    """
    if note.get("host", platform.node()) != platform.node():
        return True
    stat = _stat(int(note["pid"]))
    if not stat:
        return not Path("/proc/self").exists()
    state, born = stat
    return state not in "ZX" and note.get("born", born) == born  # a zombie runs no more; ids are given out again


def this_process() -> dict[str, Any]:
    """What tells this process from all others: `pid`, `host`, and `born` where the system says it."""
    stat = _stat(os.getpid())
    return {"pid": os.getpid(), "host": platform.node(), **({"born": stat[1]} if stat else {})}


def _stat(pid: int) -> tuple[str, int] | None:
    """State and start, in clock ticks, of a process; None if there is no such process, or no /proc."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()  # a name may hold spaces
    except OSError:
        return None
    return fields[0], int(fields[19])


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _finite(item) for name, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
