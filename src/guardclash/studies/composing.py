"""From a study's names to the plans and measures of its cells."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from guardclash.compose import Clash, compose
from guardclash.data.catalog import find_dataset
from guardclash.data.contents import content
from guardclash.data.own.task import OwnTask
from guardclash.errors import UserError, suggestion
from guardclash.mechanism import Mechanism
from guardclash.plan.deployed import Deployed
from guardclash.plan.identity import nested, substituted
from guardclash.plan.owned import owned, set_apart
from guardclash.plan.plan import Plan
from guardclash.plan.sources import Split
from guardclash.records.cells import Cell, Named, Sequel
from guardclash.registry import adopt_tasks, find_mechanism, find_mechanisms
from guardclash.studies.build import build_measure, build_mechanism, build_recipe, build_suspect, build_utility
from guardclash.studies.study import Study
from guardclash.studies.trials import Asked, ComposedCell, serving
from guardclash.studies.verification import Verification
from guardclash.tasks.own import open_task
from guardclash.tasks.recipe import Recipe


def compose_study(study: Study, data_folder: Path | None = None) -> tuple[ComposedCell, ...]:
    """Every cell of a study with its plan.

    The unprotected model is measured by every mechanism of the study, and what a mechanism joins is measured by it as
    well: what a model without a mark scores is its false-positive level.

    Args:
        study: The study.
        data_folder: Where its data lie. What is not the content that a data set is known for becomes part of every plan
            and measurement that reads it, and so of their keys. None: nobody looks.

    Raises:
        UserError: If a mechanism, data set or option is unknown or out of range, or `on` names a stream that never is.
    """
    study = opened(study)
    for _, under in study.readings:
        for name, dataset, _ in under:  # a misspelt one would be without effect
            if name != "recipe":
                find_mechanism(name, study.plugins)
            if dataset:
                _check_dataset(dataset, study)
    for dataset in {note.dataset for note in study.notes} - {None}:
        _check_dataset(str(dataset), study)  # named here or not: notes may stand in a file that several studies extend
    composed = [_protected(study, cell) for cell in study.cells()]
    composed += [_suspected(study, cell) for cell in study.suspect_cells()]
    _check_criteria(study, composed)
    return tuple(composed if data_folder is None else (_on_data(entry, data_folder) for entry in composed))


def opened(study: Study) -> Study:
    """A study whose own tasks are open and known by name in this process; one that is open stays as it is.

    Raises:
        UserError: If a plugin, or the data or the network of a task, cannot be used.
    """
    find_mechanisms(study.plugins)  # first of all: they may bring tasks
    tasks = tuple(open_task(task) if isinstance(task, OwnTask) else task for task in study.tasks)
    adopt_tasks(tasks)
    return replace(study, tasks=tasks)


def _check_dataset(name: str, study: Study) -> None:
    """Refuses a name that no data set has, of the study or built in."""
    if name not in {task.data.label for task in study.tasks}:
        find_dataset(name)


def _on_data(entry: ComposedCell, folder: Path) -> ComposedCell:
    """The cell with the content of the data that it reads."""

    def found(part: Any) -> Any:
        return (
            replace(part, content=content(find_dataset(part.dataset), part.split, folder))
            if isinstance(part, Split)
            else part
        )

    names = "combination", "plan", "measures"
    return replace(entry, **{name: substituted(getattr(entry, name), found) for name in names})


def unusual_data(composed: Iterable[ComposedCell]) -> tuple[str, ...]:
    """What of the data is not what a data set is known for, in words."""
    read = (nested((entry.plan, entry.combination, entry.measures), Split) for entry in composed)
    found = {(one.dataset, one.split, one.content): None for splits in read for one in splits if one.content}
    return tuple(
        f"{dataset}, {split} split: not the official data; results on them are kept under their content, {content}."
        for dataset, split, content in found
    )


def _protected(study: Study, cell: Cell) -> ComposedCell:
    base = build_recipe(cell.recipe, study)
    combination = _bound(cell.combination, cell.recipe, base, study)
    measures: list[tuple[Named | None, Asked]] = [(None, build_utility(base, study))]
    measuring = study.measured_in(cell)
    bound = zip(measuring, _bound(measuring, cell.recipe, base, study), strict=True)
    fitting = [
        (named, one) for named, mechanism in bound if mechanism.fits(base.plan()) for one in mechanism.measures()
    ]
    measures += [(named, one) for named, one in fitting if one.metrics]
    measures += [(named, build_measure(named, study, base)) for named in study.measures]
    # Others are parts of one that is asked for: an `on` may name a stream that only the whole has.
    asked = study.asks_for(cell.combination)
    plan, clash = _sequence(base, cell.combination, combination, partial=not asked)
    return ComposedCell(cell, base, combination, plan, clash, tuple(study.seeds(cell)), tuple(measures))


def _suspected(study: Study, cell: Cell) -> ComposedCell:
    """A suspect's training, measured by every mechanism of the victim that proves ownership."""
    base, asked = build_recipe(cell.recipe, study), cell.suspect
    if asked is None:
        raise ValueError("not a suspect's cell")
    combination, own = (_bound(names, cell.recipe, base, study) for names in (cell.combination, asked.mechanisms))
    owners = [pair for pair in zip(cell.combination, combination, strict=True) if proves_ownership(pair[1])]
    if not owners:
        names = [named.name for named in cell.combination]
        raise UserError(
            "no mechanism of the victim proves ownership, so nobody is suspected", where="suspects", got=names
        )
    suspect = build_suspect(asked.kind, study)
    owned_by, clash = _sequence(base, cell.combination, combination, partial=False)
    victim = Deployed(owned_by, serving(combination)) if owned_by else None
    plan = None
    if victim:
        own += _marks(base, combination) if suspect.overwrites else ()
        # A party with mechanisms of its own trains as long as a protected model does.
        plan, clash = _composed(suspect.plan(victim, base.plan(protected=bool(own))), own)
        if plan and plan.epochs == 0 and own and plan != suspect.plan(victim, base.plan(protected=True)):
            plan, clash = None, "nothing is trained of it, so that its mechanisms would be without effect"
        if suspect.overwrites and not own:
            plan, clash = None, "the victim bears no mark that could be overwritten"
    measures: list[tuple[Named | None, Asked]] = [(None, build_utility(base, study))]
    if victim:
        measures += [(named, Verification(owner, victim)) for named, owner in owners]
    seeds = tuple(study.seeds(cell))
    return ComposedCell(cell, base, own, plan, clash, seeds, tuple(measures), suspect.stolen)


