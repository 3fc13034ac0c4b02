"""Tells trackers how a run goes, from what is in the store; their failures cost them their place, never a result."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any

from guardclash.errors import UserError
from guardclash.judging.rules import Rule
from guardclash.plan.identity import describe
from guardclash.records.cells import braces
from guardclash.records.results import Results
from guardclash.reporting.findings import find
from guardclash.studies.composing import compose_study
from guardclash.studies.files import SCHEMA
from guardclash.studies.jobs import Done, Job, Site
from guardclash.studies.run import KEEPING_SHARE
from guardclash.studies.store import Store
from guardclash.studies.study import Study
from guardclash.trackers.tracker import TrackedTrial, Tracker, find_tracker
from guardclash.watching.tasks import Followed, tasks


class Tracking:
    """Watches a run (see `guardclash.studies.run.Watcher`) for trackers.

    What each tracker was told of a study is kept beside its files, in `<store>/trackers/<name>/`: it is told the rest
    only, and all of it when that folder was removed.

    Args:
        names: Which trackers.
        study: What is run.
        site: Where it runs.
        rule: Which rule decides.
        say: Tells the user something.

    Raises:
        UserError: If there is no such tracker, or it cannot be imported.
    """

    def __init__(self, names: Iterable[str], study: Study, site: Site, rule: Rule, say: Callable[[str], None]):
        self._study, self._site, self._rule = study.under(rule), site, rule
        self._store = site.store
        classes = {name: find_tracker(name) for name in dict.fromkeys(names)}
        self._listeners = [_Listener(name, cls, study.name, site.store, say) for name, cls in classes.items()]
        self._tasks: dict[str, Followed] = {}

    def __enter__(self) -> Tracking:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for listener in self._listeners:
            listener.tell(lambda tracker: tracker.study_finished(self._study.name))
            listener.keep()

    def started(self, waves: tuple[tuple[Job, ...], ...], seconds: dict[str, float]) -> None:
        """Tells what is in the store already."""
        if not self._listeners:
            return
        # With all seeds that it may ask for: a study that adds seeds starts again, and finds its new jobs here.
        self._tasks = tasks(self._study, compose_study(self._study, self._site.data_folder))
        for listener in self._listeners:
            listener.tell(lambda tracker: tracker.study_started(self._study.name))
            for task in self._tasks.values():
                self._catch_up(listener, task)
            listener.keep()

    def done(self, done: Done) -> None:
        """Tells what became of a job."""
        for listener in self._listeners:
            task = self._tasks[done.job.trial.key]
            self._catch_up(listener, task)
            if done.error:
                listener.tell(_failed(tracked(self._study.name, task), done.error))
            listener.keep_sparingly()

    def collected(self, results: Results) -> None:
        """Tells of verdicts that have changed."""
        if not any(listener.listens for listener in self._listeners):
            return
        with suppress(Exception):  # the report will tell; the trainings that are left should not be lost to it
            for verdict in find(self._study, results).verdicts:
                words = verdict.outcome(self._rule), verdict.broken(self._rule)
                for listener in self._listeners:
                    listener.judge(verdict.recipe, braces(verdict.combination), *words)
        for listener in self._listeners:
            listener.keep()

    def _catch_up(self, listener: _Listener, task: Followed) -> None:
        """Tells what is in the store of a trial and was not told yet."""
        record = self._store.record(task.key) if listener.lacks(task) else None
        if record is None:
            return
        trial = tracked(self._study.name, task)
        history, seconds = tuple(self._store.history(task.key)), record["seconds"]
        listener.once(task.key, lambda tracker: tracker.trial_finished(trial, history, seconds))
        new = {asked.key: asked.of for asked in task.asked if asked.key not in listener.told}
        found = {key: made["metrics"] for key in new if (made := self._store.measurement(key))}
        metrics = {f"{new[key]}/{name}": value for key, values in found.items() for name, value in values.items()}
        if found and listener.tell(lambda tracker: tracker.measured(trial, metrics)):
            listener.told.update(found)


class _Listener:
    """A tracker, and the keys of what it was told of a study."""

    def __init__(self, name: str, cls: type[Tracker], study: str, store: Store, say: Callable[[str], None]):
        self._name, self._study, self._store, self._say = name, study, store, say
        self._file = f"trackers/{name}/{study}.told.json"
        told, words = told_before(store, self._file)
        self.told, self._words = set(told), dict(words)
        self._before = self._content()  # a run that tells nothing new writes nothing
        self._kept, self._keeping = time.monotonic(), 0.0
        self._tracker: Tracker | None = None
        with self._failing():  # it may fail to begin, too
            self._tracker = cls(store.folder / "trackers" / name)

    @property
    def listens(self) -> bool:
        """Whether it has not failed yet."""
        return self._tracker is not None

    def lacks(self, task: Followed) -> bool:
        """Whether there may be something to tell about a trial."""
        return self.listens and not self.told.issuperset([task.key, *(asked.key for asked in task.asked)])

    def tell(self, call: Callable[[Tracker], None]) -> bool:
        """Calls the tracker; returns whether it has heard."""
        with self._failing():
            if self._tracker is not None:
                call(self._tracker)
        return self.listens

    def once(self, key: str, call: Callable[[Tracker], None]) -> None:
        """Calls the tracker unless it was told of a key."""
        if key not in self.told and self.tell(call):
            self.told.add(key)

    def judge(self, recipe: str, combination: str, outcome: str, broken: tuple[str, ...]) -> None:
        """Tells of a verdict unless it is the last one told."""
        label, word = f"{recipe} {combination}", " ".join((outcome, *broken))
        if self._words.get(label) != word and self.tell(
            lambda tracker: tracker.verdict(self._study, recipe, combination, outcome, broken)
        ):
            self._words[label] = word

    def keep(self) -> None:
        """Writes down what it was told."""
        start = time.monotonic()
        content = self._content()
        if content != self._before:
            self._store.keep_sealed(self._file, content)
            self._before = content
        self._kept = time.monotonic()
        self._keeping = self._kept - start

    def keep_sparingly(self) -> None:
        """Writes it down unless that would take more than its share of the time: all of it is written each time."""
        if time.monotonic() - self._kept >= self._keeping / KEEPING_SHARE:
            self.keep()

    def _content(self) -> dict[str, Any]:
        return {"schema": SCHEMA, "told": sorted(self.told), "verdicts": dict(self._words)}  # sorted, to be compared

    @contextmanager
    def _failing(self) -> Iterator[None]:
        """A tracker that fails is not called again; the run goes on."""
        try:
            yield
        except Exception as error:
            self._tracker = None
            self._say(f"warning: the tracker {self._name!r} failed and is left out: {type(error).__name__}: {error}")


def told_before(store: Store, file: str) -> tuple[list[str], dict[str, str]]:
    """What a tracker was told, and the verdicts among it, as it was written down in a file of the store.

    Raises:
        UserError: It is damaged; half of it would tell things twice, and others never.
    """
    content = store.sealed(file, {"told": list, "verdicts": dict})
    told, words = (content["told"], content["verdicts"]) if content else ([], {})
    if file in store.damaged or not all(isinstance(one, str) for one in (*told, *words, *words.values())):
        mend = "Remove it; the tracker is then told all of the study anew."
        why = store.damaged.get(file, "it holds something else than texts")
        raise UserError(f"what a tracker was told is damaged: {why}", where=store.folder / file, mend=mend)
    return told, words


def tracked(study: str, task: Followed) -> TrackedTrial:
    """A trial as trackers are told of it."""
    parts = [("recipe", task.entry.recipe), *((mechanism.name, mechanism) for mechanism in task.entry.combination)]
    settings = {
        f"{name}.{option}": value
        for name, part in parts
        for option, value in describe(part, full=True).items()
        if option != "type"
    }
    return TrackedTrial(study, task.key, task.recipe, task.what, task.seed, settings)


def _failed(trial: TrackedTrial, error: str) -> Callable[[Tracker], None]:
    return lambda tracker: tracker.trial_failed(trial, error)
