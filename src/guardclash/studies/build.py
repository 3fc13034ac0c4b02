"""From what a study names, with options, to values: recipes, mechanisms, measures, suspects."""

from __future__ import annotations

import dataclasses
from dataclasses import replace

from guardclash.code import code_from
from guardclash.data.catalog import find_dataset
from guardclash.errors import UserError
from guardclash.measure import Measure, Utility
from guardclash.mechanism import Mechanism
from guardclash.options import built
from guardclash.records.cells import Named
from guardclash.registry import CONDITIONS, MEASURES, SUSPECTS, find, find_mechanism
from guardclash.studies.study import Study
from guardclash.suspect import Suspect
from guardclash.tasks.catalog import find_task
from guardclash.tasks.own import factory
from guardclash.tasks.recipe import Recipe, recipe


def build_recipe(named: Named, study: Study) -> Recipe:
    """The recipe that a study names, its overrides and conditions checked; the study's own tasks are open.

    Raises:
        UserError: If a data set, a field, a value or a condition is not allowed.
    """
    options, where = dict(named.options), f"recipe {named.name}"
    options.pop("reading", None)  # of mechanisms
    worlds = options.pop("conditions", ())
    own = {task.data.label: task.name for task in study.tasks}
    standard = recipe(own.get(named.name, named.name), options.pop("scale"))
    known = {field.name: getattr(standard, field.name) for field in dataclasses.fields(standard)}
    if ":" in str(options.get("model")):  # a function of somebody's own
        known["model"] = factory(code_from(options.pop("model"), study.folder), find_dataset(standard.dataset))
    found = built(type(standard), options, where, known)
    if "norm" in options and not isinstance(found.model, str):
        raise UserError("only networks of ours can be built with another norm", where=f"{where}.norm")
    made = (built(find(CONDITIONS, one.name, study.plugins), dict(one.options), one.name) for one in worlds)
    return replace(found, conditions=(*found.conditions, *made))


def build_mechanism(named: Named, study: Study) -> Mechanism:
    """The mechanism that a study names, its options checked.

    Raises:
        UserError: If the mechanism, an option or a value is not allowed.
    """
    cls = find_mechanism(named.name, study.plugins)
    return built(cls, dict(named.options), named.name, folder=study.folder)


def build_measure(named: Named, study: Study, base: Recipe) -> Measure:
    """The measure that a study names for all its models, its options checked, for a recipe's task.

    Raises:
        UserError: If the measure, an option or a value is not allowed, or it is for other inputs.
    """
    cls = find(MEASURES, named.name, study.plugins)
    found = built(cls, dict(named.options), named.name, folder=study.folder)
    plan = base.plan()
    if reason := found.misfit(plan):
        what = f"{named.name} cannot be measured on {base.dataset}: it {reason}"
        raise UserError(what, where="measures", got=plan.judged_by.space)
    return (replace(found, test=base.test()) if isinstance(found, Utility) else found).bind(plan)


def build_utility(base: Recipe, study: Study) -> Measure:
    """What every model of a recipe's task is judged by."""
    found = find(MEASURES, find_task(base.dataset).utility, study.plugins)
    return found(test=base.test()).bind(base.plan()) if issubclass(found, Utility) else found().bind(base.plan())


def build_suspect(named: Named, study: Study) -> Suspect:
    """The suspect that a study names, its options checked.

    Raises:
        UserError: If the kind, an option or a value is not allowed.
    """
    cls = find(SUSPECTS, named.name, study.plugins)
    return built(cls, dict(named.options), named.name, folder=study.folder)
