"""The pairs of several studies in one matrix, such as of studies that need recipes of their own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from graphlib import CycleError, TopologicalSorter

from guardclash.judging.verdict import Verdict
from guardclash.records.cells import Cell
from guardclash.reporting.figure_parts.blocks import DrawnCell, DrawnRow, MatrixBlock
from guardclash.reporting.findings import Findings
from guardclash.reporting.pairs import NOT_ASKED

Pairing = tuple[str, str, str]
"""A data set and the names of two mechanisms, the one that studies name first before the other."""


def merged(all_found: Sequence[Findings]) -> Iterator[MatrixBlock]:
    """For every data set a triangle of all mechanisms that stand in a pair on it.

    Mechanisms go by their names, whatever their options; where there are several verdicts on a pair, all are shown.
    """
    by_pair: dict[Pairing, list[tuple[Findings, Cell]]] = {}
    for found in all_found:
        for cell in found.study.cells():
            if len(cell.combination) == 2 and cell.key in found.by_cell:
                one, other = (named.name for named in cell.combination)
                place = (cell.recipe.name, one, other)
                mirrored = (cell.recipe.name, other, one)
                by_pair.setdefault(mirrored if mirrored in by_pair else place, []).append((found, cell))
    for data in dict.fromkeys(data for data, _, _ in by_pair):
        pairs = {(one, other): asked for (of, one, other), asked in by_pair.items() if of == data}
        order = in_order(list(pairs))
        rows = tuple(
            DrawnRow(row, tuple(_cell(pairs, order, row, column) for column in order[1:])) for row in order[:-1]
        )
        yield MatrixBlock(data, tuple(order[1:]), rows)


def in_order(pairs: Sequence[tuple[str, str]]) -> list[str]:
    """All names, each before those that it stands before in a pair; where pairs contradict each other, as they come."""
    names = list(dict.fromkeys(name for pair in pairs for name in pair))
    before: dict[str, list[str]] = {name: [] for name in names}
    for one, other in pairs:
        before[other].append(one)
    try:
        return list(TopologicalSorter(before).static_order())
    except CycleError:
        return names


def _cell(
    pairs: dict[tuple[str, str], list[tuple[Findings, Cell]]], order: Sequence[str], row: str, column: str
) -> DrawnCell:
    if order.index(row) >= order.index(column):
        return ""
    asked = pairs.get((row, column)) or pairs.get((column, row)) or []
    verdicts: list[tuple[str, Verdict]] = [
        (found.study.name if len(asked) > 1 else "", found.by_cell[cell.key]) for found, cell in asked
    ]
    return tuple(verdicts) or NOT_ASKED
