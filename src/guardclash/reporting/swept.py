"""Sweeps: every metric over each numeric option that a study gives several values of, in cells alike but for it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeGuard

from guardclash.judging.criteria import Absolute, Metric
from guardclash.judging.stats import Sample
from guardclash.records.cells import Cell, Named, Options, braces
from guardclash.records.results import Results
from guardclash.reporting.entries import Column, Verdicts, judgement_of, limit_of, mean_interval
from guardclash.studies.study import Study
from guardclash.studies.verdicts import alone, judged_sample


@dataclass(frozen=True)
class SweptOption:
    """An option that is swept."""

    of: str
    """The mechanism; empty of an option of the recipe, such as its epochs."""
    option: str

    @property
    def label(self) -> str:
        """Such as "epsilon of dpsgd"."""
        return f"{self.option} of {self.of}" if self.of else self.option


@dataclass(frozen=True)
class Series:
    """Cells that differ in the option alone."""

    label: str
    """The combination without the option."""
    points: tuple[tuple[float, Cell], ...]
    """Two or more, in the order of the option."""


@dataclass(frozen=True)
class SweptPoint:
    """A metric at one value of the option."""

    option: float
    values: Sample
    """As they are judged."""
    interval: tuple[float, float] | None
    """Of their mean, at the confidence of the study; None of a single value."""
    reference: Sample
    """Alone, or of the unprotected model."""
    reference_interval: tuple[float, float] | None
    limit: float | None
    """The worst admissible mean."""


@dataclass(frozen=True)
class SweptLine:
    """A metric over the option, all else alike."""

    label: str
    combination: tuple[str, ...]
    """Names of the mechanisms."""
    points: tuple[SweptPoint, ...]
    """Two or more, in the order of the option."""


@dataclass(frozen=True)
class SweptMetric:
    """All lines of a metric."""

    of: str | None
    """The mechanism whose metric it is; None: the utility."""
    metric: Metric
    """With the criterion that the study applies."""
    lines: tuple[SweptLine, ...]


@dataclass(frozen=True)
class Sweep:
    """All that is measured over an option on one recipe."""

    axis: SweptOption
    recipe: str
    """Its label, without the option."""
    series: tuple[Series, ...]
    metrics: tuple[SweptMetric, ...]
    """The utility first; only those with lines."""


def sweeps(study: Study, results: Results, found: Verdicts) -> tuple[Sweep, ...]:
    """Every sweep of a number, recipe by recipe, as far as it is measured.

    Args:
        study: What was asked.
        results: What is measured so far.
        found: The verdicts on it.
    """
    return tuple(
        Sweep(axis, recipe, series, tuple(_metrics(study, results, found, series)))
        for axis in _axes(study)
        for recipe, series in _series(study, axis)
    )


# Values


def _metrics(study: Study, results: Results, found: Verdicts, series: Sequence[Series]) -> Iterator[SweptMetric]:
    for of, metric in _declared(study, results, series):
        column = Column(of, metric)
        drawn = (_line(study, results, found, one, column) for one in series)
        lines = tuple(line for line in drawn if len(line.points) > 1)  # one point is no line
        if lines:
            yield SweptMetric(of, metric, lines)


def _declared(study: Study, results: Results, series: Iterable[Series]) -> list[tuple[str | None, Metric]]:
    """The utility, then the metrics of the mechanisms that are deployed."""
    found: dict[tuple[str | None, str], Metric] = {}
    criteria = dict(study.criteria)
    for line in series:
        for _, cell in line.points:
            for of in (None, *cell.combination):
                for metric in results.metrics(cell, of) if of else (results.utility(cell),):
                    # By name: the values of the option make variants, whose metrics are one metric over it.
                    found.setdefault((of.name if of else None, metric.name), metric)
    ordered = sorted(found.items(), key=lambda item: item[0][0] is not None)  # the sort is stable
    return [(of, replace(metric, criterion=criteria.get(metric.name, metric.criterion))) for (of, _), metric in ordered]


def _line(study: Study, results: Results, found: Verdicts, series: Series, column: Column) -> SweptLine:
    names = tuple(named.name for named in series.points[0][1].combination)
    points = (_point(study, results, found, cell, column, option) for option, cell in series.points)
    return SweptLine(series.label, names, tuple(point for point in points if point))


def _point(
    study: Study, results: Results, found: Verdicts, cell: Cell, column: Column, option: float
) -> SweptPoint | None:
    own = next((named for named in cell.combination if named.name == column.of), None)
    if column.of is not None and own is None:
        return None
    values = judged_sample(study, results, cell, own, column.metric)
    if not math.isfinite(values.mean):
        return None  # nothing is there yet, or it has no bound
    judgement = judgement_of(study, found, cell, column)
    if judgement:
        reference = judgement.alone
        limit = limit_of(judgement, -1 if column.metric.higher_is_better else 1)
    else:
        # A mechanism alone has no verdict; it is held against the unprotected model.
        before = alone(cell, own, study) if own and len(cell.combination) > 1 else Cell(cell.recipe, (), study.alone)
        reference = judged_sample(study, results, before, own, column.metric)
        criterion = column.metric.criterion
        limit = criterion.threshold if isinstance(criterion, Absolute) else None
    ends = (mean_interval(sample, study.level) for sample in (values, reference))
    return SweptPoint(option, values, next(ends), reference, next(ends), limit)


# Options and cells


def _axes(study: Study) -> list[SweptOption]:
    """Options of one mechanism, or of recipes of one data set, that have several numbers."""
    # By data set too: recipes of two data sets with different numbers sweep nothing.
    values: dict[tuple[str, SweptOption], set[float]] = {}
    for dataset, of, options in _options(study):
        for option, value in options:
            if _is_number(value):
                values.setdefault((dataset, SweptOption(of, option)), set()).add(value)
    return list(dict.fromkeys(axis for (_, axis), numbers in values.items() if len(numbers) > 1))


def _options(study: Study) -> Iterator[tuple[str, str, Options]]:
    yield from (("", named.name, named.options) for named in study.mechanisms())
    yield from ((recipe.name, "", recipe.options) for recipe in study.recipes)


def _series(study: Study, axis: SweptOption) -> Iterator[tuple[str, tuple[Series, ...]]]:
    """Label of a recipe without the option, and its series."""
    alike: dict[Named, dict[tuple[Named, ...], list[tuple[float, Cell]]]] = {}
    for cell in study.cells():
        # What is equal once the option is taken out differs in nothing else.
        (recipe, *rest), value = _left(axis, (cell.recipe, *cell.combination))
        if _is_number(value):
            alike.setdefault(recipe, {}).setdefault(tuple(rest), []).append((value, cell))
    for recipe, by_rest in alike.items():
        series = tuple(
            Series(_label(study, rest), tuple(sorted(points, key=lambda point: point[0])))
            for rest, points in by_rest.items()
            if len(points) > 1
        )
        if series:
            yield study.recipe_label(recipe), series


def _left(axis: SweptOption, names: tuple[Named, ...]) -> tuple[tuple[Named, ...], float | None]:
    """Recipe and mechanisms without the option, and its value."""
    # The recipe, at place 0, answers to "": a mechanism may be called like a data set.
    at = next((n for n, named in enumerate(names) if (named.name if n else "") == axis.of), None)
    if at is None:
        return names, None
    rest = tuple((key, value) for key, value in names[at].options if key != axis.option)
    return (*names[:at], replace(names[at], options=rest), *names[at + 1 :]), dict(names[at].options).get(axis.option)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _label(study: Study, rest: Sequence[Named]) -> str:
    labels = [study.label(named) for named in rest]
    return f"{labels[0]} alone" if len(labels) == 1 else braces(labels)
