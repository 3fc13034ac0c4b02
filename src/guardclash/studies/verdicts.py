"""From results to verdicts."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from guardclash.errors import UserError, suggestion
from guardclash.judging.criteria import Metric
from guardclash.judging.judge import Bare, Look, judge
from guardclash.judging.judgement import Judgement
from guardclash.judging.spread import at_least
from guardclash.judging.stats import Sample
from guardclash.judging.verdict import Trainings, Verdict, corrected, judge_accuracy
from guardclash.records.cells import Cell, Named, braces, without
from guardclash.records.results import Results
from guardclash.studies.study import Study
from guardclash.words import cut


def verdicts(study: Study, results: Results) -> tuple[Verdict, ...]:
    """A verdict for every combination of two or more mechanisms that a study asks for, in its order."""
    found = [verdict_so_far(study, results, cell)[0] for cell in judged_cells(study)]
    # Only Holm's is over the whole study; one by verdict was made with each.
    return corrected(found, study.correction, study.rules) if study.correction == "holm" else tuple(found)


def judged_cells(study: Study) -> tuple[Cell, ...]:
    """The combinations that get a verdict, on each recipe."""
    return tuple(cell for cell in study.cells() if len(cell.combination) > 1 and study.asks_for(cell.combination))


def verdict_so_far(study: Study, results: Results, cell: Cell) -> tuple[Verdict, int]:
    """The verdict on a combination, and the replicates that it rests on or waits for.

    Where seeds are added step by step, it is that of the first look that decides, and no later seed changes it.
    """
    stages = study.stages()
    for stage in stages:
        look = Look((stage.alone, stage.together), study.alpha, stage is stages[-1])
        found = _verdict(stage, results, replace(cell, replicates=stage.together), look)
        if found.missing or found.settled(study.rule):
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
    parts = [(named.plain,) for named in cell.combination]
    controls = [without(cell.combination, named) for named in cell.combination]
    return tuple(replace(cell, combination=combination) for combination in (cell.combination, (), *parts, *controls))


def _verdict(study: Study, results: Results, cell: Cell, look: Look) -> Verdict:
    labels, recipe = tuple(study.label(named) for named in cell.combination), study.recipe_label(cell.recipe)
    known = results.cell(cell)
    if known and known.clash:
        return Verdict(recipe, labels, clash=cut(known.clash), cell=cell.key)
    judgements = (_accuracy(study, results, cell, look), *_own_metrics(study, results, cell, look))
    parts = [Cell(cell.recipe, (), study.alone), *(alone(cell, named, study) for named in cell.combination)]
    own, *others = (_tried(study, results, part) for part in (cell, *parts))
    complete = all(len(one.seeds) == n for one, n in ((own, look.asked[1]), *((o, look.asked[0]) for o in others)))
    verdict = Verdict(recipe, labels, judgements, trainings=(own, *others) if complete else (), cell=cell.key)
    return corrected([verdict], "verdict", study.rules)[0] if study.correction == "verdict" else verdict


def _tried(study: Study, results: Results, cell: Cell) -> Trainings:
    """Which trainings of a cell ended, and which of them in no numbers."""
    label = braces(study.label(named) for named in cell.combination)
    return Trainings(label, *results.trainings(cell, study.seeds(cell)))


def alone(cell: Cell, named: Named, study: Study) -> Cell:
    """The cell in which a mechanism of a combination is deployed alone."""
    return Cell(cell.recipe, (named.plain,), study.alone)


def sample(study: Study, results: Results, cell: Cell, of: Named | None, metric: Metric) -> Sample:
    """The replicates of a metric in a cell."""
    found = dict(results.by_seed(cell, of, metric.name, study.seeds(cell)))
    return metric.sample(found.values(), found)


def _accuracy(study: Study, results: Results, cell: Cell, look: Look) -> Judgement:
    metric = results.utility(cell)
    baselines = {
        study.label(named.plain): sample(study, results, alone(cell, named, study), None, metric)
        for named in cell.combination
    }
    together = sample(study, results, cell, None, metric)
    criterion = dict(study.criteria).get(metric.name, metric.criterion)
    return judge_accuracy(baselines, together, criterion, study.alpha, metric=metric, look=look)


def _own_metrics(study: Study, results: Results, cell: Cell, look: Look) -> list[Judgement]:
    judgements = []
    for named in cell.combination:
        declared, own = results.metrics(cell, named), alone(cell, named, study)
        for metric in declared:
            here = results.without(cell, named, metric.name, study.seeds(cell))
            there = results.without(own, named, metric.name, study.seeds(own))
            if here and (there or metric.optional):
                continue  # it has no meaning here
            _check_controls(metric, [other.name for other in declared])
            criterion = dict(study.criteria).get(metric.name, metric.criterion)
            judged = judge(
                metric,
                criterion,
                sample(study, results, own, named, metric),
                sample(study, results, cell, named, metric),
                study.alpha,
                bare=_bare(study, results, cell, named, metric),
                against=study.label(named.plain),
                look=look,
            )
            fired = _fired(study, results, cell, named, judged.metric)
            left_out = here and criterion is not None and judged.alone.n > 0  # no further run would measure it
            missing = () if left_out else judged.missing
            judgements.append(replace(judged, fired=fired, unmeasured=left_out, missing=missing))
    return judgements


def _bare(study: Study, results: Results, cell: Cell, named: Named, metric: Metric) -> Bare:
    """A mechanism's metric on the unprotected model, unless it has no meaning there, and on the others together."""
    unprotected = Cell(cell.recipe, (), study.alone)
    if results.without(unprotected, named, metric.name, study.seeds(unprotected)):
        return Bare()
    absent = control(study, cell, named)
    return Bare(
        sample(study, results, unprotected, named, metric),
        sample(study, results, absent, named, metric) if absent else None,
    )


