"""Worker processes of which each may die alone: by its own fault, by the kernel's for want of memory, or by anyone's.

`concurrent.futures` gives up all jobs of a pool when one of its processes is gone, and cannot say whose job it was.
Here each worker has a pipe of its own and nothing is shared, so it is known at what it worked; the job is tried once
more by another worker, and if that dies too the job is given up, and only it.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import CancelledError, Executor, Future
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Any

DEATHS = 2
"""How many workers a job may cost."""


class WorkerLost(Exception):
    """A job was given up, because it cost several workers or took too long."""


@dataclass(eq=False)
class _Task:
    call: tuple[Callable[..., Any], tuple[Any, ...]]
    future: Future[Any] = field(default_factory=Future)
    deaths: list[str] = field(default_factory=list)


@dataclass(eq=False)
class _Worker:
    process: Any
    pipe: Connection
    task: _Task | None = None
    since: float = 0.0
    ready: bool = False


class Workers(Executor):
    """Runs calls in processes of its own. They are born with the first calls.

    Args:
        count: How many processes.
        start: Called in each before its first call.
        tidy: Called in each after every call.
        limit: Seconds after which a call is stopped, with its worker; None: never.
        clock: Seconds, by which that is measured.
    """

    def __init__(
        self,
        count: int,
        start: Callable[[], None],
        tidy: Callable[[], None],
        limit: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._count, self._start, self._tidy, self._limit, self._clock = count, start, tidy, limit, clock
        self._tasks: deque[_Task] = deque()
        self._workers: list[_Worker] = []
        self._closing = self._stopping = self._told = False
        self._news, self._wake = multiprocessing.Pipe(duplex=False)
        self._lock = threading.Lock()
        self._manager: threading.Thread | None = None
        atexit.register(self.shutdown, cancel_futures=True)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """The call `fn(*args)`, to be made by the next worker that is free."""
        if kwargs or self._closing:
            raise RuntimeError("no keywords, and nothing after the end")
        task = _Task((fn, args))
        with self._lock:
            self._tasks.append(task)
        if self._manager is None:
            self._manager = threading.Thread(target=self._manage, daemon=True)
            self._manager.start()
        self._tell()
        return task.future

    def _tell(self) -> None:
        """Wakes the manager; once is enough, for a pipe that is full would stop us."""
        with self._lock:
            told, self._told = self._told, True
        if not told:
            self._wake.send(None)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Ends the workers when all calls are made; at once, and their calls with them, where futures are cancelled."""
        atexit.unregister(self.shutdown)
        self._closing, self._stopping = True, self._stopping or cancel_futures
        if self._manager is None:
            return
        self._tell()
        if wait or cancel_futures:
            self._manager.join()

    def _manage(self) -> None:
        """What happens to the workers, all in one thread."""
        try:
            while not self._stopping and (not self._closing or self._busy()):
                self._assign()
                self._look(wait([self._news, *self._ends()], self._patience()))
        finally:
            self._end()

    def _busy(self) -> bool:
        return bool(self._tasks) or any(worker.task for worker in self._workers)

    def _ends(self) -> list[Any]:
        return [end for worker in self._workers for end in (worker.pipe, worker.process.sentinel)]

    def _patience(self) -> float | None:
        """Seconds until the first call has had its time."""
        if self._limit is None:
            return None
        starts = [worker.since for worker in self._workers if worker.task and worker.ready]
        return max(0.0, min(starts) + self._limit - self._clock()) if starts else None

    def _assign(self) -> None:
        idle = [worker for worker in self._workers if worker.task is None]
        while self._tasks:
            if not idle and len(self._workers) == self._count:
                return
            worker = idle.pop() if idle else self._born()
            with self._lock:
                task = self._tasks.popleft()
            if not task.future.running() and not task.future.set_running_or_notify_cancel():
                idle.append(worker)
                continue
            worker.task = task
            if worker.ready and not self._sent(worker, task):
                idle.append(worker)

    def _sent(self, worker: _Worker, task: _Task) -> bool:
        """Gives a worker its task; returns whether it has one now."""
        worker.since = self._clock()
        try:
            worker.pipe.send(task.call)
        except OSError:
            return True  # it is dead, which is noticed next
        except Exception as error:  # what cannot be sent
            worker.task = None
            task.future.set_exception(error)
        return worker.task is not None

    def _born(self) -> _Worker:
        # A forked process would inherit the locks of torch's threads, but not the threads.
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs, self._start, self._tidy))
        if hasattr(signal, "pthread_sigmask"):
            # Ctrl-C goes to all processes of a terminal, but is the command's to answer: workers inherit that it does
            # not reach this thread. First the tracker, whose start lets it through again.
            resource_tracker.ensure_running()
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        process.start()
        theirs.close()
        worker = _Worker(process, ours)
        self._workers.append(worker)
        return worker

    def _look(self, ends: list[Any]) -> None:
        if self._news.poll():
            self._news.recv()
            with self._lock:
                self._told = False
        for worker in list(self._workers):
            if worker.pipe in ends:
                self._hear(worker)
            elif worker.process.sentinel in ends:
                self._bury(worker)
            elif self._limit is not None and worker.task and worker.ready:
                self._hurry(worker, worker.task, self._limit)

    def _hurry(self, worker: _Worker, task: _Task, limit: float) -> None:
        if self._clock() - worker.since >= limit:
            worker.task = None
            self._bury(worker)
            task.future.set_exception(WorkerLost(f"stopped after {limit:g} s, the limit of this run"))

    def _hear(self, worker: _Worker) -> None:
        """Takes a result, or the news that a worker has begun."""
        try:
            kind, value = worker.pipe.recv()
        except (EOFError, OSError):
            self._bury(worker)
            return
        except Exception as error:  # what cannot be read here
            kind, value = "error", error
        if kind == "ready":
            worker.ready = True
            if worker.task:
                self._sent(worker, worker.task)
            return
        task, worker.task = worker.task, None
        if task and kind == "result":
            task.future.set_result(value)
        elif task:
            task.future.set_exception(value)

    def _bury(self, worker: _Worker) -> None:
        worker.process.kill()
        worker.process.join()
        worker.pipe.close()
        self._workers.remove(worker)
        task, how = worker.task, _how(worker.process.exitcode)
        if task is None:
            return
        task.deaths.append(how if worker.ready else f"before it began, {how}")
        if len(task.deaths) < DEATHS:
            with self._lock:
                self._tasks.appendleft(task)
            return
        each = " and ".join(dict.fromkeys(task.deaths))
        what = f"{len(task.deaths)} processes that worked at it died: {each}"
        short = ", as where memory is short: fewer workers need less" if "SIGKILL" in each else ""
        task.future.set_exception(WorkerLost(what + short))

    def _end(self) -> None:
        for worker in self._workers:
            if self._stopping:
                worker.process.kill()
            worker.pipe.close()  # an idle worker ends with its pipe
        for worker in self._workers:
            worker.process.join()
            if worker.task and not worker.task.future.done():
                worker.task.future.set_exception(CancelledError())
        for task in self._tasks:
            task.future.cancel()
        self._workers = []


def _how(code: int | None) -> str:
    if code is not None and code < 0:
        with suppress(ValueError):
            return f"by {signal.Signals(-code).name}"
    return f"with exit code {code}"


def _work(pipe: Connection, start: Callable[[], None], tidy: Callable[[], None]) -> None:
    """What a worker process does all its life."""
    try:
        start()
    except Exception as error:
        _send(pipe, "error", error)  # to the call that it was born for
        return
    _send(pipe, "ready", None)
    while True:
        try:
            fn, args = pipe.recv()
        except (EOFError, OSError):
            sys.stdout.flush()
            os._exit(0)  # at once: threads of libraries may be left
        except Exception as error:  # such as a class that is not there
            _send(pipe, "error", error)
            continue
        try:
            answer = "result", fn(*args)
        except BaseException as error:  # a worker's end is told by its pipe only
            answer = "error", error
        tidy()
        try:
            _send(pipe, *answer)
        except Exception as error:
            _send(pipe, "error", RuntimeError(f"what came of it cannot be sent: {error}"))


def _send(pipe: Connection, kind: str, value: Any) -> None:
    """Answers; where nobody is there to hear it, the process ends without a word."""
    try:
        pipe.send((kind, value))
    except OSError:
        os._exit(1)
