"""Everything about one combination on one recipe, prepared for its section of the page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from markupsafe import Markup

from guardclash.judging.criteria import Metric
from guardclash.judging.judgement import Judgement
from guardclash.judging.rules import Rule
from guardclash.judging.verdict import Verdict
from guardclash.records.cells import Cell, Named, braces
from guardclash.records.results import UNKNOWN
from guardclash.reporting.claims import victims
from guardclash.reporting.controls import Control
from guardclash.reporting.findings import Findings
from guardclash.reporting.page_parts.accounts import (
    alone_sentence,
    effort_of,
    facts_of,
    verdict_sentences,
    warnings_of,
)
from guardclash.reporting.page_parts.claim_tables import ClaimTable, claim_tables
from guardclash.reporting.page_parts.learning import learning_charts
from guardclash.reporting.page_parts.lines import LineChart
from guardclash.reporting.page_parts.metric_charts import MetricChart, judged_charts, single_chart
from guardclash.reporting.page_parts.pictures import Exhibit, exhibits
from guardclash.reporting.page_parts.plan_tree import PlanTree, plan_tree
from guardclash.reporting.page_parts.recorded import recorded_charts
from guardclash.reporting.page_parts.sweeps import SweepSection
from guardclash.reporting.sentences import decisive, lacking
from guardclash.reporting.tables import failing, limit, number, p_value, summary
from guardclash.studies.study import Study


@dataclass(frozen=True)
class Statistic:
    """A metric of a combination: a row of its table."""

    symbol: str
    title: str
    alone: str
    together: str
    difference: str
    limit: str
    failing: str
    """How many seeds together break the limit by themselves."""
    tests: tuple[tuple[str, str], ...]
    """p-values that the rules look at, in the order of `TESTS`, and each before a correction where that differs."""
    outcomes: tuple[str, ...]
    """Under the page's rule and the one beside it."""
    needed: int | None
    """Replicates in each arm that would probably decide where the strict rule cannot."""


TESTS = ("difference", "equivalence", "noninferior", "inferior")
"""Fields of `PValues`, in the order of the columns."""


@dataclass(frozen=True)
class Comparison:
    """A metric with a mechanism and without it."""

    metric: str
    mechanism: str
    title: str
    present: str
    absent: str
    difference: str


@dataclass(frozen=True)
class Detail:
    """A section of the page."""

    id: str
    recipe: str
    combination: str
    outcome: str
    """Of the combination under the page's rule; "no verdict" of a mechanism deployed alone."""
    other: str
    """Under the other rule; empty without a verdict."""
    because: tuple[tuple[str, str], ...]
    """Symbols of the metrics that its outcome rests on, and what they did: "0.97 → 0.35"."""
    needed: int | None
    """More seeds that would probably decide what is undecided."""
    sentences: tuple[Markup, ...]
    missing: tuple[str, ...]
    charts: tuple[MetricChart, ...]
    """Of judged metrics."""
    reported: tuple[MetricChart, ...]
    statistics: tuple[Statistic, ...]
    comparisons: tuple[Comparison, ...]
    remarks: tuple[tuple[str, str], ...]
    """Symbols of metrics, and what the study says of their published numbers."""
    claims: tuple[ClaimTable, ...]
    recorded: tuple[LineChart, ...]
    """Curves of suspects."""
    exhibits: tuple[Exhibit, ...]
    losses: tuple[LineChart, ...]
    """By epoch."""
    facts: tuple[tuple[str, str, str], ...]
    """Mechanism, what is said of it, and its value."""
    warnings: tuple[tuple[str, str], ...]
    """What is warned of, and under which seeds."""
    effort: str
    """Seeds and times."""
    plan: PlanTree | None
    sweeps: tuple[SweepSection, ...]


def asked(study: Study) -> tuple[Cell, ...]:
    """The combinations that a study asks for on each recipe, those of two or more mechanisms first."""
    return tuple(sorted(victims(study), key=lambda cell: len(cell.combination) == 1))