def proves_ownership(mechanism: Mechanism) -> bool:
    """Whether a mechanism can tell of a suspect model that it comes from a victim."""
    return type(mechanism).verify is not Mechanism.verify


def _bound(names: Iterable[Named], recipe: Named, base: Recipe, study: Study) -> tuple[Mechanism, ...]:
    """Mechanisms with their options in the recipe's reading, for the recipe's task."""
    return tuple(build_mechanism(study.read(named, recipe), study).bind(base.plan()) for named in names)


def _marks(base: Recipe, combination: tuple[Mechanism, ...]) -> tuple[Mechanism, ...]:
    """The mechanisms that prove ownership by what they put into the training: examples, or losses."""
    plan = base.plan()

    def marks(one: Mechanism) -> bool:
        return one.data(plan) != plan or any(one.objective(stream, plan) != stream for stream in plan.streams)

    return tuple(one for one in combination if proves_ownership(one) and marks(one))


def _composed(plan: Plan, own: tuple[Mechanism, ...]) -> tuple[Plan | None, str | None]:
    """A suspect's training under its party's own mechanisms, which draw that party's secrets."""
    try:
        composed = compose(plan, own)
        if [one.source for one in composed.streams] == [one.source for one in plan.streams]:
            return composed, None
        apart = set_apart(plan)  # what the victim has answered, and whom nobody marked, stay as they are
        return owned(compose(apart, own), apart), None
    except Clash as clash:
        return None, str(clash)


def _check_criteria(study: Study, composed: Iterable[ComposedCell]) -> None:
    measures = [measure for entry in composed for _, measure in entry.measures]
    metrics = {metric.name: metric for measure in measures for metric in measure.metrics}
    for metric in metrics.values():
        for control in metric.controls:
            if control not in metrics:
                raise UserError(f"the control {control!r} is not measured", where=f"metric {metric.name}")
    for name, criterion in study.criteria:
        if name not in metrics:
            raise UserError(f"no metric {name!r} is measured", where="criteria", mend=suggestion(name, metrics))
        dataclasses.replace(metrics[name], criterion=criterion)  # refuses what does not suit the metric


def _compose(
    unchanged: Plan, training: Plan, combination: tuple[Mechanism, ...], partial: bool
) -> tuple[Plan | None, str | None]:
    """A training under mechanisms, or why there is none; where they leave it alone, what there is without them."""
    try:
        composed = compose(training, combination, partial=partial)
    except Clash as clash:
        return None, str(clash)
    # So what changes no training, such as a fingerprint, shares the model that is there without it.
    return (unchanged if composed == training else composed), None


def _sequence(
    base: Recipe, named: tuple[Named, ...], combination: tuple[Mechanism, ...], partial: bool
) -> tuple[Plan | None, str | None]:
    """The plan of mechanisms that come at once or one after another, or why there is none."""
    plan: Plan | None = None
    for later in sorted({one.later for one in named}, key=lambda later: later.place if later else 0):
        group = tuple(one for one, name in zip(combination, named, strict=True) if name.later == later)
        further = base.plan(protected=True) if plan is None or later is None else _further(base, plan, later)
        unchanged = base.plan() if plan is None else plan
        plan, clash = _compose(unchanged, further, group, partial)
        if plan is None:
            return None, clash
        if not partial:
            _check_on(plan, group)
    return plan or base.plan(), None


def _further(base: Recipe, before: Plan, later: Sequel) -> Plan:
    """The recipe's training once more, on the weights that another one left."""
    plan = base.plan(protected=True)
    optimizer: Any = plan.optimizer
    return replace(
        plan,
        model=before.model,
        initial=before,
        epochs=later.epochs or plan.epochs,
        optimizer=replace(optimizer, learning_rate=later.learning_rate * optimizer.learning_rate),
    )


def _check_on(plan: Plan, combination: Iterable[Mechanism]) -> None:
    names = [stream.name for stream in plan.streams]
    for mechanism in combination:
        wrong = next((name for name in mechanism.on or () if name not in names), None)
        if wrong:
            raise UserError(
                f"there is no stream {wrong!r} for {mechanism.name}",
                where="on",
                mend=suggestion(wrong, names),
            )
