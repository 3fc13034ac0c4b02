"""What a study names, and the cells of its matrix. No torch."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from guardclash.records import fields

Scalar = bool | int | float | str | None
Options = tuple[tuple[str, Any], ...]
LATER = "$later"
"""In records: when a mechanism comes; no option can be called so."""
ARROW = "→ "
"""Before what comes later in a combination."""


@dataclass(frozen=True)
class Sequel:
    """When a mechanism comes later than others of its combination: it is trained on the weights that they left."""

    place: int
    """From 1: after how many other trainings."""
    epochs: int | None = None
    """None: the recipe's."""
    learning_rate: float = 1.0
    """The largest, as a share of the recipe's."""


@dataclass(frozen=True)
class Named:
    """A name with options, as written in a study: a mechanism, or a data set of a recipe."""

    name: str
    options: Options = ()
    later: Sequel | None = None
    """Of a mechanism in a sequence that is not of its first training; None: from the beginning."""

    @property
    def plain(self) -> Named:
        """The same mechanism, whenever it comes."""
        return replace(self, later=None) if self.later else self

    @cached_property
    def text(self) -> str:
        """Canonical text of the mechanism with its options, whenever it comes: what records know it by."""
        return json.dumps(self.plain.to_dict(), sort_keys=True)

    def to_dict(self) -> dict[str, Any]:
        """JSON data: the name and each option, and when it comes if that is later."""
        later = {LATER: vars(self.later)} if self.later else {}
        return {"name": self.name, **{name: _as_json(value) for name, value in self.options}, **later}

    def label(self, shown: set[str]) -> str:
        """The name with the options in `shown`, such as "dpsgd(on=task)"; with an arrow if it comes later."""
        options = [f"{name}={short(value)}" for name, value in self.options if name in shown]
        given = f"{self.later.epochs} epochs" if self.later and self.later.epochs else ""
        options += [given] if given else []
        return ARROW * bool(self.later) + self.name + (f"({', '.join(options)})" if options else "")


def braces(labels: Iterable[str]) -> str:
    """A combination as the paper writes it: {wm, dpsgd}."""
    return "{" + ", ".join(labels).replace(f", {ARROW}", f" {ARROW}") + "}"


def _as_json(value: Any) -> Any:
    """An option as JSON; the conditions of a recipe have options of their own."""
    named = isinstance(value, tuple) and any(isinstance(item, Named) for item in value)
    return [item.to_dict() for item in value] if named else value


def short(value: Any) -> str:
    """An option's value as labels show it."""
    return (
        "+".join(
            item.label({name for name, _ in item.options}) if isinstance(item, Named) else str(item) for item in value
        )
        if isinstance(value, tuple)
        else f"{value:g}"
        if isinstance(value, float)
        else str(value)
    )


def named_from(value: Any) -> Named:
    """Reads what `Named.to_dict` wrote, also as JSON gives it back.

    Raises:
        Misfit: It is none.
    """
    data = fields.table(value)
    later = fields.given(data, LATER, _sequel, None)
    options = {name: part for name, part in data.items() if name not in ("name", LATER)}
    read = fields.named(options, _option)
    return Named(fields.field(data, "name", fields.called), tuple(sorted(read.items())), later)


def _option(value: Any, depth: int = 0) -> Any:
    """A plain value, a list, or the conditions of a recipe, which have options of their own."""
    if depth > fields.DEEPEST:
        raise fields.Misfit(..., f"at most {fields.DEEPEST} tables and lists inside each other")
    if isinstance(value, Mapping):
        options = fields.named(value, lambda part: _option(part, depth + 1))
        name = fields.field(options, "name", fields.called)
        return Named(name, tuple(sorted((key, part) for key, part in options.items() if key != "name")))
    if isinstance(value, list | tuple):
        return fields.listed(value, lambda part: _option(part, depth + 1))
    return fields.data(value)


def _sequel(value: Any) -> Sequel:
    data = fields.table(value)
    place = fields.field(data, "place", lambda part: fields.whole(part, 1))
    epochs = fields.given(data, "epochs", lambda part: fields.whole(part, 1), None)
    return Sequel(place, epochs, fields.given(data, "learning_rate", fields.duration, 1.0))


@dataclass(frozen=True)
class Suspected:
    """A suspect as a study names it: how its party came by the model, and the mechanisms that it put on itself."""

    kind: Named
    mechanisms: tuple[Named, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON data."""
        return {"kind": self.kind.to_dict(), "mechanisms": [named.to_dict() for named in self.mechanisms]}


@dataclass(frozen=True)
class Cell:
    """One entry of a study's matrix: a combination on a recipe, and how many seeds it needs."""

    recipe: Named
    combination: tuple[Named, ...]
    replicates: int
    suspect: Suspected | None = None
    """Not the model of the combination itself but one that may be stolen from it."""

    @cached_property
    def key(self) -> str:
        """Canonical text of what is asked for; the number of replicates is left out."""
        parts: list[Any] = [self.recipe.to_dict(), [mechanism.to_dict() for mechanism in self.combination]]
        parts += [self.suspect.to_dict()] if self.suspect else []
        return json.dumps(parts, sort_keys=True)


@dataclass(frozen=True)
class Note:
    """What is known of a disagreement with published numbers."""

    mechanisms: frozenset[str]
    metric: str
    text: str
    dataset: str | None = None
    """None: of all data sets."""
    reading: str | None = None
    """None: of all readings."""

    def about(self, cell: Cell, metric: str) -> bool:
        """Whether it speaks about a metric of a cell."""
        reading = dict(cell.recipe.options).get("reading")
        if self.dataset not in (None, cell.recipe.name) or self.reading not in (None, reading):
            return False
        return metric == self.metric and self.mechanisms == {named.name for named in cell.combination}


def without(combination: tuple[Named, ...], mechanism: Named) -> tuple[Named, ...]:
    """A combination with one of its mechanisms left out: the control for that mechanism.

    Of a sequence, the rest in its order: what was trained after it is the first training then.
    """
    rest = tuple(named for named in combination if named.plain != mechanism.plain)
    places = sorted({named.later.place if named.later else 0 for named in rest})
    return tuple(_moved(named, places.index(named.later.place)) if named.later else named for named in rest)


def _moved(named: Named, place: int) -> Named:
    return replace(named, later=replace(named.later, place=place)) if place and named.later else named.plain
