"""Sweeps: charts of every metric over a numeric option that a study gives several values of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from guardclash.judging.criteria import Absolute
from guardclash.reporting import swept
from guardclash.reporting.findings import Findings
from guardclash.reporting.page_parts.charts import Chart, short
from guardclash.reporting.page_parts.curves import Curve, curves
from guardclash.reporting.page_parts.words import slug
from guardclash.reporting.tables import bound, percent
from guardclash.studies.study import Study


@dataclass(frozen=True)
class SweptChart:
    """A metric on one recipe, over the option."""

    recipe: str
    of: str
    """Whose metric it is; empty of accuracy."""
    symbol: str
    title: str
    chart: Chart


@dataclass(frozen=True)
class SweepSection:
    """All metrics over one option of a mechanism, or of the recipes."""

    id: str
    option: str
    """With its mechanism: "dpsgd: epsilon"."""
    judged: tuple[SweptChart, ...]
    reported: tuple[SweptChart, ...]
    """Of metrics without a criterion."""
    members: frozenset[str]
    """Keys of the cells that take part."""


def sweeps(found: Findings) -> tuple[SweepSection, ...]:
    """A section for every option, as far as it is measured."""
    by_axis: dict[swept.SweptOption, list[swept.Sweep]] = {}
    for sweep in found.sweeps:
        by_axis.setdefault(sweep.axis, []).append(sweep)
    sections = (_section(found.study, axis, all_of) for axis, all_of in by_axis.items())
    return tuple(section for section in sections if section.judged or section.reported)


def _section(study: Study, axis: swept.SweptOption, all_of: Sequence[swept.Sweep]) -> SweepSection:
    charts = [(one.metric, _chart(study, sweep, one)) for sweep in all_of for one in sweep.metrics]
    members = frozenset(cell.key for sweep in all_of for line in sweep.series for _, cell in line.points)
    return SweepSection(
        f"sweep-{slug(f'{axis.of} {axis.option}')}",
        f"{axis.of}: {axis.option}" if axis.of else axis.option,
        tuple(chart for metric, chart in charts if metric.criterion),
        tuple(chart for metric, chart in charts if not metric.criterion),
        members,
    )


def _chart(study: Study, sweep: swept.Sweep, one: swept.SweptMetric) -> SweptChart:
    label, axis, metric, of = sweep.recipe, sweep.axis, one.metric, one.of
    criterion = metric.criterion
    limit = (criterion.threshold, bound(criterion)) if isinstance(criterion, Absolute) else None
    drawn = [
        Curve(short(line.label, 56), tuple((point.option, point.values.mean, point.interval) for point in line.points))
        for line in one.lines
    ]
    height, shapes = curves(drawn, axis.label, limit)
    whose = f" of {of}" if of else ""
    head = f"{metric.judged_symbol}{whose} over {axis.label}, {label}"
    notes = f"Means over seeds with intervals at {percent(study.confidence)}."
    file = slug(f"{label} {of or ''} {metric.name}")
    told = f": {len(drawn)} curves, the values stand in the table of raw values."
    chart = Chart(file, height, shapes, head, told, notes)
    return SweptChart(label, of or "", metric.judged_symbol, metric.title, chart)
