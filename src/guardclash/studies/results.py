"""A study's results: every measured value by cell and seed, made anew from the store by each run. No torch.

`collect` is the one place that turns records into results; reports, exports and `status` read nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guardclash.errors import UserError
from guardclash.judging.criteria import Metric, metric_from
from guardclash.numerics.scatter import Scatter, scatter_from
from guardclash.studies.cells import Cell, Named
from guardclash.studies.store import read_json

Curve = tuple[tuple[float, float], ...]
"""Points (x, y)."""
CELL = {"key", "recipe", "clash", "facts", "measures", "trials"}
"""What every cell of a results file has."""


@dataclass(frozen=True)
class Results:
    """What is measured so far, as read from a results file."""

    content: Mapping[str, Any]

    def cell(self, cell: Cell) -> Mapping[str, Any] | None:
        """What is known of a cell of a study; None if the results were made for another study."""
        key = cell.key
        return next((entry for entry in self.content["cells"] if entry["key"] == key), None)

    def values(self, cell: Cell, of: Named | None, metric: str, seeds: range) -> tuple[float, ...]:
        """A metric's values in the order of their seeds, as far as they are there.

        Args:
            cell: Where it was measured.
            of: The mechanism whose metric it is; None: accuracy.
            metric: Its name.
            seeds: The seeds that are asked for.
        """
        return tuple(value for _, value in self.by_seed(cell, of, metric, seeds))

    def by_seed(self, cell: Cell, of: Named | None, metric: str, seeds: range) -> Iterator[tuple[int, float]]:
        """Seed and value, as `values`."""
        for seed, measurement in self._measurements(cell, of, seeds):
            if metric in measurement["values"]:
                yield seed, float(measurement["values"][metric])  # inf is written as a text

    def curves(self, cell: Cell, of: Named, name: str, seeds: range) -> tuple[Curve, ...]:
        """A curve in the order of its seeds, as far as it is there; arguments as `values`."""
        found = (measurement.get("curves", {}) for _, measurement in self._measurements(cell, of, seeds))
        return tuple(tuple((x, y) for x, y in curves[name]) for curves in found if name in curves)

    def curve_names(self, cell: Cell, of: Named, seeds: range) -> tuple[str, ...]:
        """The names of all curves that are there, in the order in which they were recorded."""
        found = (measurement.get("curves", {}) for _, measurement in self._measurements(cell, of, seeds))
        return tuple(dict.fromkeys(name for curves in found for name in curves))

    def losses(self, cell: Cell, seeds: range) -> Iterator[tuple[int, Mapping[str, list[float]]]]:
        """Seed and mean loss by epoch of each stream, of the trials of which losses are recorded."""
        entry = self.cell(cell)
        for trial in entry["trials"] if entry else ():
            if trial["seed"] in seeds and trial.get("losses"):
                yield trial["seed"], trial["losses"]

    def evidence(self, cell: Cell) -> tuple[Mapping[str, Any], ...]:
        """Pictures of what the mechanism of a cell put into its training, as `kept_pictures` gives them, if any."""
        return tuple((self.cell(cell) or {}).get("evidence") or ())

    def scatter(self, cell: Cell, of: Named, seed: int) -> Scatter | None:
        """Points of clean images and marks in a cell's features; None where none are recorded."""
        found = (measurement.get("scatter") for _, measurement in self._measurements(cell, of, range(seed, seed + 1)))
        return next((scatter_from(record) for record in found if record), None)

    def _measurements(self, cell: Cell, of: Named | None, seeds: range) -> Iterator[tuple[int, Mapping[str, Any]]]:
        entry = self.cell(cell)
        wanted = None if of is None else _plain(of)
        for trial in entry["trials"] if entry else ():
            if trial["seed"] in seeds:
                yield from ((trial["seed"], one) for one in trial["measurements"] if one["of"] == wanted)

    def without(self, cell: Cell, of: Named, metric: str, seeds: range) -> bool:
        """Whether a mechanism was measured here on every seed and left this metric out: it has no meaning here."""
        entry = self.cell(cell)
        trials = [trial for trial in entry["trials"] if trial["seed"] in seeds] if entry else []
        found = [one["values"] for trial in trials for one in trial["measurements"] if one["of"] == _plain(of)]
        return len(found) == len(seeds) and not any(metric in values for values in found)

    def trainings(self, cell: Cell, seeds: range) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The seeds whose training ended, and those among them where it ended in no numbers, as it would again."""
        entry = self.cell(cell)
        trials = [trial for trial in entry["trials"] if trial["seed"] in seeds] if entry else []
        diverged = tuple(trial["seed"] for trial in trials if trial.get("diverged"))
        return tuple(trial["seed"] for trial in trials if "seconds" in trial or trial.get("diverged")), diverged

    def metrics(self, cell: Cell, of: Named | None) -> tuple[Metric, ...]:
        """The metrics that a mechanism declares, with their own criteria."""
        entry = self.cell(cell)
        wanted = None if of is None else _plain(of)
        for measure in entry["measures"] if entry else ():
            if measure["of"] == wanted:
                return tuple(metric_from(metric) for metric in measure["metrics"])
        return ()

    @property
    def environments(self) -> list[dict[str, str]]:
        """The machines and versions that made the results."""
        return list(self.content.get("environments", []))


def _plain(named: Named) -> dict[str, Any]:
    """As JSON gives it back: tuples are lists there."""
    found = named.plain.to_dict()
    return {key: list(value) if isinstance(value, tuple) else value for key, value in found.items()}


def read_results(path: str | Path) -> Results:
    """Reads a results file.

    Raises:
        UserError: If it is not there or is not one.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError("no results yet", where=path, mend="Run the study first: guardclash run STUDY.")
    content = read_json(path)
    if not {"study", "cells"} <= set(content):
        raise UserError("not a results file of guardclash", where=path)
    cells = content["cells"]
    if not isinstance(cells, list) or not all(isinstance(cell, dict) and set(cell) >= CELL for cell in cells):
        raise UserError("a damaged results file", where=path, mend="Run the study again: it is made anew.")
    return Results(content)
