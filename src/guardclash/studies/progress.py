"""Progress of a run on the terminal: a bar with the time left, or a line now and then where there is no terminal."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bar

from guardclash.studies.jobs import Done, Job

LINE_EVERY_S = 15.0


class Progress:
    """Watches a run (see `guardclash.studies.run.Watcher`) and says how it goes on a console.

    The time left is what the estimates say of the rest, scaled by how the estimates fared so far.
    """

    def __init__(self, console: Console, workers: int):
        self.failed = 0
        self._console, self._workers = console, workers
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[left]}"),
        )
        self._bar = Bar(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._bar.add_task("trials", total=None, left="")
        self._seconds: dict[str, float] = {}
        self._jobs = self._finished = 0
        self._spent = self._expected = 0.0
        self._line = time.monotonic()

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def started(self, waves: tuple[tuple[Job, ...], ...], seconds: dict[str, float]) -> None:
        """Shows how much there is to do."""
        self._jobs, self._seconds = sum(map(len, waves)), dict(seconds)
        if not self._jobs:
            self._console.print("nothing to train or measure: all is in the store", highlight=False)
            return
        total = sum(seconds.values()) / self._workers
        text = f"{len(seconds)} models to train, about {duration(total)} with {self._workers} at a time"
        self._console.print(text, highlight=False)
        self._bar.update(self._task, total=self._jobs, left="")

    def done(self, done: Done) -> None:
        """Counts a finished job."""
        self._finished += 1
        expected = self._seconds.pop(done.job.trial.key, 0.0)
        if done.error:
            self.failed += 1
            self._console.print(f"trial {done.job.trial.key} failed: {done.error}", markup=False, highlight=False)
        elif done.seconds:
            self._spent, self._expected = self._spent + done.seconds, self._expected + expected
        left = f"{duration(self._left())} left"
        self._bar.update(self._task, completed=self._finished, left=left)
        over = time.monotonic() - self._line > LINE_EVERY_S or self._finished == self._jobs
        if self._bar.disable and over:
            self._line = time.monotonic()
            self._console.print(f"{self._finished} of {self._jobs} done, {left}", highlight=False)

    def _left(self) -> float:
        pace = self._spent / self._expected if self._expected else 1.0
        return sum(self._seconds.values()) * pace / self._workers


def duration(seconds: float) -> str:
    """A time as people say it: "45 s", "3 min 20 s", "2 h 5 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
