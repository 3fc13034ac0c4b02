"""The conflict matrix: mechanisms by mechanisms, a cell for every recipe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from guardclash.records.cells import braces
from guardclash.reporting.findings import Findings
from guardclash.reporting.page_parts.details import Detail
from guardclash.reporting.pairs import NOT_ASKED, Pair

ACROSS = 6
"""So many cells may stand side by side; of more, pairs go down and recipes across."""
RECIPES = 8
"""So many recipes may; of more, these go down within each mechanism."""


@dataclass(frozen=True)
class Slot:
    """Two mechanisms on one recipe."""

    details: tuple[tuple[str, Detail], ...]
    """Of the pair: in words at once or in which order, where the study trains both, and the section."""
    why: str
    """Why there is none: see `guardclash.reporting.pairs`."""


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
    def by_pair(self) -> tuple[tuple[str, tuple[Slot, ...]], ...]:
        """Where neither fits side by side, a row for each pair that is asked for, by recipe; else none."""
        if self.across or len(self.recipes) > RECIPES:
            return ()
        rows = ((row.label, zip(self.columns, row.slots, strict=True)) for row in self.rows)
        pairs = ((braces((label, column)), slots) for label, columns in rows for column, slots in columns)
        return tuple((label, slots) for label, slots in pairs if any(slot.details for slot in slots))

    @property
    def gaps(self) -> bool:
        """Whether a pair is not asked for."""
        # A list of the pairs that are asked for has none.
        return not self.by_pair and any(slot.why == NOT_ASKED for slot in self._slots)

    @property
    def ways(self) -> bool:
        """Whether pairs are trained in several ways."""
        return any(words for slot in self._slots for words, _ in slot.details)

    @property
    def _slots(self) -> tuple[Slot, ...]:
        return tuple(slot for row in self.rows for slots in row.slots for slot in slots)


def matrix(found: Findings, details: Mapping[str, Detail]) -> Matrix | None:
    """The pairs of a study; None if it has none.

    Args:
        found: What the study says.
        details: The sections of the page, by the key of their cell.
    """
    study, pairs = found.study, found.pairs
    if pairs is None:
        return None
    return Matrix(
        tuple(map(study.label, pairs.columns)),
        tuple(map(study.recipe_label, pairs.recipes)),
        tuple(
            MatrixRow(
                study.label(row.mechanism),
                tuple(tuple(_slot(pair, details) for pair in by_recipe) for by_recipe in row.pairs),
            )
            for row in pairs.rows
        ),
    )


def _slot(pair: Pair, details: Mapping[str, Detail]) -> Slot:
    return Slot(tuple((way.words, details[way.cell.key]) for way in pair.ways), pair.why)
