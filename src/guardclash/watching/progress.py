"""Progress of a run on the terminal: a view that is kept up to date, or a line now and then where there is none."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live

from guardclash.judging.rules import Rule
from guardclash.records.results import Results
from guardclash.reporting.findings import find
from guardclash.reporting.tables import duration
from guardclash.studies.activity import Write, noted
from guardclash.studies.collect import changed_since, collect
from guardclash.studies.composing import compose_study, unusual_data
from guardclash.studies.jobs import Done, Job, Site
from guardclash.studies.run import needed_now
from guardclash.studies.study import Study
from guardclash.watching.board import Board
from guardclash.watching.tasks import tasks
from guardclash.watching.view import decided, left, view
from guardclash.words import cut, shown

LINE_EVERY_S = 15.0
NOTE_EVERY_S = 60.0
REFRESHED_PER_SECOND = 1.0
VIEWING_SHARE = 0.05
"""Of the time of a run that may go to what the terminal shows."""


class Progress:
    """Watches a run (see `guardclash.studies.run.Watcher`) and says how it goes on a console.

    It also notes in the store that the study runs, with how many workers and which estimates, for
    `guardclash status` in another process.

    Args:
        console: Where to say it.
        workers: Trainings at a time.
        study: What is run.
        site: Where it runs.
        rule: Which rule decides.
        clock: Seconds, by which a line is said now and then.
    """

    def __init__(
        self,
        console: Console,
        workers: int,
        study: Study,
        site: Site,
        rule: Rule,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.failed = 0
        self._console, self._workers, self._rule = console, workers, rule
        self._store, self._data_folder = site.store, site.data_folder
        self._study = study.under(rule)
        self._moving = console.is_terminal and not console.is_dumb_terminal
        self._open = ExitStack()
        self._jobs = self._finished = 0
        self._clock, self._line, self._noted, self._viewed, self._viewing = clock, clock(), clock(), clock(), 0.0
        self._estimates: dict[str, float] = {}
        self._words: dict[str, str] = {}
        self._flaws: set[str] = set()

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def started(self, waves: tuple[tuple[Job, ...], ...], seconds: dict[str, float]) -> None:
        """Shows how much there is to do; a study that adds seeds step by step starts more than once."""
        jobs = sum(map(len, waves))
        if not jobs:
            if not self._jobs:
                self.say("nothing to train or measure: all is in the store")
            return
        first, self._jobs = not self._jobs, self._jobs + jobs
        self._estimates |= seconds
        if first:
            self._open_note()
            self._composed = compose_study(self._study, self._data_folder)
            changed = changed_since(self._study, self._composed, self._store)
            for line in (*unusual_data(self._composed), *changed):
                self.say(line)
            self._board = Board(self._study.name, {}, self._store)  # its tasks come with the first `_judge`
        self._note(estimates=self._estimates)
        results = collect(self._study, self._composed, self._store)
        for words in results.changed if first else ():
            self.say(f"note: {words}")
        self._tell_damage(results.damaged)
        self._judge(results)  # before the board is asked for the time left
        self._announce(len(seconds), sum(len(job.probes) for wave in waves for job in wave))
        if first and self._moving:
            self._shown = Group()
            self._open.enter_context(
                Live(
                    console=self._console,
                    get_renderable=self._view,
                    refresh_per_second=REFRESHED_PER_SECOND,
                    transient=True,  # the report takes its place
                )
            )

    def _open_note(self) -> None:
        name = f"{self._study.name}-{os.getpid()}.run"
        self._note: Write = self._open.enter_context(
            noted(self._store, name, study=self._study.name, workers=self._workers, estimates={})
        )

    def _announce(self, trainings: int, measurements: int) -> None:
        standing = self._board.standing()
        about = f"about {duration(standing.left)} with {self._workers} at a time"
        unknown = f", {standing.untimed} steps never timed yet" if standing.untimed else ""
        self.say(f"{trainings} models to train, {about}; {measurements} values to measure{unknown}")

    def done(self, done: Done) -> None:
        """Counts a finished job."""
        self._finished += 1
        self._keep_note()
        self._tell_damage(done.damaged)
        if done.error:
            self.failed += 1
            self.say(f"trial {done.job.trial.key} failed: {cut(done.error)}")
        over = self._clock() - self._line > LINE_EVERY_S or self._finished == self._jobs
        if not self._moving and over:
            self._line = self._clock()
            self.say(f"{self._finished} of {self._jobs} done, {self._left()}")

    def _tell_damage(self, flaws: Iterable[str]) -> None:
        """Names files that were found damaged, each once."""
        for flaw in flaws:
            if flaw not in self._flaws:
                self._flaws.add(flaw)
                self.say(f"damaged, made anew: {flaw}")

    def _keep_note(self) -> None:
        """A store is swept of old notes; this one lives as long as its run. All estimates are in it: it takes time."""
        if self._clock() - self._noted > NOTE_EVERY_S:
            self._note()
            self._noted = self._clock()

    def collected(self, results: Results) -> None:
        """Says what is decided now and was not before."""
        if not self._jobs:
            return
        before = self._words
        with suppress(Exception):  # the report will tell; the trainings that are left should not be lost to it
            self._judge(results)
        if not self._moving and self._finished < self._jobs:  # after the last job comes the report
            for label, word in self._words.items():
                if before.get(label) != word:
                    self._console.print(f"{label}: {word}", highlight=False, emoji=False, soft_wrap=True)

    def _judge(self, results: Results) -> None:
        self._verdicts = find(self._study, results).verdicts
        self._words = decided(self._verdicts, self._rule)
        # Else no verdict changes what is asked for, and all tasks of a large study take a while to name.
        if self._study.start is not None or not self._board.tasks:
            self._board.tasks = tasks(self._study, needed_now(self._study, self._composed, results))

    def _left(self) -> str:
        with suppress(Exception):  # as for the view
            return left(self._board.standing()) or "0 s left"
        return "time left unknown"

    def _view(self) -> Group:
        """The view; the last one if there is an error, which must not end the thread that refreshes it.

        The last one as well where another would take more than its share of the time: of large studies.
        """
        start = self._clock()
        if start - self._viewed >= self._viewing / VIEWING_SHARE:
            with suppress(Exception):
                self._shown = view(self._board.standing(), self._verdicts, self._rule, self._console.height)
            self._viewed = self._clock()
            self._viewing = self._viewed - start
        return self._shown

    def say(self, text: str) -> None:
        """Prints a line, above the view where there is one."""
        self._console.print(shown(text), markup=False, highlight=False, emoji=False, soft_wrap=True)
