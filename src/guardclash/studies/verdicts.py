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
from guardclash.studies.study import Cell, Named, Study, without


def verdicts(study: Study, results: Results) -> tuple[Verdict, ...]:
    """A verdict for every combination of two or more mechanisms that a study asks for, in its order."""
    return corrected([verdict_so_far(study, results, cell)[0] for cell in judged_cells(study)], study.correction)


def judged_cells(study: Study) -> tuple[Cell, ...]:
    """The combinations that get a verdict, on each recipe."""
    return tuple(cell for cell in study.cells() if len(cell.combination) > 1 and cell.combination in study.combinations)


def verdict_so_far(study: Study, results: Results, cell: Cell) -> tuple[Verdict, int]:
    """The verdict on a combination, and the replicates that it rests on or waits for.

    Where seeds are added step by step, it is that of the first look that decides, and no later seed changes it.
    """
    for stage in study.stages():
        found = _verdict(stage, results, replace(cell, replicates=stage.together))
        if found.missing or found.outcome(study.rule) != "undecided":
            break
    return found, stage.together


def wanted(study: Study, results: Results) -> dict[str, int]:
    """Replicates that each cell needs now, by its key: all of them, unless seeds are added step by step.

    Then as many as the combinations that it serves need for their verdicts: its own, those it is a part of alone, and
    those it is the control for. Suspects follow their victims.
    """
    if study.start is None:
        return {cell.key: cell.replicates for cell in (*study.cells(), *study.suspect_cells())}
    needed = {cell.key: study.start for cell in study.cells()}
    for cell in judged_cells(study):
        _, replicates = verdict_so_far(study, results, cell)
        for served in _serving(cell):
            if served.key in needed:
                needed[served.key] = max(needed[served.key], replicates)
    for suspect in study.suspect_cells():
        needed[suspect.key] = min(suspect.replicates, needed[replace(suspect, suspect=None).key])
    return needed


def _serving(cell: Cell) -> tuple[Cell, ...]:
    """The cells that a verdict, and what is said beside it, rest on."""
    parts = [(named,) for named in cell.combination]
    controls = [without(cell.combination, named) for named in cell.combination]
    return tuple(replace(cell, combination=combination) for combination in (cell.combination, (), *parts, *controls))


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
