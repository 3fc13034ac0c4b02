"""The conflict matrix: mechanisms by mechanisms, a cell for every recipe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from guardclash.records.cells import Named
from guardclash.reporting.page_parts.details import Detail
from guardclash.reporting.pairs import asked_of, in_order, sides
from guardclash.studies.study import Study

ACROSS = 6
"""So many cells may stand side by side; of more, recipes go down instead of across."""


@dataclass(frozen=True)
class Slot:
    """Two mechanisms on one recipe."""

    recipe: str
    details: tuple[Detail, ...]
    """Of the pair: at once, and in each order that is asked for."""
    why: str
    """Why there is none: "not asked", "one mechanism" (with itself or a variant of it), "mirrored"."""


@dataclass(frozen=True)
class MatrixRow:
    """A mechanism against all that it could be combined with."""

    label: str
    slots: tuple[tuple[Slot, ...], ...]
    """By column, and in it by recipe."""


@dataclass(frozen=True)
class Matrix:
    """Mechanisms by mechanisms; those that stand in no pair on this side are left out."""

    columns: tuple[str, ...]
    recipes: tuple[str, ...]
    rows: tuple[MatrixRow, ...]

    @property
    def across(self) -> bool:
        """Whether recipes stand side by side, and not below each other."""
        return len(self.columns) * len(self.recipes) <= ACROSS

    @property
    def gaps(self) -> bool:
        """Whether a pair is not asked for."""
        return any(slot.why == "not asked" for row in self.rows for slots in row.slots for slot in slots)


def matrix(study: Study, details: Mapping[tuple[str, tuple[Named, ...]], Detail]) -> Matrix | None:
    """The pairs of a study; None if it has none.

    Args:
        study: What was asked.
        details: The sections of the page, by label of the recipe and combination.
    """
    rows, columns = sides(study)
    recipes = [study.recipe_label(recipe) for recipe in study.recipes]
    if not rows:
        return None
    return Matrix(
        tuple(study.label(column) for column in columns),
        tuple(recipes),
        tuple(
            MatrixRow(
                study.label(row),
                tuple(tuple(_slot(study, recipe, row, column, details) for recipe in recipes) for column in columns),
            )
            for row in rows
        ),
    )


def _slot(
    study: Study,
    recipe: str,
    row: Named,
    column: Named,
    details: Mapping[tuple[str, tuple[Named, ...]], Detail],
) -> Slot:
    order, asked = in_order(study), [(recipe, found) for found in asked_of(study, row, column)]
    if row.name == column.name:
        return Slot(recipe, (), "one mechanism")
    if order.index(row) > order.index(column):
        return Slot(recipe, (), "mirrored")
    found = tuple(details[key] for key in asked if key in details)
    return Slot(recipe, found, "" if found else "not asked")
