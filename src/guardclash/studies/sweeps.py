"""Options as study files give them, and sweeps: an entry of a study as all that it stands for."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from guardclash.errors import UserError
from guardclash.records.cells import Named, Options
from guardclash.studies.limits import at_most
from guardclash.studies.study_schema import MechanismEntry

OF_RECIPES = frozenset(("dataset", "scale", "reading", "conditions", "sweep"))
OF_MECHANISMS = frozenset(("name", "sweep"))
"""Keys that say what an entry is; none of them is an option, and a value from elsewhere would be lost."""


def refuse_keys(table: Mapping[str, Any], keys: Collection[str], where: str) -> None:
    """Refuses options that are called like what an entry is.

    Raises:
        UserError: There is one.
    """
    for name in table:
        if name in keys:
            mend = "Say it in the entry itself; for another value, write another entry."
            raise UserError(f"{name!r} says what an entry is, and is no option", where=where, mend=mend)


def variants(
    table: Mapping[str, Any], where: str, over: bool = False, keys: Collection[str] = OF_MECHANISMS
) -> Iterator[dict[str, Any]]:
    """A table of options without its `sweep`: one for each choice of swept values.

    Where these go `over` fixed ones, an option may be both, for the fixed value may come from an extended file.

    Raises:
        UserError: The sweep is no table of lists, has too many choices, or is over what an entry is (`keys`).
    """
    fixed = {name: value for name, value in table.items() if name != "sweep"}
    sweep = table.get("sweep", {})
    if not isinstance(sweep, Mapping):
        raise UserError("a sweep is a table", where=f"{where}.sweep", got=sweep, allowed="{ option = [value, ...] }")
    refuse_keys(sweep, keys, f"{where}.sweep")
    for option, values in sweep.items():
        if not isinstance(values, list) or not values:
            raise UserError("a sweep needs values", where=f"{where}.sweep.{option}", got=values, allowed="[value, ...]")
    both = next((option for option in sweep if option in fixed), None)
    if both and not over:
        raise UserError("an option is both swept and fixed", where=f"{where}.sweep.{both}")
    choices = [[(option, value) for value in values] for option, values in sweep.items()]
    yield from ({**fixed, **dict(choice)} for choice in at_most(itertools.product(*choices), where))


def expanded(mechanisms: Sequence[str | MechanismEntry], where: str) -> Iterator[tuple[Named, ...]]:
    """All combinations that an entry stands for: the product of its mechanisms' sweeps."""
    found = []
    for mechanism in mechanisms:
        entry = MechanismEntry(name=mechanism) if isinstance(mechanism, str) else mechanism
        place = f"{where}: {entry.name}"
        options = {**(entry.model_extra or {}), "sweep": entry.sweep}
        found.append([Named(entry.name, options_of(variant, place)) for variant in variants(options, place)])
    yield from at_most(itertools.product(*found), where)


def options_of(table: Mapping[str, Any], where: str) -> Options:
    """Sorted, and 3.0 as 3, so that one meaning has one form."""
    return tuple((name, _plain(value, f"{where}.{name}")) for name, value in sorted(table.items()))


def _plain(value: Any, where: str, inside: bool = False) -> Any:
    if isinstance(value, list | tuple) and not inside:
        return tuple(_plain(item, where, True) for item in value)
    if not isinstance(value, bool | int | float | str):
        allowed = "a number, a text, true, false, or a list of these"
        raise UserError("an option cannot have such a value", where=where, got=value, allowed=allowed)
    return int(value) if isinstance(value, float) and value.is_integer() else value
