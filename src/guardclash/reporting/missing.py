"""What a half-finished study still lacks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from guardclash.records.cells import Cell
from guardclash.records.results import Results
from guardclash.reporting.tables import place
from guardclash.studies.study import Study


def missing(study: Study, results: Results, needed: Mapping[str, int]) -> tuple[str, ...]:
    """A line for every cell and suspect that lacks seeds, such as "mnist/reduced {wm}: 3 of 5 seeds".

    A seed is there once everything is measured on it. What cannot be built lacks nothing, and neither does what is
    decided before all seeds that it may have are spent.

    Args:
        study: What was asked.
        results: What is measured so far.
        needed: Seeds that each cell needs now, by its key.
    """
    # `Study.seeds` goes by the replicates of the cell: so these are the seeds needed now, not all it may have.
    cells = (replace(cell, replicates=needed[cell.key]) for cell in (*study.cells(), *study.suspect_cells()))
    return tuple(line for cell in cells for line in _missing(study, results, cell))


def _missing(study: Study, results: Results, cell: Cell) -> Iterator[str]:
    entry, seeds = results.cell(cell), study.seeds(cell)
    if entry and entry.clash:
        return
    measured = entry.whole(seeds) if entry else ()
    if len(measured) < len(seeds):
        yield f"{place(study, cell)}: {len(measured)} of {len(seeds)} seeds"


def unfinished(study: Study, lacking: Sequence[str]) -> str | None:
    """In one sentence, how much is missing; None if nothing is."""
    cells = len(study.cells()) + len(study.suspect_cells())
    return f"{len(lacking)} of {cells} cells still lack seeds" if lacking else None
