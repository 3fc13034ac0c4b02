"""From results to verdicts."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace

from guardclash.errors import UserError, suggestion
from guardclash.judging.criteria import ACCURACY, Metric
from guardclash.judging.judgement import Judgement, judge
from guardclash.judging.stats import Sample
from guardclash.judging.verdict import Verdict, corrected, judge_accuracy
from guardclash.studies.results import Results
from guardclash.studies.study import Cell, Named, Study


def verdicts(study: Study, results: Results) -> tuple[Verdict, ...]:
    """A verdict for every combination of two or more mechanisms that a study asks for, in its order."""
    asked = [cell for cell in study.cells() if len(cell.combination) > 1 and cell.combination in study.combinations]
    return corrected([_verdict(study, results, cell) for cell in asked], study.correction)


def _verdict(study: Study, results: Results, cell: Cell) -> Verdict:
    labels = tuple(study.label(named) for named in cell.combination)
    known = results.cell(cell)
    clash = known["clash"] if known else None
    judgements = () if clash else (_accuracy(study, results, cell), *_own_metrics(study, results, cell))
    return Verdict(study.recipe_label(cell.recipe), labels, judgements, clash)


def alone(cell: Cell, named: Named, study: Study) -> Cell:
    """The cell in which a mechanism of a combination is deployed alone."""
    return Cell(cell.recipe, (named,), study.alone)


def sample(study: Study, results: Results, cell: Cell, of: Named | None, metric: Metric) -> Sample:
    """The replicates of a metric in a cell."""
    return metric.sample(results.values(cell, of, metric.name, study.seeds(cell)))


def _accuracy(study: Study, results: Results, cell: Cell) -> Judgement:
    metric = next(iter(results.metrics(cell, None)), ACCURACY)
    baselines = {
        study.label(named): sample(study, results, alone(cell, named, study), None, metric)
        for named in cell.combination
    }
    together = sample(study, results, cell, None, metric)
    criterion = dict(study.criteria).get(metric.name, metric.criterion)
    counts = (study.alone, cell.replicates)
    return judge_accuracy(baselines, together, criterion, study.alpha, metric=metric, asked=counts)


def _own_metrics(study: Study, results: Results, cell: Cell) -> list[Judgement]:
    judgements = []
    for named in cell.combination:
        declared = results.metrics(cell, named)
        for metric in declared:
            if results.without(cell, named, metric.name, study.seeds(cell)):
                continue
            criterion = dict(study.criteria).get(metric.name, metric.criterion)
            judged = judge(
                metric,
                criterion,
                sample(study, results, alone(cell, named, study), named, metric),
                sample(study, results, cell, named, metric),
                study.alpha,
                against=study.label(named),
                asked=(study.alone, cell.replicates),
            )
            _check_controls(metric, [other.name for other in declared])
            judgements.append(replace(judged, fired=_fired(study, results, cell, named, judged.metric)))
    return judgements


def _fired(study: Study, results: Results, cell: Cell, of: Named, metric: Metric) -> tuple[str, ...]:
    """The controls of a metric that make its claim in any replicate of the combination, or of its mechanism alone."""

    def values(control: str) -> Iterator[float]:
        for where in (cell, alone(cell, of, study)):
            yield from results.values(where, of, control, study.seeds(where))

    return tuple(control for control in metric.controls if any(map(metric.claims, values(control))))


def _check_controls(metric: Metric, declared: Collection[str]) -> None:
    """A misspelt control is never measured, so it never fires: that would pass for evidence."""
    for control in metric.controls:
        if control not in declared:
            raise UserError("no such control", where=metric.name, got=control, mend=suggestion(control, declared))
