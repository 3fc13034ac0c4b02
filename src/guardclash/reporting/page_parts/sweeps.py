"""Sweeps: every metric over a numeric option that a study gives several values of."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from guardclash.judging.criteria import Absolute, Metric
from guardclash.judging.stats import Sample, estimate_mean, interval
from guardclash.records.results import Results
from guardclash.reporting.page_parts.charts import Chart, short, wrapped
from guardclash.reporting.page_parts.curves import Curve, curves
from guardclash.reporting.page_parts.words import slug
from guardclash.reporting.swept import Series, Swept, SweptOption, sweeps_of
from guardclash.reporting.tables import bound, percent
from guardclash.studies.study import Study
from guardclash.studies.verdicts import judged_sample


@dataclass(frozen=True)
class SweptMetric:
    """A metric on one recipe, over the option."""

    recipe: str
    of: str
    """Whose metric it is; empty of accuracy."""
    symbol: str
    title: str
    chart: Chart


@dataclass(frozen=True)
class Sweep:
    """All metrics over one option of a mechanism, or of the recipes."""

    id: str
    option: str
    """With its mechanism: "dpsgd: epsilon"."""
    judged: tuple[SweptMetric, ...]
    reported: tuple[SweptMetric, ...]
    """Of metrics without a criterion."""
    members: frozenset[str]
    """Keys of the cells that take part."""


def sweeps(study: Study, results: Results) -> tuple[Sweep, ...]:
    """Of every numeric option with several values in cells that are otherwise alike, as far as they are measured."""
    by_axis: dict[SweptOption, list[Swept]] = {}
    for swept in sweeps_of(study):
        by_axis.setdefault(swept.axis, []).append(swept)
    return tuple(found for axis, all_of in by_axis.items() if (found := _sweep(study, results, axis, all_of)))


def _sweep(study: Study, results: Results, axis: SweptOption, all_of: Sequence[Swept]) -> Sweep | None:
    judged: list[SweptMetric] = []
    reported: list[SweptMetric] = []
    for swept in all_of:
        for of, metric in _metrics(study, results, swept.series):
            found = _swept(study, results, swept, of, metric)
            if found:
                (judged if metric.criterion else reported).append(found)
    if not judged and not reported:
        return None
    members = frozenset(cell.key for swept in all_of for line in swept.series for _, cell in line.points)
    option = f"{axis.of}: {axis.option}" if axis.of else axis.option
    return Sweep(f"sweep-{slug(f'{axis.of} {axis.option}')}", option, tuple(judged), tuple(reported), members)


def _metrics(study: Study, results: Results, lines: Sequence[Series]) -> list[tuple[str | None, Metric]]:
    """Accuracy, then those of the mechanisms that are deployed; each with the criterion that the study applies."""
    found: dict[tuple[str | None, str], Metric] = {}
    criteria = dict(study.criteria)
    for line in lines:
        for _, cell in line.points:
            for of in (None, *cell.combination):
                for metric in results.metrics(cell, of):
                    found.setdefault((of.name if of else None, metric.name), metric)
    ordered = sorted(found.items(), key=lambda item: item[0][0] is not None)
    return [(of, replace(metric, criterion=criteria.get(metric.name, metric.criterion))) for (of, _), metric in ordered]


def _swept(study: Study, results: Results, swept: Swept, of: str | None, metric: Metric) -> SweptMetric | None:
    drawn = [curve for line in swept.series if (curve := _curve(study, results, line, of, metric))]
    if not drawn:
        return None
    label, axis = swept.recipe, swept.axis
    criterion = metric.criterion
    limit = (criterion.threshold, bound(criterion)) if isinstance(criterion, Absolute) else None
    height, shapes = curves([Curve(short(c.name, 56), c.points) for c in drawn], axis.label, limit)
    whose = f" of {of}" if of else ""
    head = f"{metric.judged_symbol}{whose} over {axis.label}, {label}"
    notes = f"Means over seeds with intervals at {percent(study.confidence)}."
    file = slug(f"{study.name} {axis.of} {axis.option} {label} {of or ''} {metric.name}")
    title = f"{head}: {len(drawn)} curves, the values stand in the table of raw values."
    chart = Chart(file, height, shapes, wrapped(head), wrapped(notes), title)
    return SweptMetric(label, of or "", metric.judged_symbol, metric.title, chart)


def _curve(study: Study, results: Results, line: Series, of: str | None, metric: Metric) -> Curve | None:
    points = list(_points(study, results, line, of, metric))
    return Curve(line.label, tuple(points)) if len(points) > 1 else None


def _points(
    study: Study, results: Results, line: Series, of: str | None, metric: Metric
) -> Iterator[tuple[float, float, tuple[float, float] | None]]:
    for x, cell in line.points:
        owner = next((named for named in cell.combination if named.name == of), None)
        if of is not None and owner is None:
            continue
        values = judged_sample(study, results, cell, owner, metric)
        if math.isfinite(values.mean):
            yield x, values.mean, _interval(values, study.level)


def _interval(values: Sample, alpha: float) -> tuple[float, float] | None:
    ends = interval(estimate_mean(values), alpha)
    return None if math.isnan(ends[0]) else ends
