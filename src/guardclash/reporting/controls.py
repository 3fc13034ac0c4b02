"""What a mechanism's metric is without it: the same models but for that one mechanism."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from guardclash.judging.criteria import Metric
from guardclash.judging.judgement import plain
from guardclash.judging.stats import Sample, estimate_difference, interval
from guardclash.records.cells import Cell, without
from guardclash.records.results import UNKNOWN, Results
from guardclash.studies.study import Study
from guardclash.studies.verdicts import sample


@dataclass(frozen=True)
class Control:
    """A metric of one mechanism, on models with it and on models without it.

    A watermark that scores no better than without it is no evidence of anything, whatever the score.
    """

    recipe: str
    combination: tuple[str, ...]
    """Labels of the mechanisms, `mechanism` among them."""
    mechanism: str
    metric: Metric
    present: Sample
    absent: Sample
    """The metric on models of the same combination without the mechanism."""
    alpha: float

    @property
    def difference(self) -> float | None:
        """Mean with the mechanism minus mean without it, in the units of the metric; as `interval`."""
        value = estimate_difference(self.present, self.absent, self.metric.paired).value
        return value if math.isfinite(value) else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Of the difference, at confidence 1 - 2 alpha; seed by seed if the metric is paired."""
        ends = interval(estimate_difference(self.present, self.absent, self.metric.paired), self.alpha)
        return None if math.isnan(ends[0]) else ends

    def to_dict(self) -> dict[str, Any]:
        """Strictly valid JSON."""
        return {
            "recipe": self.recipe,
            "combination": list(self.combination),
            "mechanism": self.mechanism,
            "metric": self.metric.name,
            "symbol": self.metric.symbol,
            "with": list(map(plain, self.present.values)),
            "without": list(map(plain, self.absent.values)),
            "difference": self.difference,
            "interval": self.interval and list(self.interval),
        }


def controls(study: Study, results: Results) -> tuple[Control, ...]:
    """A control for every metric that was measured both with and without its mechanism, in the order of the cells.

    Left out is a mechanism that changes nothing, such as a test of finished models: its two cells are the same models.
    """
    cells = {(cell.recipe, cell.combination): cell for cell in study.cells()}
    return tuple(found for cell in cells.values() for found in _of_cell(study, results, cell, cells))


def _of_cell(study: Study, results: Results, cell: Cell, cells: dict[Any, Cell]) -> Iterator[Control]:
    for named in cell.combination:
        bare = cells.get((cell.recipe, without(cell.combination, named)))
        if bare is None:
            continue  # the study does not train the rest by itself
        for metric in results.metrics(cell, named):
            present, absent = (sample(study, results, where, named, metric) for where in (cell, bare))
            if present.n and absent.n and not _same(results, cell, bare, present, absent):
                labels = tuple(study.label(other) for other in cell.combination)
                label, recipe = study.label(named.plain), study.recipe_label(cell.recipe)
                yield Control(recipe, labels, label, metric, present, absent, study.level)


def _same(results: Results, cell: Cell, bare: Cell, present: Sample, absent: Sample) -> bool:
    """Whether both are the very same models: a mechanism that only measures or answers makes no other ones.

    One that answers for the model still changes what is measured.
    """
    plans = [(results.cell(where) or UNKNOWN).plan for where in (cell, bare)]
    here, there = (dict(zip(one.seeds, one.values, strict=True)) for one in (present, absent))
    # Of the seeds that both have, for either may have more than the other.
    same_values = all(here[seed] == there[seed] for seed in here.keys() & there.keys())
    return plans[0] is not None and plans[0] == plans[1] and same_values  # two unknown plans are not equal
