"""From a study's names to plans: what is trained and what is measured on it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Protocol, TypeVar

from pydantic import TypeAdapter, ValidationError

from guardclash.compose import Clash, compose
from guardclash.errors import UserError, suggestion
from guardclash.judging.criteria import ACCURACY, Metric
from guardclash.mechanism import Mechanism
from guardclash.plan.identity import fingerprint, parts
from guardclash.plan.plan import Context, OtherSeed, Plan
from guardclash.plan.sources import Split
from guardclash.registry import find_mechanism
from guardclash.studies.recipes import Recipe, recipe
from guardclash.studies.study import Cell, Named, Study
from guardclash.training.trained import Trained, accuracy

T = TypeVar("T")


class Measure(Protocol):
    """What a probe asks of a trained model: a mechanism, or the accuracy that every model has."""

    metrics: ClassVar[tuple[Metric, ...]]

    def needs(self, plan: Plan) -> tuple[Plan | OtherSeed, ...]:
        """Other trainings that it reads."""

    def measure(self, trained: Trained, context: Context) -> dict[str, float]:
        """Metrics by name."""

    def warnings(self, metrics: Mapping[str, float]) -> tuple[str, ...]:
        """What these values warn of."""


@dataclass(frozen=True)
class TestAccuracy:
    """phi_ACC on the test set (equation 1)."""

    __test__: ClassVar[bool] = False  # not a test, whatever pytest thinks of the name
    metrics: ClassVar[tuple[Metric, ...]] = (ACCURACY,)

    test: Split

    def needs(self, plan: Plan) -> tuple[Plan, ...]:
        """Nothing."""
        return ()

    def measure(self, trained: Trained, context: Context) -> dict[str, float]:
        """The accuracy, in [0, 1]."""
        x, y = context.data(self.test)
        return {ACCURACY.name: accuracy(trained.predict, x, y)}

    def warnings(self, metrics: Mapping[str, float]) -> tuple[str, ...]:
        """Nothing."""
        return ()


@dataclass(frozen=True)
class Trial:
    """One training: a plan and a seed."""

    plan: Plan
    seed: int

    @cached_property
    def key(self) -> str:
        """The name of its result in the store."""
        return f"{fingerprint(self.plan)}-{self.seed}"


@dataclass(frozen=True)
class Probe:
    """One measurement of one trial."""

    trial: Trial
    measure: Measure
    serving: tuple[Mechanism, ...] = ()
    """The mechanisms through which the model answers, those of its combination that act at inference."""

    @cached_property
    def key(self) -> str:
        """The name of its result in the store."""
        return f"{fingerprint(self.trial.plan, self.measure, self.serving)}-{self.trial.seed}"


@dataclass(frozen=True)
class ComposedCell:
    """A cell of a study with its plan, or the clash that there is instead."""

    cell: Cell
    recipe: Recipe
    combination: tuple[Mechanism, ...]
    plan: Plan | None
    clash: str | None
    seeds: tuple[int, ...]
    measures: tuple[tuple[Named | None, Measure], ...]
    """What is measured here, with the mechanism's name in the study (None: accuracy)."""

    def trials(self) -> tuple[Trial, ...]:
        """One trial per seed; none for a clash."""
        return tuple(Trial(self.plan, seed) for seed in self.seeds) if self.plan else ()

    def probes(self, trial: Trial) -> tuple[Probe, ...]:
        """All measurements of one of its trials."""
        return tuple(Probe(trial, measure, self.serving()) for _, measure in self.measures)

    def serving(self) -> tuple[Mechanism, ...]:
        """The mechanisms that act at inference."""
        return tuple(mechanism for mechanism in self.combination if type(mechanism).serve is not Mechanism.serve)


