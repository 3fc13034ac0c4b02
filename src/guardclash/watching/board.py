"""Where a study stands: what is done, running, waiting and failed, and how long the rest will take.

All of it is read from the store, so the process that runs a study and any other one see the same.
"""

from __future__ import annotations

import calendar
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal

from guardclash.errors import UserError
from guardclash.studies.activity import notes
from guardclash.studies.store import Store
from guardclash.watching.forecast import Expected, Means, Note, epoch_seconds
from guardclash.watching.tasks import Asked, Followed, learnt_kinds


@dataclass(frozen=True)
class Underway:
    """A trial that is trained or measured at the moment."""

    task: Followed
    doing: str
    """Such as "epoch 7 of 20" (finished ones) or "measuring wm, 3 of 12", of what it counts now."""
    so_far: float
    """Seconds since that began."""
    left: float | None
    """Seconds until that ends; None: nothing of its kind was timed yet."""
    losses: Mapping[str, float | None] = field(default_factory=dict)
    """Of the last finished epoch, by stream."""


@dataclass(frozen=True)
class Standing:
    """How far a study is."""

    study: str
    done: int
    """Trials that are trained and measured."""
    running: int
    waiting: int
    failed: int
    underway: tuple[Underway, ...]
    runs: int
    """Processes that run this study."""
    left: float
    """Seconds until all is done, as far as durations are known."""
    untimed: int
    """Trainings and measurements that are still to be made and not in `left`."""

    @property
    def trials(self) -> int:
        """All trials of the study."""
        return self.done + self.running + self.waiting + self.failed


@dataclass(frozen=True)
class _State:
    """Where one trial stands."""

    word: Literal["done", "running", "waiting", "failed"]
    underway: tuple[Underway, ...] = ()
    left: tuple[float | None, ...] = ()
    """Seconds of each training and measurement that is to be made; None: unknown."""


class Board:
    """Follows a study in the store; what it has seen finished is not read again.

    Args:
        study: The study's name.
        tasks: All of its trials, by key.
        store: Where its results are kept.
        clock: Seconds since 1970.
    """

    def __init__(self, study: str, tasks: Mapping[str, Followed], store: Store, clock: Callable[[], float] = time.time):
        self._study, self.tasks, self._store, self._clock = study, tasks, store, clock
        self._seconds: dict[str, float] = {}
        self._measured: set[str] = set()
        self._measuring = _Measured(store)

    def standing(self) -> Standing:
        """Where the study stands now."""
        self._look()
        runs = [note for note in notes(self._store, "run").values() if note.get("study") == self._study]
        training, measuring = notes(self._store, "progress"), notes(self._store, "measuring")
        expected = Expected(self.tasks, self._seconds, self._measuring, runs, training)
        since = min((note["started"] for note in runs), default=0.0)
        working, failed = {**training, **measuring}, self._store.failure_keys()
        failures = {key: _when(noted) for key in failed & self.tasks.keys() if (noted := self._store.failure(key))}
        # `int`, as failures are noted in whole seconds: one in the run's first second is of this run.
        tried = {key for key, when in failures.items() if when >= int(since)}  # a run tries again what failed before it
        states = [self._state(task, working, expected, tried) for task in self.tasks.values()]
        counts = Counter(state.word for state in states)
        left = [sum(filter(None, state.left)) for state in states]
        workers = sum(note["workers"] for note in runs) or counts["running"] or 1
        return Standing(
            study=self._study,
            done=counts["done"],
            running=counts["running"],
            waiting=counts["waiting"],
            failed=counts["failed"],
            underway=tuple(one for state in states for one in state.underway),
            runs=len(runs),
            left=max([sum(left) / workers, *left]),  # what one trial needs comes one after another
            untimed=sum(state.left.count(None) for state in states),
        )

    def _state(
        self, task: Followed, working: Mapping[str, Note], expected: Expected, failed: Collection[str]
    ) -> _State:
        trained = task.key in self._seconds
        now = self._clock()
        missing = [asked for asked in task.asked if asked.key not in self._measured]
        if trained and not missing:
            return _State("done")
        underway = [_training(task, working[task.key], expected, now)] if task.key in working and not trained else []
        underway += [_measuring(task, one, working[one.key], expected, now) for one in missing if one.key in working]
        if task.key in failed and not underway:  # it may be under way again
            return _State("failed")
        left = [one.left for one in underway]
        left += [] if trained or task.key in working else [expected.training(task)]
        left += [expected.measuring(one) for one in missing if one.key not in working]
        return _State("running" if underway else "waiting", tuple(underway), tuple(left))

    def _look(self) -> None:
        """Notices what was finished since the last time; folders are listed, so that no file is looked for in vain."""
        for key in (self._store.trial_keys() & self.tasks.keys()) - self._seconds.keys():
            if record := self._store.record(key):
                self._seconds[key] = record["seconds"]
        asked = {one.key for task in self.tasks.values() for one in task.asked}
        new = (self._store.measurement_keys() & asked) - self._measured
        self._measured |= new
        self._measuring.notice(new)


class _Measured(Means):
    """Mean seconds of the measurements in a store, those of other studies among them.

    They are read when a duration is asked for: never where all is measured.
    """

    def __init__(self, store: Store):
        super().__init__()
        self._store, self._read, self._waiting = store, set[str](), store.measurement_keys()

    def notice(self, keys: Iterable[str]) -> None:
        """Of measurements that were made in the meantime."""
        self._waiting.update(keys)

    def expect(self, kinds: Iterable[str]) -> float | None:
        """The mean of the first kind that is known."""
        for key in self._waiting - self._read:
            with suppress(UserError, KeyError, TypeError):  # a damaged one is for those to tell who need its values
                found = self._store.measurement(key) or {}
                if "seconds" in found:  # records of before it was noted have none
                    self.learn(learnt_kinds(key, found), found["seconds"])
        self._read |= self._waiting
        self._waiting = set()
        return super().expect(kinds)


def _training(task: Followed, note: Note, expected: Expected, now: float) -> Underway:
    epoch, epochs = note["epoch"], note["epochs"]
    so_far = now - note["started"]
    if not epoch:  # nothing is known of its speed yet
        return Underway(task, f"epoch 0 of {epochs}", so_far, _rest(expected.training(task), so_far))
    # A note is written when an epoch ends: since then, a part of the next one has passed.
    left = max(0.0, epoch_seconds(note) * (epochs - epoch) - (now - note["written"]))
    return Underway(task, f"epoch {epoch} of {epochs}", so_far, left, note.get("losses", {}))


def _measuring(task: Followed, asked: Asked, note: Note, expected: Expected, now: float) -> Underway:
    so_far = now - note["started"]
    counted = f", {note['done']} of {note['of']}" if "of" in note else ""
    return Underway(task, f"measuring {asked.of}{counted}", so_far, _rest(expected.measuring(asked), so_far))


def _rest(whole: float | None, so_far: float) -> float | None:
    """What is left of an expected time; of one that is over, a tenth of what it took, because it still goes on."""
    if whole is None:
        return None
    return whole - so_far if so_far < whole else so_far / 10


def _when(failure: Note) -> int:
    """When a trial failed, in seconds since 1970."""
    return calendar.timegm(time.strptime(failure["time"], "%Y-%m-%dT%H:%M:%SZ"))
