"""Worker processes: a call that kills its worker costs no other call, and whatever is asked for has an answer."""

from __future__ import annotations

import os
import platform
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from guardclash.errors import UserError
from guardclash.studies.engines import processes
from guardclash.studies.workers import WorkerLost, Workers


def nothing() -> None:
    """Neither before a worker's first call nor after any."""


def refuse() -> None:
    raise UserError("the plugin cannot be imported")


def double(number: int) -> int:
    return 2 * number


def whoami() -> int:
    return os.getpid()


def die(how: str, folder: Path) -> str:
    """Ends its own process the first time, or every time."""
    tried = len(list(folder.iterdir()))
    (folder / str(tried)).touch()
    if how == "once" and tried:
        return "the second time it went well"
    if how == "exit":
        os._exit(7)
    os.kill(os.getpid(), signal.SIGSEGV if how == "SIGSEGV" else signal.SIGKILL)
    return "never"


def leave(error: type[BaseException]) -> None:
    raise error("by itself")


def hang(begun: Path) -> None:
    begun.touch()
    threading.Event().wait()


def unsendable() -> Any:
    return lambda: None


@pytest.fixture(scope="module")
def pool() -> Iterator[Workers]:
    with Workers(2, nothing, nothing) as workers:
        yield workers


def test_many_calls_have_their_own_answers(pool):
    futures = [pool.submit(double, number) for number in range(50)]
    assert [future.result(60) for future in futures] == [2 * number for number in range(50)]


@pytest.mark.parametrize(
    ("how", "told"),
    [("exit", "with exit code 7"), ("SIGSEGV", "by SIGSEGV"), ("SIGKILL", "by SIGKILL.* memory is short")],
)
def test_a_call_that_kills_its_worker_twice_is_given_up_and_only_it(pool, tmp_path, how, told):
    poison = pool.submit(die, how, tmp_path)
    others = [pool.submit(double, number) for number in range(6)]
    assert [future.result(60) for future in others] == [0, 2, 4, 6, 8, 10]
    with pytest.raises(WorkerLost, match=f"2 processes that worked at it died: {told}"):
        poison.result(60)
    assert len(list(tmp_path.iterdir())) == 2
    assert pool.submit(double, 4).result(60) == 8


def test_a_call_whose_worker_somebody_kills_once_is_made_again(pool, tmp_path):
    assert pool.submit(die, "once", tmp_path).result(60) == "the second time it went well"


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, ValueError, RecursionError])
def test_whatever_a_call_raises_is_its_answer(pool, error):
    with pytest.raises(error, match="by itself"):
        pool.submit(leave, error).result(60)


def test_what_cannot_be_sent_is_told(pool):
    with pytest.raises(RuntimeError, match="cannot be sent"):
        pool.submit(unsendable).result(60)
    with pytest.raises(Exception, match=r"pickle|local"):
        pool.submit(lambda: None).result(60)
    assert pool.submit(double, 1).result(60) == 2


def test_a_call_that_takes_too_long_is_stopped_with_its_worker(tmp_path):
    now = [0.0]
    with Workers(2, nothing, nothing, limit=100.5, clock=lambda: now[0]) as workers:
        slow, fast = workers.submit(hang, tmp_path / "begun"), workers.submit(double, 2)
        assert fast.result() == 4
        while not (tmp_path / "begun").exists():
            pass
        assert not slow.done()
        now[0] = 101.0
        assert workers.submit(double, 1).result() == 2
        with pytest.raises(WorkerLost, match=r"stopped after 100\.5 s, the limit"):
            slow.result()
        assert workers.submit(double, 3).result(60) == 6


def test_a_worker_that_cannot_begin_says_why():
    with Workers(1, refuse, nothing) as workers, pytest.raises(UserError, match="plugin cannot be imported"):
        workers.submit(double, 1).result(60)


def test_a_worker_that_dies_before_it_begins_is_told():
    with Workers(1, partial(os._exit, 3), nothing) as workers:
        with pytest.raises(WorkerLost, match="before it began, with exit code 3"):
            workers.submit(double, 1).result(60)


def test_the_end_with_calls_under_way(tmp_path):
    workers = Workers(1, nothing, nothing)
    pid = workers.submit(whoami).result(60)
    under_way, waiting = workers.submit(hang, tmp_path / "begun"), workers.submit(double, 1)
    workers.shutdown(cancel_futures=True)
    assert waiting.cancelled()
    with pytest.raises(CancelledError):
        under_way.result(60)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with pytest.raises(RuntimeError):
        workers.submit(double, 1)
    Workers(1, nothing, nothing).shutdown()  # never used


# What a worker gives back after a job


def fill_and_free(megabytes: int) -> tuple[float, int]:
    """Takes memory in pieces, frees them below one that stays until the end, as batches of many sizes do."""
    pieces = [bytearray(2**20) for _ in range(megabytes)]
    top = bytearray(2**20)
    del pieces
    return resident(), len(top)


def resident() -> float:
    """Megabytes that this process holds."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be asked to give memory back")
def test_a_worker_gives_its_free_memory_back_after_a_job():
    with processes(1) as pool:
        before = pool.submit(resident).result()
        during, _ = pool.submit(fill_and_free, 400).result()
        after = pool.submit(resident).result()
    assert during > before + 300, "freed memory stays in the process during a job: that is faster"
    assert after < before + 50