def compose_study(study: Study) -> tuple[ComposedCell, ...]:
    """Every cell of a study with its plan.

    The unprotected model is measured by every mechanism of the study, and what a mechanism joins is measured by it as
    well: what a model without a mark scores is its false-positive level.

    Raises:
        UserError: If a mechanism, data set or option is unknown or out of range, or `on` names a stream that never is.
    """
    made = {named: build_mechanism(named, study) for named in study.mechanisms()}
    composed = []
    for cell in study.cells():
        base = build_recipe(cell.recipe)
        bound = {named: mechanism.bind(base.plan()) for named, mechanism in made.items()}
        combination = tuple(bound[named] for named in cell.combination)
        measures: list[tuple[Named | None, Measure]] = [(None, TestAccuracy(base.test()))]
        measures += [(named, bound[named]) for named in study.measured_in(cell) if bound[named].metrics]
        asked = cell.combination in study.combinations
        plan, clash = _compose(base, combination, partial=not asked)
        if plan and asked:
            _check_on(plan, combination)
        composed.append(ComposedCell(cell, base, combination, plan, clash, tuple(study.seeds(cell)), tuple(measures)))
    _check_criteria(study, composed)
    return tuple(composed)


def _check_criteria(study: Study, composed: Iterable[ComposedCell]) -> None:
    metrics = {metric.name: metric for entry in composed for _, measure in entry.measures for metric in measure.metrics}
    for name, criterion in study.criteria:
        if name not in metrics:
            raise UserError(f"no metric {name!r} is measured", where="criteria", mend=suggestion(name, metrics))
        dataclasses.replace(metrics[name], criterion=criterion)  # refuses what does not suit the metric


def _compose(base: Recipe, combination: tuple[Mechanism, ...], partial: bool) -> tuple[Plan | None, str | None]:
    """The plan, or why there is none; what leaves the training alone is the unprotected training, epochs included."""
    unprotected = base.plan()
    try:
        if compose(unprotected, combination, partial=partial) == unprotected:
            return unprotected, None
        return compose(base.plan(protected=True), combination, partial=partial), None
    except Clash as clash:
        return None, str(clash)


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


def build_recipe(named: Named) -> Recipe:
    """The recipe that a study names, its overrides checked.

    Raises:
        UserError: If a data set, a field or a value is not allowed.
    """
    options = dict(named.options)
    standard = recipe(named.name, options.pop("scale"))
    known = {field.name: getattr(standard, field.name) for field in dataclasses.fields(standard)}
    return _checked(Recipe, options, f"recipe {named.name}", known)


def build_mechanism(named: Named, study: Study) -> Mechanism:
    """The mechanism that a study names, its options checked.

    Raises:
        UserError: If the mechanism, an option or a value is not allowed.
    """
    return _checked(find_mechanism(named.name, study.plugins), dict(named.options), named.name)


def _checked(cls: type[T], options: Mapping[str, Any], where: str, known: Mapping[str, Any] | None = None) -> T:
    fields = {field.name for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for name in options:
        if name not in fields:
            raise UserError(f"unknown key {name!r}", where=where, mend=suggestion(name, fields))
    try:
        # Through JSON, where a list may become a tuple but "3" no number.
        return TypeAdapter(cls).validate_json(json.dumps({**(known or {}), **options}), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        path = ".".join([where, *(str(part) for part in first["loc"])])
        raise UserError(first["msg"][:1].lower() + first["msg"][1:], where=path, got=first["input"]) from None


def needed_trials(trial: Trial, measures: Iterable[Measure] = ()) -> tuple[Trial, ...]:
    """Every other training that must be finished before this one is measured, the innermost first, each once."""
    found: dict[str, Trial] = {}
    for value in (*parts(trial.plan), *(need for measure in measures for need in measure.needs(trial.plan))):
        found.update((needed.key, needed) for needed in _trials_in(value, trial.seed))
    return tuple(found.values())


def _trials_in(value: Any, seed: int) -> Iterator[Trial]:
    """The trainings that a part of a plan holds, the innermost first."""
    if isinstance(value, OtherSeed):
        value, seed = value.plan, value.seed(seed)
    for part in parts(value):
        yield from _trials_in(part, seed)
    if isinstance(value, Plan):
        yield Trial(value, seed)


def depth(value: Any) -> int:
    """How many trainings must come one after another before this plan, or what holds plans, can be used."""
    return max((depth(part) + isinstance(part, Plan) for part in parts(value)), default=0)