def detail(found: Findings, swept: Sequence[SweepSection], cell: Cell, id: str) -> Detail:
    """All that is known of a combination.

    Args:
        found: What the study says.
        swept: The sweeps of the page.
        cell: The combination on its recipe.
        id: The address of its section.
    """
    study, results, place = found.study, found.results, found.labels(cell)
    verdict = found.by_cell.get(cell.key)
    entry = results.cell(cell) or UNKNOWN
    bare = Cell(cell.recipe, (), study.alone)
    charts = judged_charts(study, cell, verdict, found.rule) if verdict else _single(found, cell)
    judged = [chart for chart in charts if chart.outcome != "reported"]
    return Detail(
        id=id,
        recipe=place[0],
        combination=braces(place[1]),
        outcome=verdict.outcome(found.rule) if verdict else "clash" if entry.clash else "no verdict",
        other=verdict.outcome(study.rules[1]) if verdict else "",
        because=because(verdict, found.rule) if verdict else (),
        needed=lacking(verdict, found.rule) if verdict else None,
        sentences=tuple(verdict_sentences(study, verdict, found.rule)) if verdict else alone_sentence(entry),
        missing=verdict.missing if verdict else (),
        charts=tuple(judged),
        reported=tuple(chart for chart in charts if chart not in judged),
        statistics=tuple(_statistic(one, study.rules) for one in verdict.judgements) if verdict else (),
        comparisons=tuple(_comparison(one) for one in _compared(found, cell)),
        remarks=tuple(_remarks(study, cell, verdict)) if verdict else (),
        claims=claim_tables(one for one in found.claims if (one.recipe, one.combination) == place),
        recorded=recorded_charts(study, results, cell),
        exhibits=exhibits(study, results, cell),
        losses=learning_charts(study, results, cell),
        facts=facts_of(entry),
        warnings=tuple(warnings_of(entry, study.seeds(cell))),
        effort=effort_of(entry, study.seeds(cell)),
        plan=plan_tree(entry, results.cell(bare)),
        sweeps=tuple(sweep for sweep in swept if cell.key in sweep.members),
    )


def because(verdict: Verdict, rule: Rule) -> tuple[tuple[str, str], ...]:
    """The metrics that an outcome rests on, and what they did; of a compatible one the nearest to its limit."""
    rests = [one for one in decisive(verdict, rule) if one.alone.n]
    if verdict.outcome(rule) == "compatible":
        rests = sorted(rests, key=_used_up)[-1:]
    return tuple((one.symbol, _change(one)) for one in rests)


def _used_up(one: Judgement) -> float:
    """How much of what may be lost is lost."""
    return (one.drop or 0.0) / one.threshold if one.threshold else 0.0


def _change(one: Judgement) -> str:
    alone = number(one.metric, one.alone.mean)
    return f"{alone} → {number(one.metric, one.together.mean)}" if one.together.n else alone


def _remarks(study: Study, cell: Cell, verdict: Verdict) -> Iterator[tuple[str, str]]:
    for one in verdict.judgements:
        yield from ((one.metric.symbol, note.text) for note in study.notes if note.about(cell, one.metric.name))


def _statistic(one: Judgement, rules: tuple[Rule, Rule]) -> Statistic:
    metric = one.metric
    decisive, before = one.decisive(rules[0]), one.raw
    pairs = ((getattr(decisive, test), getattr(before, test)) for test in TESTS)
    tests = tuple((p_value(p), p_value(raw) if p != raw else "") for p, raw in pairs)
    others = "".join(f"; {name} {number(metric, mean)}" for name, mean in one.others)
    title = f"{metric.title}; alone: {one.against}, the lowest{others}" if others else metric.title
    return Statistic(
        one.symbol,
        title,
        summary(metric, one.alone),
        summary(metric, one.together),
        _spread(one.metric, one.difference, one.interval),
        limit(metric),
        failing(one),
        tests,
        tuple(one.outcome(rule) for rule in rules),
        one.replicates_needed if one.outcome("strict") == "undecided" else None,  # advice for that rule only
    )


def _spread(metric: Metric, value: float | None, ends: tuple[float, float] | None) -> str:
    return number(metric, value) + (f" [{number(metric, ends[0])}, {number(metric, ends[1])}]" if ends else "")


def _compared(found: Findings, cell: Cell) -> Iterator[Control]:
    """Each metric with and without its mechanism; of a mechanism alone all that is measured, accuracy first."""
    place = found.labels(cell)
    # Not from the findings, which leave out the utility and mechanisms that change no model.
    if len(cell.combination) == 1:
        return (one for _, one in _measured_alone(found, cell) if one.present.n)
    return (one for one in found.controls if (one.recipe, one.combination) == place)


def _measured_alone(found: Findings, cell: Cell) -> Iterator[tuple[Named | None, Control]]:
    """Every metric of a mechanism deployed alone, and of the unprotected model."""
    study, place = found.study, found.labels(cell)
    bare, criteria = Cell(cell.recipe, (), study.alone), dict(study.criteria)
    for of in (None, *cell.combination):
        for declared in found.results.metrics(cell, of):
            # A mechanism alone is not judged, but its chart shows the fixed bound of its combinations.
            metric = replace(declared, criterion=criteria.get(declared.name, declared.criterion))
            present, absent = (found.sample(where, of, metric) for where in (cell, bare))
            yield of, Control(*place, study.label(of) if of else "", metric, present, absent, study.level)


def _comparison(one: Control) -> Comparison:
    metric = one.metric
    whose = one.mechanism or "the test images"
    difference = _spread(metric, one.difference, one.interval)
    return Comparison(
        metric.symbol, whose, metric.title, summary(metric, one.present), summary(metric, one.absent), difference
    )


def _single(found: Findings, cell: Cell) -> tuple[MetricChart, ...]:
    drawn = []
    for of, control in _measured_alone(found, cell):
        chart = single_chart(found.study, of, control)
        if chart:
            drawn.append(replace(chart, outcome="" if control.metric.criterion else "reported"))
    return tuple(drawn)
