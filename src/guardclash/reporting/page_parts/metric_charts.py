"""Each metric of a combination as a chart: alone and together by seed, the difference, the limit."""

from __future__ import annotations

import math
from dataclasses import dataclass

from guardclash.judging.criteria import Absolute, Metric
from guardclash.judging.judgement import Judgement
from guardclash.judging.rules import Rule
from guardclash.judging.verdict import Verdict
from guardclash.records.cells import Cell, Named, braces
from guardclash.reporting.controls import Control
from guardclash.reporting.page_parts.charts import Chart
from guardclash.reporting.page_parts.strips import Arm, Guide, arm, strip
from guardclash.reporting.page_parts.words import look, slug
from guardclash.reporting.tables import limit, number, percent, summary
from guardclash.studies.study import Study


@dataclass(frozen=True)
class MetricChart:
    """A metric's chart with its caption."""

    symbol: str
    title: str
    """What the metric is, in words."""
    outcome: str
    """Of the metric in this combination, under the page's rule."""
    against: str
    """Whose own values stand beside those of the combination."""
    chart: Chart


def judged_charts(study: Study, cell: Cell, verdict: Verdict, rule: Rule) -> tuple[MetricChart, ...]:
    """A chart for every metric of a combination that has a value.

    Args:
        study: What was asked.
        cell: The combination on its recipe.
        verdict: What is known of it.
        rule: Whose outcomes are shown.
    """
    by_label = {study.label(named.plain): named for named in cell.combination}
    found = []
    for position, judgement in enumerate(verdict.judgements):
        of = by_label.get(judgement.against) if position else None  # accuracy comes first and is nobody's own
        if any(math.isfinite(sample.mean) for sample in (judgement.alone, judgement.together)):  # nothing there, or ∞
            found.append(_judged(study, (cell, of), judgement, rule))
    return tuple(found)


def _judged(study: Study, place: tuple[Cell, Named | None], judgement: Judgement, rule: Rule) -> MetricChart:
    cell, of = place
    metric, outcome = judgement.metric, judgement.outcome(rule)
    looks = ("alone", judgement.alone, "plain"), ("together", judgement.together, look(outcome))
    arms = [
        arm(name, sample, judgement.alpha, number(metric, sample.mean), style)
        for name, sample, style in looks
        if math.isfinite(sample.mean)
    ]
    difference = _difference(judgement, outcome) if len(arms) > 1 else []
    arms += difference
    head = (
        f"{judgement.symbol}, {study.recipe_label(cell.recipe)} {braces(map(study.label, cell.combination))}: {outcome}"
    )
    told = f". Alone ({judgement.against}) {summary(metric, judgement.alone)}, together "
    told += f"{summary(metric, judgement.together)}, limit: {limit(metric)}."
    height, shapes = strip(arms, _guide(judgement), judgement.alone.mean if difference else None)
    chart = Chart(_file(metric, of), height, shapes, head, told, _notes(study, metric))
    return MetricChart(judgement.symbol, metric.title, outcome, judgement.against, chart)


def _difference(judgement: Judgement, outcome: str) -> list[Arm]:
    """On the scale of the values, 0 at the mean alone, so that it can be held against limit and band."""
    if judgement.metric.criterion is None or isinstance(judgement.metric.criterion, Absolute):
        return []
    value, ends, zero = judgement.difference, judgement.interval, judgement.alone.mean
    if value is None:
        return []
    text = f"{'+' if value > 0 else ''}{number(judgement.metric, value)}".replace("-", "−")
    # Not the mean together: of a paired metric, the difference is of the seeds that both have.
    return [Arm("difference", (), zero + value, ends and (zero + ends[0], zero + ends[1]), text, look(outcome))]


def _guide(judgement: Judgement) -> Guide | None:
    """The limit; the band around the mean alone that counts as equivalent, or all that a fixed bound admits."""
    metric, threshold, zero = judgement.metric, judgement.threshold, judgement.alone.mean
    if threshold is None or metric.criterion is None:
        return None
    if isinstance(metric.criterion, Absolute):
        return _bound(metric, threshold)
    worst = zero - threshold if metric.higher_is_better else zero + threshold
    return Guide(worst, f"limit {number(metric, worst)}", (zero - threshold, zero + threshold))


def _bound(metric: Metric, threshold: float) -> Guide:
    band = (threshold, math.inf) if metric.higher_is_better else (-math.inf, threshold)
    return Guide(threshold, f"limit {threshold:g}", band)


def _notes(study: Study, metric: Metric) -> str:
    lines = f"Dots are seeds, diamonds means, bars intervals at {percent(study.confidence)}."
    if metric.criterion is None:
        return lines
    if isinstance(metric.criterion, Absolute):
        return f"{lines} Solid line: the limit; shaded: what it admits."
    band = "Solid line: the limit; shaded: equivalent to alone; dotted: the mean alone, where the difference is 0."
    return f"{lines} {band}"


def _file(metric: Metric, of: Named | None) -> str:
    return "-".join(filter(None, (slug(of.name if of else ""), slug(metric.name))))


def single_chart(study: Study, of: Named | None, found: Control) -> MetricChart | None:
    """A metric of a mechanism deployed alone, beside that of the unprotected model; arguments as `judged_charts`."""
    metric, rows = found.metric, (("unprotected", found.absent), ("protected", found.present))
    arms = [
        arm(name, values, study.level, number(metric, values.mean))
        for name, values in rows
        if math.isfinite(values.mean)
    ]
    if not arms:
        return None
    criterion = None if metric.net else metric.criterion  # a net one has its limit above the unprotected model
    guide = _bound(metric, criterion.threshold) if isinstance(criterion, Absolute) else None
    head = f"{metric.symbol}, {found.recipe} {braces(found.combination)}"
    told = f". Unprotected {summary(metric, found.absent)}, protected {summary(metric, found.present)}."
    height, shapes = strip(arms, guide, None)
    notes = f"Dots are seeds, diamonds means, bars intervals at {percent(study.confidence)}."
    chart = Chart(_file(metric, of), height, shapes, head, told, notes)
    return MetricChart(metric.symbol, metric.title, "", "", chart)
