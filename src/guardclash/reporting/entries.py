"""What a figure shows of a study: its cells, its judged metrics, and for each the seeds, the limit and the outcome."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from guardclash.judging.criteria import Absolute, Metric
from guardclash.judging.judgement import Judgement
from guardclash.judging.rules import combined
from guardclash.judging.stats import Sample, estimate_mean, interval
from guardclash.judging.verdict import Verdict
from guardclash.records.cells import Cell, Named
from guardclash.records.results import Results
from guardclash.studies.study import Study
from guardclash.studies.verdicts import judged_sample

Verdicts = Mapping[str, Verdict]
"""By the key of their cell."""


@dataclass(frozen=True)
class Column:
    """A metric of the mechanisms of one name; of None: the task's utility."""

    of: str | None
    metric: Metric


@dataclass(frozen=True)
class Entry:
    """A metric in a cell."""

    samples: tuple[Sample, ...] = ()
    """One; several of the unprotected model, where variants of a mechanism measure it differently; none where the
    metric has no meaning."""
    asked: int = 0
    """Replicates planned for each sample."""
    outcome: str = ""
    """One of `rules.OUTCOMES`, but no clash; "" of what is not judged."""
    limit: float | None = None
    """The worst admissible mean."""
    bad: int = -1
    """On which side of the limit it is broken: -1 or +1."""
    clash: bool = False
    """Whether the cell cannot be built."""
    unbounded: bool = False
    """Whether a value is inf, which cannot be drawn; there are no samples then."""

    @property
    def there(self) -> int:
        """Replicates that every sample has."""
        return min((values.n for values in self.samples), default=0)

    @property
    def note(self) -> str:
        """What must be said beside the values."""
        if self.unbounded:
            return "∞"
        if self.outcome and not self.samples:
            return self.outcome  # never measured, where it should be
        return "clash" if self.clash else f"{self.there} of {self.asked}" if self.there < self.asked else ""

    @property
    def numbers(self) -> list[float]:
        """All values, and the limit."""
        values = [value for one in self.samples for value in one.values]
        return values if self.limit is None else [*values, self.limit]


def cells_of(study: Study, recipe: Named) -> list[Cell]:
    """The cells of a recipe: unprotected, alone with variants of a mechanism side by side, combinations."""
    names = list(dict.fromkeys(named.name for named in study.mechanisms()))

    def rank(cell: Cell) -> tuple[int, int]:
        size = min(len(cell.combination), 2)
        return size, names.index(cell.combination[0].name) if size == 1 else 0

    return sorted((cell for cell in study.cells() if cell.recipe == recipe), key=rank)


def columns_of(study: Study, results: Results) -> tuple[Column, ...]:
    """The utilities of the tasks, then the metrics that have a criterion, in the order of the mechanisms."""
    criteria, cells = dict(study.criteria), study.cells()
    columns = {("", metric.name): Column(None, metric) for metric in results.utilities}
    for cell in cells:
        for named in cell.combination:
            for metric in results.metrics(cell, named):
                if criteria.get(metric.name, metric.criterion) is not None:
                    shown = replace(metric, symbol=metric.judged_symbol)  # a net metric is shown as it is judged
                    columns.setdefault((named.name, metric.name), Column(named.name, shown))
    return tuple(columns.values())


def entry_of(study: Study, results: Results, found: Verdicts, cell: Cell, column: Column) -> Entry:
    """A metric in a cell.

    Args:
        study: What was asked, under the rule whose outcome is wanted.
        results: What is measured so far.
        found: The verdicts on it.
        cell: A cell of the study.
        column: See `columns_of`.
    """
    known = results.cell(cell)
    if known and known.clash:
        return Entry(clash=True)
    owners, seeds, rule = _owners(study, results, cell, column), study.seeds(cell), study.rule
    # Equal ones once: most variants of a mechanism measure the unprotected model in the same way.
    samples = tuple(dict.fromkeys(judged_sample(study, results, cell, of, column.metric) for of in owners))
    judgement = judgement_of(study, found, cell, column)
    if judgement is not None and judgement.unmeasured:
        return Entry(outcome=judgement.outcome(rule))
    if any(one.mean == math.inf for one in samples):
        return Entry(outcome=combined([judgement.outcome(rule)]) if judgement else "", unbounded=True)
    if judgement is None or not samples:
        return Entry(samples, len(seeds) if samples else 0)  # what has no meaning here is not missing
    # The seeds that were judged: equal plans may have been trained for another combination under more of them.
    samples = (judgement.together,) if judgement.together.n else samples
    worse = -1 if column.metric.higher_is_better else 1
    return Entry(samples, len(seeds), combined([judgement.outcome(rule)]), limit_of(judgement, worse), worse)


def _owners(study: Study, results: Results, cell: Cell, column: Column) -> list[Named | None]:
    """Whose metric it is in a cell; nobody's where it has no meaning.

    Where a mechanism is not deployed its metric may have been measured as a control, which is shown once it is there.
    """
    if column.of is None:
        return [None] if column.metric.name == results.utility(cell).name else []  # or that of another task
    name, seeds = column.metric.name, study.seeds(cell)
    variants = [named for named in study.mechanisms() if named.name == column.of]
    own = [named for named in variants if named in [one.plain for one in cell.combination]]
    if column.metric.net and not own:
        return []  # what is not there adds nothing
    # Without values yet, a control is not waited for; what a deployed mechanism or the unprotected model lacks is.
    there = [named for named in own or variants if results.values(cell, named, name, seeds)]
    if there or (cell.combination and not own):
        return list(there)
    left_out = any(  # one seed tells: measured, but this metric left out
        results.without(cell, named, name, range(seed, seed + 1)) for named in own or variants for seed in seeds
    )
    return [] if left_out else list(own or variants)


def judgement_of(study: Study, found: Verdicts, cell: Cell, column: Column) -> Judgement | None:
    """The judgement of a metric in a combination; None where nothing is judged."""
    verdict = found.get(cell.key)
    if verdict is None:
        return None
    # The utility is judged first, and a mechanism's metric may have its name.
    if column.of is None:
        return next((one for one in verdict.judgements[:1] if one.metric.name == column.metric.name), None)
    own = {study.label(named.plain) for named in cell.combination if named.name == column.of}
    judged = (one for one in verdict.judgements[1:] if one.against in own)
    return next((one for one in judged if one.metric.name == column.metric.name), None)


def mean_interval(values: Sample, level: float) -> tuple[float, float] | None:
    """The interval of a mean, from which tests at a level can be read off; None of fewer than two values."""
    ends = interval(estimate_mean(values), level)
    return None if math.isnan(ends[0]) else ends


def limit_of(judgement: Judgement, worse: int) -> float | None:
    """The fixed bound; or the mean alone, moved by the largest admissible drop or growth."""
    threshold = judgement.threshold
    if threshold is None or isinstance(judgement.metric.criterion, Absolute):
        return threshold
    return judgement.alone.mean + worse * threshold
