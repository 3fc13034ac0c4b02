"""The form of schema 2: every plan, picture and declaration of a metric once, with references to it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from typing import Any

from guardclash.errors import UserError
from guardclash.records.fields import DEEPEST, Misfit, called, data, field, given, listed, named, table, whole

PLAN = "Plan"
"""The type of a plan in a description; plans hold plans, such as that of a marking network."""
KEY = "$plan"
"""In the place of a plan: where in the table it is."""
PARTS = 20_000
"""Of a plan, written out; the largest of ours have 300."""


def packed(content: Mapping[str, Any]) -> dict[str, Any]:
    """Packs JSON data of results (`guardclash.records.plain.to_plain`).

    Returns:
        The same with three tables: `plans` and `pictures` by digest, `metrics` as a list.
    """
    plans: dict[str, Any] = {}
    pictures: dict[str, str] = {}
    metrics: dict[str, int] = {}
    cells = [_packed_cell(cell, plans, pictures, metrics) for cell in content["cells"]]
    tables = {"metrics": [json.loads(text) for text in metrics], "plans": plans, "pictures": pictures}
    return {**content, **tables, "cells": cells}


def _packed_cell(
    cell: Mapping[str, Any], plans: dict[str, Any], pictures: dict[str, str], metrics: dict[str, int]
) -> dict[str, Any]:
    measures = [
        {**one, "metrics": [metrics.setdefault(_text(metric), len(metrics)) for metric in one["metrics"]]}
        for one in cell["measures"]
    ]
    places = {_text(one["of"]): place for place, one in enumerate(cell["measures"])}
    trials = [
        {**trial, "measurements": [{**one, "of": _place(one["of"], places)} for one in trial["measurements"]]}
        for trial in cell["trials"]
    ]
    found = {**cell, "composed": _packed_plans(cell["composed"], plans), "measures": measures, "trials": trials}
    if "evidence" in cell:
        found["evidence"] = [_packed_picture(one, pictures) for one in cell["evidence"]]
    return found


def _place(of: Any, places: Mapping[str, int]) -> int:
    """Where the measure of a measurement is declared; files of schema 1 may leave that out, others cannot."""
    if _text(of) not in places:
        raise UserError("a measurement is written with its measure, and its cell declares none", got=of)
    return places[_text(of)]


def _packed_plans(value: Any, plans: dict[str, Any]) -> Any:
    """A description with every plan in it, the innermost first, moved to the table."""
    if isinstance(value, list):
        return [_packed_plans(item, plans) for item in value]
    if not isinstance(value, Mapping):
        return value
    inner = {name: _packed_plans(item, plans) for name, item in value.items()}
    if inner.get("type") != PLAN:
        return inner
    digest = _digest(_text(inner))
    plans[digest] = inner
    return {KEY: digest}


def _packed_picture(one: Mapping[str, Any], pictures: dict[str, str]) -> dict[str, Any]:
    if "png" not in one:
        return dict(one)
    digest = _digest(one["png"])
    pictures[digest] = one["png"]
    return {**one, "png": digest}


def unpacked(content: Mapping[str, Any], picture: Callable[[str], str | None]) -> dict[str, Any]:
    """Undoes `packed`.

    Args:
        content: A file of schema 2.
        picture: Finds a picture that the file does not hold, base64, by its digest; None: it is nowhere.

    Raises:
        Misfit: A reference leads nowhere, or a part is of another form.
    """
    tables = _Tables(
        _Plans(field(content, "plans", table)),
        field(content, "pictures", table),
        field(content, "metrics", lambda metrics: listed(metrics, table)),
        picture,
    )
    cells = field(content, "cells", lambda cells: listed(cells, lambda cell: _unpacked_cell(cell, tables)))
    rest = {name: value for name, value in content.items() if name not in ("plans", "pictures", "metrics")}
    return {**rest, "cells": list(cells)}


@dataclass(frozen=True)
class _Tables:
    """What cells refer to."""

    plans: _Plans
    pictures: Mapping[str, Any]
    metrics: tuple[Any, ...]
    picture: Callable[[str], str | None]


def _unpacked_cell(value: Any, tables: _Tables) -> dict[str, Any]:
    cell = table(value)
    measures = field(cell, "measures", lambda found: listed(found, lambda one: _unpacked_measure(one, tables.metrics)))
    of = [one.get("of") for one in measures]
    trials = field(cell, "trials", lambda found: listed(found, lambda one: _unpacked_trial(one, of)))
    composed = given(cell, "composed", tables.plans.opened, None)
    found = {**cell, "measures": list(measures), "trials": list(trials), "composed": composed}
    if cell.get("evidence") is not None:
        found["evidence"] = list(field(cell, "evidence", lambda all: listed(all, lambda one: _shown(one, tables))))
    return found


def _unpacked_measure(value: Any, metrics: Sequence[Any]) -> dict[str, Any]:
    one = table(value)
    return {**one, "metrics": list(field(one, "metrics", lambda places: listed(places, lambda at: _at(metrics, at))))}


def _unpacked_trial(value: Any, of: Sequence[Any]) -> dict[str, Any]:
    trial = table(value)
    return {
        **trial,
        "measurements": list(field(trial, "measurements", lambda all: listed(all, lambda one: _by(one, of)))),
    }


def _by(value: Any, of: Sequence[Any]) -> dict[str, Any]:
    one = table(value)
    return {**one, "of": field(one, "of", lambda place: _at(of, place))}


def _shown(value: Any, tables: _Tables) -> dict[str, Any]:
    """A picture with its content in place of its name."""
    one = table(value)
    if "png" not in one:
        return dict(one)
    name = field(one, "png", called)
    return {**one, "png": tables.pictures.get(name) or tables.picture(name)}


def _at(parts: Sequence[Any], place: Any) -> Any:
    if not parts:
        raise Misfit(place, "nothing, since the table is empty")
    return parts[whole(place, 0, len(parts) - 1)]  # a negative one would count from the end


@dataclass(frozen=True)
class _Opened:
    """A part of a description, with every plan in its place."""

    value: Any
    parts: int = 1
    """How many it has, written out: references to references may stand for more than any memory holds."""
    height: int = 0
    """Tables and lists inside each other."""

    def __post_init__(self) -> None:
        if self.parts > PARTS:
            raise Misfit(..., f"a plan of at most {PARTS:,} parts")
        if self.height > DEEPEST:
            raise Misfit(..., f"at most {DEEPEST} tables and lists inside each other")


@dataclass(frozen=True)
class _Plans:
    """The table of plans, each opened once: a plan in another one is a reference to it."""

    packed: Mapping[str, Any]
    known: dict[str, _Opened] = dataclass_field(default_factory=dict)

    def opened(self, value: Any) -> Any:
        """A description with every plan in its place."""
        return self._opened(value, ()).value

    def _opened(self, value: Any, inside: tuple[str, ...], depth: int = 0) -> _Opened:
        if not isinstance(value, Mapping | list):
            return _Opened(data(value))
        if depth > DEEPEST:
            raise Misfit(..., f"at most {DEEPEST} tables and lists inside each other")
        if isinstance(value, list):
            parts = listed(value, lambda part: self._opened(part, inside, depth + 1))
            return _around([part.value for part in parts], parts)
        if KEY in value:
            return field(value, KEY, lambda digest: self._known(called(digest), inside, depth))
        found = named(value, lambda part: self._opened(part, inside, depth + 1))
        return _around({name: part.value for name, part in found.items()}, found.values())

    def _known(self, digest: str, inside: tuple[str, ...], depth: int) -> _Opened:
        if digest in inside:
            raise Misfit(digest, "another plan, since this one holds itself")
        if digest not in self.packed:
            raise Misfit(digest, "a plan that is in the table of plans")
        if digest not in self.known:
            self.known[digest] = self._opened(self.packed[digest], (*inside, digest), depth + 1)
        return self.known[digest]


def _around(value: Any, parts: Collection[_Opened]) -> _Opened:
    height = max((part.height for part in parts), default=0)
    return _Opened(value, 1 + sum(part.parts for part in parts), 1 + height)


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=True)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
