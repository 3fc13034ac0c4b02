"""Parts of a cell as values: the recipe, the metrics that are declared, pictures, curves and clouds of points."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from guardclash.errors import UserError
from guardclash.judging.criteria import Metric, metric_from
from guardclash.numerics.scatter import Scatter, scatter_from
from guardclash.records.cells import Named, named_from
from guardclash.records.fields import (
    Misfit,
    Read,
    called,
    count,
    data,
    field,
    finite,
    flag,
    given,
    listed,
    named,
    said,
    shared,
    table,
    text,
    whole,
)
from guardclash.records.results import UTILITY, Curve, Evidence

POINTS = 100_000
"""Of a curve."""
RECIPE: dict[str, Read[Any]] = {
    **dict.fromkeys(("dataset", "scale", "model", "norm", "optimizer", "augmentation"), called),
    **dict.fromkeys(("examples", "test_examples", "epochs", "protected_epochs", "parameters", "batch_size"), count),
    "learning_rate": finite,
}
"""Fields of a recipe that tables show; each may be left out."""


def recipe_from(value: Any) -> dict[str, Any]:
    """Every field as it stands, for the fields of plugins are their own; what tables show is what they say it is."""
    recipe: dict[str, Any] = data(table(value))
    for name, read in RECIPE.items():
        given(recipe, name, read, None)
    return recipe


def data_from(value: Any) -> dict[str, Any]:
    """What was done to the data of somebody's own."""
    found = table(value)
    return {
        "sizes": field(found, "sizes", lambda sizes: named(sizes, count)),
        "parts": field(found, "parts", lambda parts: named(parts, said)),
        "notes": list(field(found, "notes", lambda notes: listed(notes, text))),
    }


@dataclass(frozen=True)
class Shared:
    """Readers of what stands in many places of one file, and is read once; none outlives the file."""

    metric: Read[Metric]
    of: Read[Named | None]
    """Whose a measurement is; None: the utility."""
    plan: Read[Mapping[str, Any]]


def readers() -> Shared:
    """For one file."""
    known: dict[str, Metric] = {}  # by what it says as well: a file of schema 1 repeats every word of it
    return Shared(
        shared(lambda value: _metric(value, known)),
        shared(lambda value: None if value is None else named_from(value)),
        shared(lambda value: data(table(value))),
    )


def declared_from(value: Any, known: Shared) -> dict[str, tuple[Metric, ...]]:
    """Metrics by whose they are; several measures of one mechanism are one."""
    declared: dict[str, tuple[Metric, ...]] = {}

    def one(value: Any) -> None:
        measure = table(value)
        of = field(measure, "of", known.of)
        whose = of.text if of else UTILITY
        metrics = field(measure, "metrics", lambda found: listed(found, known.metric))
        declared[whose] = (*declared.get(whose, ()), *metrics)
        names = [metric.name for metric in declared[whose]]
        if len(set(names)) < len(names):
            raise Misfit(names, "every metric once").within(".metrics")

    listed(value, one)
    return declared


def _metric(value: Any, known: dict[str, Metric]) -> Metric:
    content = json.dumps(data(table(value)), sort_keys=True)
    if content not in known:
        for name in value.keys() & METRIC.keys():
            field(value, name, METRIC[name])
        try:
            known[content] = metric_from(value)
        except UserError as error:
            raise Misfit(..., "", str(error)) from None
    return known[content]


def _bound(value: Any) -> None:
    if value is not None:
        named(value, finite)


def _span(value: Any) -> None:
    if value is not None and len(listed(value, finite)) != 2:
        raise Misfit(value, "a least and a largest value")


METRIC: dict[str, Read[Any]] = {
    **dict.fromkeys(("name", "symbol"), called),
    **dict.fromkeys(("title", "model"), text),
    "decimals": lambda value: whole(value, 0, 12),
    **dict.fromkeys(("higher_is_better", "log10", "gain", "net", "paired", "computed", "optional"), flag),
    "controls": lambda value: listed(value, called),
    **dict.fromkeys(("criterion", "claim"), _bound),
    "range": _span,
    "least_gain": lambda value: None if value is None else finite(value),
    "retain": finite,
}
"""Fields of a metric; others are refused by `metric_from`."""


def pictures_from(value: Any) -> tuple[Evidence, ...]:
    """The pictures of a cell."""
    return tuple(found for one in listed(value, _evidence) if (found := one))


def _evidence(value: Any) -> Evidence | None:
    """A picture; what is no picture is none, since a report does not hang on it."""
    try:
        one = table(value)
        name = given(one, "name", called, "")
        caption, png = given(one, "caption", text, ""), given(one, "png", text, None)
    except Misfit:
        return None
    return Evidence(name, caption or name or "a picture", png, _size(one, "width"), _size(one, "bytes"))


def _size(one: Mapping[str, Any], name: str) -> int | None:
    """A size that makes no sense is none: the picture is shown without it."""
    try:
        return given(one, name, count, None)
    except Misfit:
        return None


def curve_from(value: Any) -> Curve:
    """The points of a curve."""
    return listed(value, _point, POINTS)


def _point(value: Any) -> tuple[float, float]:
    pair = listed(value, finite)
    if len(pair) != 2:
        raise Misfit(value, "a point [x, y]")
    return pair[0], pair[1]


def cloud_from(value: Any) -> Scatter:
    """Points of clean images and marks."""
    scatter = table(value)
    field(scatter, "caption", text)
    if len(field(scatter, "axes", lambda axes: listed(axes, text))) != 2:
        raise Misfit(scatter["axes"], "two axes").within(".axes")
    for kind in ("clean", "marks"):
        field(scatter, kind, lambda groups: named(groups, _group))
    return scatter_from(scatter)


def _group(value: Any) -> None:
    x, y = (field(table(value), axis, lambda found: listed(found, finite, POINTS)) for axis in ("x", "y"))
    if len(x) != len(y):
        raise Misfit(..., "as many x as y")
