"""What a tracker is: something that is told how a study goes, to show it in an experiment tracker.

Trackers are named on the command line (`guardclash run STUDY --track tensorboard`) and found through the entry points
of installed packages, in the group `guardclash.trackers`. Each entry point names a subclass of `Tracker`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from guardclash.errors import UserError, suggestion

GROUP = "guardclash.trackers"
BUILT_IN = {
    "tensorboard": "guardclash.trackers.tensorboard:TensorBoard",
    "mlflow": "guardclash.trackers.mlflow:MLflow",
}


@dataclass(frozen=True)
class TrackedTrial:
    """One training of a study."""

    study: str
    key: str
    """Its name in the store."""
    recipe: str
    """Such as "mnist/reduced"."""
    combination: str
    """Such as "{wm, dpsgd}"; of a suspect, what it is of which combination."""
    seed: int
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the recipe and options of the mechanisms, such as "recipe.epochs" and "dpsgd.epsilon"."""


class Tracker:
    """Is told how a study goes. Each method here does nothing; a tracker overrides those that it wants.

    It is called in the process of the run, never by two threads. Each thing is told once for each study, also after an
    interruption; what was in the store before comes first. A method that raises ends this tracker, not the run.

    Args:
        folder: Where it may write, the same for all studies of a store; not made yet when nothing was written there.
    """

    def __init__(self, folder: Path):
        self.folder = folder

    def study_started(self, study: str) -> None:
        """A run begins."""

    def trial_finished(self, trial: TrackedTrial, history: Sequence[Mapping[str, float]], seconds: float) -> None:
        """A training is in the store.

        Args:
            trial: Which one.
            history: One entry for each epoch: "epoch", from 1, and each stream's mean loss under its name.
            seconds: How long it took.
        """

    def trial_failed(self, trial: TrackedTrial, error: str) -> None:
        """A training or one of its measurements failed."""

    def measured(self, trial: TrackedTrial, metrics: Mapping[str, float]) -> None:
        """New measurements of a finished trial: "accuracy/accuracy", "wm/wm_accuracy", ... (mechanism and metric)."""

    def verdict(self, study: str, recipe: str, combination: str, outcome: str, broken: Sequence[str]) -> None:
        """What is said of a combination now, and of which of its metrics it is broken; only when that changes."""

    def study_finished(self, study: str) -> None:
        """The run ends, completed or not."""


def find_tracker(name: str) -> type[Tracker]:
    """The class of the tracker of that name; an installed one takes the place of a built-in one.

    Raises:
        UserError: If there is none, or a package that it needs is not installed.
    """
    known = {known: EntryPoint(known, value, GROUP) for known, value in BUILT_IN.items()}
    known.update((entry.name, entry) for entry in entry_points(group=GROUP))
    if name not in known:
        raise UserError(f"unknown tracker {name!r}", mend=suggestion(name, known))
    try:
        found: type[Tracker] = known[name].load()
    except ImportError as error:
        mend = f"pip install guardclash[{name}]" if name in BUILT_IN else ""
        raise UserError(f"the tracker {name!r} cannot be imported: {error}", mend=mend) from error
    return found
