"""From what a study names, with options, to values: recipes, mechanisms, measures, suspects."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast, get_type_hints

from pydantic import TypeAdapter, ValidationError

from guardclash.errors import UserError, suggestion
from guardclash.measure import Measure, Utility
from guardclash.mechanism import Mechanism
from guardclash.records.cells import Named
from guardclash.registry import CONDITIONS, MEASURES, SUSPECTS, find, find_mechanism
from guardclash.studies.study import Study
from guardclash.suspect import Suspect
from guardclash.tasks.catalog import find_task
from guardclash.tasks.recipe import Recipe, recipe

T = TypeVar("T")


def build_recipe(named: Named, plugins: tuple[Path, ...] = ()) -> Recipe:
    """The recipe that a study names, its overrides and conditions checked.

    Raises:
        UserError: If a data set, a field, a value or a condition is not allowed.
    """
    options = dict(named.options)
    options.pop("reading", None)  # of mechanisms
    worlds = options.pop("conditions", ())
    standard = recipe(named.name, options.pop("scale"))
    known = {field.name: getattr(standard, field.name) for field in dataclasses.fields(standard)}
    found = _checked(type(standard), options, f"recipe {named.name}", known)
    built = (_checked(find(CONDITIONS, one.name, plugins), dict(one.options), one.name) for one in worlds)
    return replace(found, conditions=(*found.conditions, *built))


def build_mechanism(named: Named, study: Study) -> Mechanism:
    """The mechanism that a study names, its options checked.

    Raises:
        UserError: If the mechanism, an option or a value is not allowed.
    """
    cls = find_mechanism(named.name, study.plugins)
    return _checked(cls, dict(named.options), named.name, folder=study.folder)


def build_measure(named: Named, study: Study, base: Recipe) -> Measure:
    """The measure that a study names for all its models, its options checked, for a recipe's task.

    Raises:
        UserError: If the measure, an option or a value is not allowed, or it is for other inputs.
    """
    cls = find(MEASURES, named.name, study.plugins)
    found = _checked(cls, dict(named.options), named.name, folder=study.folder)
    plan = base.plan()
    if reason := found.misfit(plan):
        what = f"{named.name} cannot be measured on {base.dataset}: it {reason}"
        raise UserError(what, where="measures", got=plan.judged_by.space)
    return (replace(found, test=base.test()) if isinstance(found, Utility) else found).bind(plan)


def build_utility(base: Recipe) -> Measure:
    """What every model of a recipe's task is judged by."""
    found = find(MEASURES, find_task(base.dataset).utility)
    return found(test=base.test()).bind(base.plan()) if issubclass(found, Utility) else found().bind(base.plan())


def build_suspect(named: Named, study: Study) -> Suspect:
    """The suspect that a study names, its options checked.

    Raises:
        UserError: If the kind, an option or a value is not allowed.
    """
    cls = find(SUSPECTS, named.name, study.plugins)
    return _checked(cls, dict(named.options), named.name, folder=study.folder)


def _checked(
    cls: type[T],
    options: Mapping[str, Any],
    where: str,
    known: Mapping[str, Any] | None = None,
    folder: Path = Path(),
) -> T:
    """A value of a class with options, each of the type of its field; paths are relative to the folder."""
    fields = {field.name for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for name in options:
        if name not in fields:
            raise UserError(f"unknown key {name!r}", where=where, mend=suggestion(name, fields))
    found = {name: _value(_adapter(cast(Any, cls), name), value, f"{where}.{name}") for name, value in options.items()}
    built = cls(**{**(known or {}), **found})
    paths = {name: (folder / value).resolve() for name in fields if isinstance(value := getattr(built, name), Path)}
    return replace(cast(Any, built), **paths) if paths else built


@cache
def _hints(cls: type) -> dict[str, Any]:
    return get_type_hints(cls)


@cache
def _adapter(cls: type, field: str) -> TypeAdapter[Any]:
    return TypeAdapter(_hints(cls)[field])


def _value(adapter: TypeAdapter[Any], value: Any, where: str) -> Any:
    try:
        # Through JSON, where a list may become a tuple but "3" no number.
        return adapter.validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        path = ".".join([where, *(str(part) for part in first["loc"])])
        raise UserError(first["msg"][:1].lower() + first["msg"][1:], where=path, got=first["input"]) from None
