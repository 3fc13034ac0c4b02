"""Running a study: what is missing of it, in which order, and keeping its results up to date."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

from guardclash.errors import UserError
from guardclash.plan.trainings import depth
from guardclash.records.results import Results
from guardclash.studies.claims import claim_of
from guardclash.studies.collect import collect, keep_results
from guardclash.studies.composing import compose_study, opened
from guardclash.studies.estimating import Executor, estimates, trials_of
from guardclash.studies.evidence import keep_pictures
from guardclash.studies.jobs import Checked, Done, Job, Site, run_job
from guardclash.studies.read_once import ReadOnce
from guardclash.studies.store import Store
from guardclash.studies.study import Study
from guardclash.studies.trials import ComposedCell, Probe, Trial
from guardclash.studies.verdicts import wanted
from guardclash.studies.workers import WorkerLost

KEEPING_SHARE = 0.02
"""Of the time of a run that may go to keeping its results up to date and judging them: of large studies a second."""
POLL_S = 1.0
"""How often it is looked whether other processes are done with what this run needs."""
T = TypeVar("T")


class Watcher(Protocol):
    """Is told how a run goes."""

    def started(self, waves: tuple[tuple[Job, ...], ...], seconds: dict[str, float]) -> None:
        """Before the first job: all jobs, and the estimated seconds of each training by trial key."""

    def done(self, done: Done) -> None:
        """After each job."""

    def collected(self, results: Results) -> None:
        """Now and then, and at the end of a run that was not interrupted: the results so far."""


@dataclass(frozen=True)
class Together:
    """Several watchers as one; none of them says nothing."""

    watchers: Sequence[Watcher] = ()

    def started(self, waves: tuple[tuple[Job, ...], ...], seconds: dict[str, float]) -> None:
        """Tells each."""
        for watcher in self.watchers:
            watcher.started(waves, seconds)

    def done(self, done: Done) -> None:
        """Tells each."""
        for watcher in self.watchers:
            watcher.done(done)

    def collected(self, results: Results) -> None:
        """Tells each."""
        for watcher in self.watchers:
            watcher.collected(results)


def waves(composed: Iterable[ComposedCell], store: Store) -> tuple[tuple[Job, ...], ...]:
    """What is missing of a study, as waves of jobs: each wave needs only the results of those before it.

    Equal trainings are one job, whichever cells they serve; so are equal measurements.

    Raises:
        UserError: If a default has changed since a result in the store was made.
    """
    jobs: dict[tuple[int, str], tuple[Trial, dict[str, Probe]]] = {}

    def ask(level: int, trial: Trial, probe: Probe | None = None) -> None:
        _, probes = jobs.setdefault((level, trial.key), (trial, {}))
        if probe:
            probes[probe.key] = probe

    there = Checked(store)
    for entry in composed:
        for trial in entry.trials():
            _ask_for(entry, trial, there, ask)
    levels: dict[int, list[Job]] = {}
    # Seed by seed, so that an interrupted study has all of its cells, with fewer replicates.
    for (level, _), (trial, probes) in sorted(jobs.items(), key=lambda item: (item[0][0], item[1][0].seed)):
        levels.setdefault(level, []).append(Job(trial, tuple(probes.values())))
    return tuple(map(tuple, levels.values()))


def _ask_for(entry: ComposedCell, trial: Trial, there: Checked, ask: Callable[..., None]) -> None:
    for needed in (*entry.needed(trial), trial):
        if not there.record(needed):
            ask(depth(needed.plan), needed)
    for probe, level in zip(entry.probes(trial), entry.levels, strict=True):
        if not there.measurement(probe):
            ask(level, trial, probe)


def run_study(
    study: Study,
    site: Site,
    executor: Executor,
    watcher: Watcher | None = None,
    datasets: Collection[str] = (),
    clock: Callable[[], float] = time.monotonic,
    before: Callable[[Collection[str]], None] | None = None,
    pause: Callable[[float], None] = time.sleep,
) -> Results:
    """Trains and measures what is missing of a study, and keeps its results and the pictures that reports show.

    Run it again to continue: what is in the store is not done twice. Adding seeds or combinations trains only those.

    Args:
        study: What to run.
        site: Store, data and execution.
        executor: Anything with `submit(fn, *args)` whose futures have `result()`.
        watcher: Is told how it goes; `started` comes again where seeds are added.
        datasets: Run only their recipes; none: all.
        clock: Seconds, by which results are kept up to date now and then.
        before: Called before the first job with the keys of the cells of which something is missing, such as to try
            them (`guardclash.check_study`); what it raises ends the run.
        pause: Waits some seconds for what other processes are training.

    Returns:
        The results, as far as they are there.

    Raises:
        UserError: If something is wrong that no other trial would escape either; finished trials are kept.
    """
    watcher, study = watcher or Together(), opened(study)
    site = replace(site, tasks=study.tasks)
    composed = compose_study(study, site.data_folder)
    site.store.sweep_work()
    store = ReadOnce(site.store.folder)
    keeping = _Sparingly(lambda: watcher.collected(keep_results(study, composed, store)), clock)
    try:
        asked: set[str] = set()
        while planned := _missing(study, composed, store, datasets):
            jobs = {
                key for wave in planned for job in wave for key in (job.trial.key, *(one.key for one in job.probes))
            }
            if jobs <= asked:
                break  # they failed
            if before and not asked:
                before([entry.cell.key for entry in composed if not jobs.isdisjoint(_keys(entry))])
            asked |= jobs
            watcher.started(planned, estimates(trials_of(planned, site.store).values(), site, executor))
            _run_waves(planned, site, executor, watcher, keeping, pause)
        if not asked:
            watcher.started((), {})
        keep_pictures(_asked(composed, datasets), site)
    except BrokenProcessPool as error:  # of an executor that gives up all for one
        mend = "Finished trials are kept. Run the same command again, with fewer workers if memory was short."
        raise UserError("a worker process was killed", mend=mend) from error
    finally:
        # Whatever ended the run: reports show what there is.
        results = keep_results(study, composed, store)
    watcher.collected(results)
    return results


def _keys(entry: ComposedCell) -> Iterator[str]:
    """The keys of all trainings and measurements of a cell, and of the trainings that it needs."""
    for trial in entry.trials():
        yield from (needed.key for needed in (trial, *entry.needed(trial)))
        yield from (probe.key for probe in entry.probes(trial))


def needed_now(study: Study, composed: tuple[ComposedCell, ...], results: Results) -> tuple[ComposedCell, ...]:
    """The cells with those seeds that they need now: all, unless the study adds seeds step by step."""
    if study.start is None:
        return composed
    needed = wanted(study, results)
    return tuple(replace(entry, seeds=entry.seeds[: needed[entry.cell.key]]) for entry in composed)


def _missing(
    study: Study, composed: tuple[ComposedCell, ...], store: Store, datasets: Collection[str]
) -> tuple[tuple[Job, ...], ...]:
    """What is missing of the data sets that are asked for, as far as the verdicts so far need it."""
    needed = needed_now(study, composed, collect(study, composed, store)) if study.start else composed
    return waves(_asked(needed, datasets), store)


def _asked(composed: Iterable[ComposedCell], datasets: Collection[str]) -> tuple[ComposedCell, ...]:
    """The cells on some data sets; none named: on all."""
    return tuple(entry for entry in composed if not datasets or entry.recipe.dataset in datasets)


def _run_waves(
    planned: tuple[tuple[Job, ...], ...],
    site: Site,
    executor: Executor,
    watcher: Watcher,
    keeping: _Sparingly,
    pause: Callable[[float], None],
) -> None:
    for wave in planned:
        left = wave
        while left:
            elsewhere = []
            for job, future in completed({job: executor.submit(run_job, job, site) for job in left}):
                done = _outcome(job, future, site.store)
                if done.elsewhere:
                    elsewhere.append(job)
                    continue
                watcher.done(done)
                keeping.again()
            left = tuple(elsewhere)
            # What others do is asked for again when one of them is done with it, or dead.
            while left and all(claim_of(site.store, job.trial.key) for job in left):
                pause(POLL_S)


def _outcome(job: Job, future: Any, store: Store) -> Done:
    try:
        return future.result()
    except WorkerLost as error:  # it could not note that itself
        what = f"{type(error).__name__}: {error}"
        store.keep_failure(job.trial.key, what)
        return Done(job, 0.0, what)


def completed(futures: Mapping[T, Any]) -> Iterator[tuple[T, Any]]:
    """The futures of some work that are done, as they come, each with what it is of.

    Those of other libraries (and of `Inline`, which works when it is asked) know no common way to wait for the first:
    they come in the order of submission.
    """
    of = {future: work for work, future in futures.items()}
    own = all(isinstance(future, Future) for future in of)
    for future in as_completed(of) if own else of:
        yield of[future], future


class _Sparingly:
    """Does something again and again, but spends no more than a share of the time on it."""

    def __init__(self, work: Callable[[], None], clock: Callable[[], float]):
        self._work, self._clock, self._cost, self._last = work, clock, 0.0, clock()

    def again(self) -> None:
        start = self._clock()
        if start - self._last > max(1.0, self._cost / KEEPING_SHARE):
            self._work()
            self._last = self._clock()
            self._cost = self._last - start