def control(study: Study, cell: Cell, named: Named) -> Cell | None:
    """The same combination without one of its mechanisms, with no more replicates; None if the study lacks it."""
    found = study.cell(cell.recipe, without(cell.combination, named))
    return found and replace(found, replicates=min(found.replicates, cell.replicates))


def judged_sample(study: Study, results: Results, cell: Cell, of: Named | None, metric: Metric) -> Sample:
    """The replicates of a metric as it is judged: of a net one what its mechanism adds, nothing where it is absent."""
    found = sample(study, results, cell, of, metric)
    if of is None or not metric.net:
        return found
    bare = control(study, cell, of) if of.plain in [named.plain for named in cell.combination] else None
    return found.minus(sample(study, results, bare, of, metric)) if bare else Sample()


def _fired(study: Study, results: Results, cell: Cell, of: Named, metric: Metric) -> tuple[str, ...]:
    """The controls of a metric that make its claim, in the combination or in its mechanism alone, not just by chance.

    A claim at a p-value of 1e-3 is made by one innocent model in a thousand: the more of them are tested, the more
    often one fires although the test is sound. So as many must fire as chance leaves to alpha. Where a claim is no
    p-value its chance is not known, and one suffices.
    """
    places = (cell, alone(cell, of, study))
    values = {
        control: [value for where in places for value in results.values(where, of, control, study.seeds(where))]
        for control in metric.controls
    }
    fired = {control: sum(map(metric.claims, found)) for control, found in values.items()}
    bound = metric.claimed_at
    chance = 10.0**bound.threshold if bound is not None and metric.log10 else 0.0
    by_chance = at_least(sum(fired.values()), sum(map(len, values.values())), chance)
    return tuple(control for control, times in fired.items() if times) if by_chance < study.alpha else ()


def _check_controls(metric: Metric, declared: Collection[str]) -> None:
    """A misspelt control is never measured, so it never fires: that would pass for evidence."""
    for control in metric.controls:
        if control not in declared:
            raise UserError("no such control", where=metric.name, got=control, mend=suggestion(control, declared))
