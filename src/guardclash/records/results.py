"""What is measured of a study, as values: every metric by cell and seed, with what was trained. No torch.

`guardclash.records.file` reads and writes it; verdicts, reports and `status` look at nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from guardclash.judging.criteria import ACCURACY, Metric
from guardclash.numerics.scatter import Scatter
from guardclash.records.cells import Cell, Named

Curve = tuple[tuple[float, float], ...]
"""Points (x, y)."""
UTILITY = ""
"""Of whom a measurement is that belongs to no mechanism: the task's utility."""


@dataclass(frozen=True)
class Measurement:
    """What one mechanism, or one measure of a study, found of one model."""

    of: Named | None
    """None: it is the task's utility."""
    values: Mapping[str, float]
    """By metric."""
    warnings: tuple[str, ...] = ()
    curves: Mapping[str, Curve] = field(default_factory=dict)
    scatter: Scatter | None = None


@dataclass(frozen=True)
class TrialRecord:
    """One training and what was measured on it, or why there is none."""

    seed: int
    key: str
    """Of the trial in the store."""
    seconds: float | None = None
    """None: it never ended."""
    losses: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """Mean loss by epoch of each stream."""
    error: str | None = None
    """What failed, in training or measuring."""
    diverged: bool = False
    """Whether the training ended in no numbers, as it would again."""
    measurements: Mapping[str, Measurement] = field(default_factory=dict)
    """By the text of whose they are; `UTILITY`."""
    environment: int | None = None
    """Where it was trained: its place among the results' `environments`. None: that is not known."""


@dataclass(frozen=True)
class Evidence:
    """A picture of what a mechanism put into the training."""

    name: str
    caption: str
    png: str | None = None
    """Base64; None: it is not here."""
    width: int | None = None
    """Screen pixels to show it at."""
    bytes: int | None = None
    """Of a picture that is too large for a report."""


@dataclass(frozen=True)
class CellRecord:
    """What is known of one cell: of a combination on a recipe, or of a suspect."""

    key: str = ""
    """`Cell.key`."""
    recipe: Mapping[str, Any] = field(default_factory=dict)
    """Every field of the recipe, as it was trained."""
    combination: tuple[Named, ...] = ()
    clash: str | None = None
    """Why it cannot be built."""
    plan: str | None = None
    """The plan's fingerprint."""
    composed: Mapping[str, Any] | None = None
    """The plan's full description."""
    facts: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """By mechanism: what follows from the plan alone."""
    measures: Mapping[str, tuple[Metric, ...]] = field(default_factory=dict)
    """The metrics that are declared here, by the text of whose they are; `UTILITY`."""
    trials: tuple[TrialRecord, ...] = ()
    suspect: Mapping[str, Any] | None = None
    stolen: bool | None = None
    """Whether a suspect owes anything to the victim; None: no suspect."""
    evidence: tuple[Evidence, ...] = ()
    data: Mapping[str, Any] | None = None
    """Of the unprotected model, what was done to the data, as `notes`; of somebody's own also `sizes` by split, and
    digests of their `parts`. None: nothing but what the data set's name says."""

    def among(self, seeds: range) -> tuple[TrialRecord, ...]:
        """Its trials of some seeds."""
        return tuple(trial for trial in self.trials if trial.seed in seeds)

    def whole(self, seeds: range) -> tuple[TrialRecord, ...]:
        """Those of them on which everything is measured that is measured here."""
        return tuple(trial for trial in self.among(seeds) if trial.measurements.keys() >= self.measures.keys())

    @cached_property
    def by_seed(self) -> Mapping[int, tuple[TrialRecord, ...]]:
        """Its trials by seed; a record has one of each, made-up ones may have several."""
        found: dict[int, list[TrialRecord]] = {}
        for trial in self.trials:
            found.setdefault(trial.seed, []).append(trial)
        return {seed: tuple(trials) for seed, trials in found.items()}


UNKNOWN = CellRecord()
"""Of a cell that the results know nothing of."""


