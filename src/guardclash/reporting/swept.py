"""Sweeps: which numeric options a study gives several values of, and the cells that differ in one of them alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from guardclash.reporting.tables import braces
from guardclash.studies.study import Cell, Named, Study


@dataclass(frozen=True)
class Series:
    """Cells of one recipe that differ in the option alone."""

    label: str
    """The combination without the option."""
    points: tuple[tuple[float, Cell], ...]
    """Two or more, in the order of the option."""


def swept_options(study: Study) -> list[tuple[str, str]]:
    """Mechanisms and their options that have several numbers."""
    values: dict[tuple[str, str], set[float]] = {}
    for named in study.mechanisms():
        for option, value in named.options:
            if isinstance(value, int | float) and not isinstance(value, bool):
                values.setdefault((named.name, option), set()).add(value)
    return [axis for axis, numbers in values.items() if len(numbers) > 1]


def series_of(study: Study, recipe: Named, name: str, option: str) -> list[Series]:
    """The cells of a recipe in which a mechanism has the option, those together that are otherwise alike."""
    alike: dict[tuple[Named, ...], list[tuple[float, Cell]]] = {}
    for cell in study.cells():
        swept = next((named for named in cell.combination if named.name == name), None)
        value = dict(swept.options).get(option) if swept else None
        if cell.recipe == recipe and isinstance(value, int | float) and not isinstance(value, bool):
            rest = tuple(_without(named, option) if named == swept else named for named in cell.combination)
            alike.setdefault(rest, []).append((value, cell))
    return [
        Series(_label(study, rest), tuple(sorted(points, key=lambda point: point[0])))
        for rest, points in alike.items()
        if len(points) > 1
    ]


def _without(named: Named, option: str) -> Named:
    return Named(named.name, tuple((key, value) for key, value in named.options if key != option))


def _label(study: Study, rest: Sequence[Named]) -> str:
    labels = [study.label(named) for named in rest]
    return f"{labels[0]} alone" if len(labels) == 1 else braces(labels)
