"""Sweeps: which numeric options a study gives several values of, and the cells that differ in one of them alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeGuard

from guardclash.records.cells import Cell, Named, Options, braces
from guardclash.studies.study import Study


@dataclass(frozen=True)
class SweptOption:
    """An option that is swept."""

    of: str
    """The mechanism; empty of an option of the recipe, such as its epochs."""
    option: str

    @property
    def label(self) -> str:
        """Such as "epsilon of dpsgd"."""
        return f"{self.option} of {self.of}" if self.of else self.option


@dataclass(frozen=True)
class Series:
    """Cells that differ in the option alone."""

    label: str
    """The combination without the option."""
    points: tuple[tuple[float, Cell], ...]
    """Two or more, in the order of the option."""


@dataclass(frozen=True)
class Swept:
    """All series over an option on one recipe."""

    axis: SweptOption
    recipe: str
    """Its label, without the option."""
    series: tuple[Series, ...]


def sweeps_of(study: Study) -> tuple[Swept, ...]:
    """Every sweep of a number, recipe by recipe."""
    return tuple(found for axis in _axes(study) for found in _swept(study, axis))


def _axes(study: Study) -> list[SweptOption]:
    """Options of one mechanism, or of recipes of one data set, that have several numbers."""
    values: dict[tuple[str, SweptOption], set[float]] = {}
    for dataset, of, options in _options(study):
        for option, value in options:
            if _is_number(value):
                values.setdefault((dataset, SweptOption(of, option)), set()).add(value)
    return list(dict.fromkeys(axis for (_, axis), numbers in values.items() if len(numbers) > 1))


def _options(study: Study) -> Iterator[tuple[str, str, Options]]:
    yield from (("", named.name, named.options) for named in study.mechanisms())
    yield from ((recipe.name, "", recipe.options) for recipe in study.recipes)


def _swept(study: Study, axis: SweptOption) -> Iterator[Swept]:
    alike: dict[Named, dict[tuple[Named, ...], list[tuple[float, Cell]]]] = {}
    for cell in study.cells():
        (recipe, *rest), value = _left(axis, (cell.recipe, *cell.combination))
        if _is_number(value):
            alike.setdefault(recipe, {}).setdefault(tuple(rest), []).append((value, cell))
    for recipe, by_rest in alike.items():
        series = tuple(
            Series(_label(study, rest), tuple(sorted(points, key=lambda point: point[0])))
            for rest, points in by_rest.items()
            if len(points) > 1
        )
        if series:
            yield Swept(axis, study.recipe_label(recipe), series)


def _left(axis: SweptOption, names: tuple[Named, ...]) -> tuple[tuple[Named, ...], float | None]:
    """Recipe and mechanisms without the option, and its value."""
    at = next((n for n, named in enumerate(names) if (named.name if n else "") == axis.of), None)
    if at is None:
        return names, None
    rest = tuple((key, value) for key, value in names[at].options if key != axis.option)
    return (*names[:at], Named(names[at].name, rest), *names[at + 1 :]), dict(names[at].options).get(axis.option)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _label(study: Study, rest: Sequence[Named]) -> str:
    labels = [study.label(named) for named in rest]
    return f"{labels[0]} alone" if len(labels) == 1 else braces(labels)
