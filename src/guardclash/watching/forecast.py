"""How long trainings and measurements will take, from how long others took."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from guardclash.watching.tasks import Asked, Followed

Note = Mapping[str, Any]
"""Of work under way; see `guardclash.studies.activity`."""


class Means:
    """Mean seconds of what was done, by kind."""

    def __init__(self) -> None:
        self._sums: dict[str, tuple[float, int]] = {}

    def learn(self, kinds: Iterable[str], seconds: float) -> None:
        """Counts a duration for each of its kinds."""
        for kind in kinds:
            total, count = self._sums.get(kind, (0.0, 0))
            self._sums[kind] = total + seconds, count + 1

    def expect(self, kinds: Iterable[str]) -> float | None:
        """The mean of the first kind that is known."""
        found = (self._sums[kind] for kind in kinds if kind in self._sums)
        return next((total / count for total, count in found), None)


class Expected:
    """How long trainings and measurements will take.

    A training takes as long as other seeds of its plan take in this run: those that are finished, and those under way
    at their present speed. Before there are any, it takes what the run estimated beforehand, scaled by how its
    estimates fared so far; without a run, the mean of its plan in the store.
    """

    def __init__(
        self,
        tasks: Mapping[str, Followed],
        seconds: Mapping[str, float],
        measuring: Means,
        runs: Iterable[Note],
        training: Mapping[str, Note],
    ):
        self._estimates = {key: guess for note in runs for key, guess in note.get("estimates", {}).items()}
        self._measuring = measuring
        self._stored, self._now = Means(), Means()
        spent = guessed = 0.0
        for key, task in tasks.items():
            took = seconds.get(key)
            if took is not None:
                self._stored.learn([task.plan], took)
            elif key in training and training[key]["epoch"]:
                took = epoch_seconds(training[key]) * training[key]["epochs"]  # as if it went on like this
            if took is not None and key in self._estimates:  # of this run: others may be of another machine
                self._now.learn([task.plan], took)
                spent, guessed = spent + took, guessed + self._estimates[key]
        self._pace = spent / guessed if guessed else 1.0

    def training(self, task: Followed) -> float | None:
        """Seconds of a whole training."""
        now = self._now.expect([task.plan])
        if now is None and task.key in self._estimates:
            return self._estimates[task.key] * self._pace
        return self._stored.expect([task.plan]) if now is None else now

    def measuring(self, asked: Asked) -> float | None:
        """Seconds of a measurement."""
        return self._measuring.expect(asked.kinds)


def epoch_seconds(note: Note) -> float:
    """Mean seconds of an epoch of a training under way, of which at least one is over."""
    return float(note["written"] - note["started"]) / int(note["epoch"])