@dataclass(frozen=True)
class Results:
    """What is measured so far of a study."""

    study: str = ""
    written: str | None = None
    """When, UTC."""
    environments: tuple[Mapping[str, str], ...] = ()
    """The machines and versions that made the results."""
    cells: Mapping[str, CellRecord] = field(default_factory=dict)
    """By `Cell.key`."""
    damaged: tuple[str, ...] = ()
    """Files of the store that are damaged and so left out, and why. In no results file: the next run mends them."""
    titles: Mapping[str, str] = field(default_factory=dict)
    """What people call mechanisms, by name; of results of before, nobody knows."""
    changed: tuple[str, ...] = ()
    """In sentences, which code is another one than that which made the results. In no results file either."""

    def cell(self, cell: Cell) -> CellRecord | None:
        """What is known of a cell of a study; None if the results were made for another study."""
        return self.cells.get(cell.key)

    def values(self, cell: Cell, of: Named | None, metric: str, seeds: range) -> tuple[float, ...]:
        """A metric's values in the order of their seeds, as far as they are there.

        Args:
            cell: Where it was measured.
            of: The mechanism or measure whose metric it is; None: the utility.
            metric: Its name.
            seeds: The seeds that are asked for.
        """
        return tuple(value for _, value in self.by_seed(cell, of, metric, seeds))

    def by_seed(self, cell: Cell, of: Named | None, metric: str, seeds: range) -> Iterator[tuple[int, float]]:
        """Seed and value, as `values`."""
        for seed, measurement in self._measurements(cell, of, seeds):
            if metric in measurement.values:
                yield seed, measurement.values[metric]

    def curves(self, cell: Cell, of: Named, name: str, seeds: range) -> tuple[Curve, ...]:
        """A curve in the order of its seeds, as far as it is there; arguments as `values`."""
        found = (measurement.curves for _, measurement in self._measurements(cell, of, seeds))
        return tuple(curves[name] for curves in found if name in curves)

    def curve_names(self, cell: Cell, of: Named, seeds: range) -> tuple[str, ...]:
        """The names of all curves that are there, in the order in which they were recorded."""
        found = (measurement.curves for _, measurement in self._measurements(cell, of, seeds))
        return tuple(dict.fromkeys(name for curves in found for name in curves))

    def losses(self, cell: Cell, seeds: range) -> Iterator[tuple[int, Mapping[str, tuple[float, ...]]]]:
        """Seed and mean loss by epoch of each stream, of the trials of which losses are recorded."""
        trials = (self.cell(cell) or UNKNOWN).among(seeds)
        yield from ((trial.seed, trial.losses) for trial in trials if trial.losses)

    def evidence(self, cell: Cell) -> tuple[Evidence, ...]:
        """Pictures of what the mechanism of a cell put into its training, if any."""
        return (self.cell(cell) or UNKNOWN).evidence

    def scatter(self, cell: Cell, of: Named, seed: int) -> Scatter | None:
        """Points of clean images and marks in a cell's features; None where none are recorded."""
        found = (measurement.scatter for _, measurement in self._measurements(cell, of, range(seed, seed + 1)))
        return next((scatter for scatter in found if scatter), None)

    def _measurements(self, cell: Cell, of: Named | None, seeds: range) -> Iterator[tuple[int, Measurement]]:
        entry, wanted = self.cell(cell) or UNKNOWN, of.text if of else UTILITY
        for seed in seeds:
            for trial in entry.by_seed.get(seed, ()):
                if wanted in trial.measurements:
                    yield seed, trial.measurements[wanted]

    def without(self, cell: Cell, of: Named, metric: str, seeds: range) -> bool:
        """Whether a mechanism was measured here on every seed and left this metric out: it has no meaning here."""
        found = [measurement.values for _, measurement in self._measurements(cell, of, seeds)]
        return len(found) == len(seeds) and not any(metric in values for values in found)

    def trainings(self, cell: Cell, seeds: range) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The seeds whose training ended, and those among them where it ended in no numbers, as it would again."""
        trials = (self.cell(cell) or UNKNOWN).among(seeds)
        ended = tuple(trial.seed for trial in trials if trial.seconds is not None or trial.diverged)
        return ended, tuple(trial.seed for trial in trials if trial.diverged)

    def utility(self, cell: Cell) -> Metric:
        """The metric by which every model of a cell's task is judged; accuracy, where nothing is known of the cell."""
        return next(iter(self.metrics(cell, None)), ACCURACY)

    @property
    def utilities(self) -> tuple[Metric, ...]:
        """The utilities of all tasks, each once."""
        found = (cell.measures.get(UTILITY, ())[:1] for cell in self.cells.values())
        return tuple(dict.fromkeys(metric for metrics in found for metric in metrics)) or (ACCURACY,)

    def metrics(self, cell: Cell, of: Named | None) -> tuple[Metric, ...]:
        """The metrics that a mechanism or measure declares, with their own criteria; None: the utility's."""
        return (self.cell(cell) or UNKNOWN).measures.get(of.text if of else UTILITY, ())
