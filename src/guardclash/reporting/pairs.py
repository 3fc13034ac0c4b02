"""The pairs of a study as a matrix: mechanisms by mechanisms, and in which ways each pair is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from guardclash.records.cells import Cell, Named
from guardclash.studies.study import Study

NOT_ASKED, ONE, MIRRORED = "not asked", "one mechanism", "mirrored"
"""Why a pair has no ways: the study does not ask for it, a mechanism or variants of it, the other half has it."""
AT_ONCE = "at once"


@dataclass(frozen=True)
class Way:
    """In which way a pair is trained."""

    words: str
    """Such as "at once" and "wm → advtr"; empty in a study that trains everything at once."""
    cell: Cell


@dataclass(frozen=True)
class Pair:
    """Two mechanisms on one recipe."""

    recipe: Named
    ways: tuple[Way, ...]
    """At once, and in each order, as far as it is asked for."""
    why: str
    """Why there are none."""


@dataclass(frozen=True)
class PairRow:
    """A mechanism against all that it could be combined with."""

    mechanism: Named
    pairs: tuple[tuple[Pair, ...], ...]
    """By column, and in it by recipe."""


@dataclass(frozen=True)
class Pairs:
    """Rows are mechanisms that stand first in a pair, columns those that stand second; the others are left out."""

    columns: tuple[Named, ...]
    recipes: tuple[Named, ...]
    rows: tuple[PairRow, ...]


def pairs_of(study: Study) -> Pairs | None:
    """The pairs of a study; None if it has none."""
    order = _in_order(study)
    asked = [_plain(combination) for combination in study.combinations if len(combination) == 2]
    # By the order of the study, not that of training: both orders of a pair belong into one cell.
    first = {min(pair, key=order.index) for pair in asked}
    second = {max(pair, key=order.index) for pair in asked}
    rows, columns = (tuple(named for named in order if named in side) for side in (first, second))
    if not rows:
        return None
    return Pairs(columns, study.recipes, tuple(PairRow(row, _row(study, order, row, columns)) for row in rows))


def _in_order(study: Study) -> list[Named]:
    """All mechanisms, the variants of each beside each other."""
    found = study.mechanisms()
    names = list(dict.fromkeys(named.name for named in found))
    return sorted(found, key=lambda named: names.index(named.name))


def _row(study: Study, order: Sequence[Named], row: Named, columns: Sequence[Named]) -> tuple[tuple[Pair, ...], ...]:
    return tuple(tuple(_pair(study, order, recipe, row, column) for recipe in study.recipes) for column in columns)


def _pair(study: Study, order: Sequence[Named], recipe: Named, row: Named, column: Named) -> Pair:
    if row.name == column.name:
        return Pair(recipe, (), ONE)
    if order.index(row) > order.index(column):
        return Pair(recipe, (), MIRRORED)
    # Without any sequence "at once" would stand in every cell and tell nothing.
    sequences = any(named.later for combination in study.combinations for named in combination)
    ways = tuple(
        Way(_words(combination) if sequences else "", cell)
        for combination in study.combinations
        if len(combination) == 2 and set(_plain(combination)) == {row, column}
        for cell in (study.cell(recipe, combination),)
        if cell
    )
    return Pair(recipe, ways, "" if ways else NOT_ASKED)


def _words(combination: tuple[Named, ...]) -> str:
    """Names suffice beside a row and a column that say which variants they are."""
    later = any(named.later for named in combination)
    return " ".join(named.label(set()) for named in combination) if later else AT_ONCE


def _plain(combination: tuple[Named, ...]) -> tuple[Named, ...]:
    return tuple(named.plain for named in combination)
