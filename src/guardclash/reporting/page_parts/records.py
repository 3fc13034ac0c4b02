"""What a page says of the records themselves: what is missing, raw values, recipes, machines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from guardclash.records.cells import Cell, Named
from guardclash.records.results import UNKNOWN, Results, TrialRecord
from guardclash.reporting.findings import Findings
from guardclash.reporting.notes import failure
from guardclash.reporting.page_parts.accounts import seed_names
from guardclash.reporting.tables import place
from guardclash.studies.study import Study


@dataclass(frozen=True)
class Gap:
    """A cell of which replicates are missing."""

    place: str
    there: int
    asked: int
    failures: tuple[tuple[str, str], ...]
    """Seeds, and how they failed."""


@dataclass(frozen=True)
class Progress:
    """How much of a study is there."""

    there: int
    asked: int
    gaps: tuple[Gap, ...]


def progress(found: Findings) -> Progress:
    """Replicates that are trained and wholly measured, of those that it needs now; a clash needs none."""
    study, results, gaps = found.study, found.results, []
    there = asked = 0
    for cell in (*study.cells(), *study.suspect_cells()):
        entry, replicates = results.cell(cell) or UNKNOWN, found.needed[cell.key]
        if entry.clash:
            continue
        seeds = study.seeds(replace(cell, replicates=replicates))  # those it needs now
        whole = len(entry.whole(seeds))
        there, asked = there + whole, asked + replicates
        if whole < replicates:
            gaps.append(Gap(place(study, cell), whole, replicates, tuple(_failures(entry.among(seeds)))))
    return Progress(there, asked, tuple(gaps))


def _failures(trials: tuple[TrialRecord, ...]) -> Iterator[tuple[str, str]]:
    found: dict[str, list[int]] = {}
    for trial in trials:
        if trial.error:
            found.setdefault(failure(trial.error), []).append(trial.seed)
    return ((seed_names(seeds), error) for error, seeds in found.items())


@dataclass(frozen=True)
class RawRow:
    """A metric, or the time of the trainings."""

    metric: str
    of: str
    values: tuple[tuple[str, str] | None, ...]
    """By seed: the value as shown, and in full; None where there is none."""


@dataclass(frozen=True)
class RawCell:
    """All that was measured in a cell."""

    place: str
    rows: tuple[RawRow, ...]


def raw_values(study: Study, results: Results) -> tuple[tuple[int, ...], tuple[RawCell, ...]]:
    """All seeds of a study, and every cell that has values."""
    cells = (*study.cells(), *study.suspect_cells())
    last = max((study.seeds(cell).stop for cell in cells), default=study.first_seed)
    seeds = tuple(range(study.first_seed, last))
    found = (RawCell(place(study, cell), tuple(_rows(study, results, cell, seeds))) for cell in cells)
    return seeds, tuple(one for one in found if one.rows)


def _rows(study: Study, results: Results, cell: Cell, seeds: tuple[int, ...]) -> Iterator[RawRow]:
    entry = results.cell(cell)
    if entry is None:
        return
    own = study.seeds(cell)
    measuring = (*study.mechanisms(), *study.measures) if not cell.suspect else cell.combination
    owners: tuple[Named | None, ...] = (None, *measuring)
    for of in owners:
        for metric in results.metrics(cell, of):
            found = dict(results.by_seed(cell, of, metric.name, own))
            if found:
                values = tuple(_both(found[seed]) if seed in found else None for seed in seeds)
                yield RawRow(metric.symbol, study.label(of) if of else "", values)
    times = {trial.seed: trial.seconds for trial in entry.trials if trial.seconds is not None}
    if times:
        spent = tuple(_both(times[seed]) if seed in own and seed in times else None for seed in seeds)
        yield RawRow("training (s)", "", spent)


def _both(value: float) -> tuple[str, str]:
    return f"{value:.5g}", repr(value)  # the shortest text that is read back as the same number


@dataclass(frozen=True)
class Table:
    """Rows of texts below a head."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def recipe_table(study: Study, results: Results) -> Table:
    """Every field of every recipe as it was trained; only those fields once that are the same everywhere."""
    made = {study.recipe_label(recipe): _recipe(study, results, recipe) for recipe in study.recipes}
    names = list(dict.fromkeys(name for fields in made.values() for name in fields))
    rows = [(name.replace("_", " "), *(_text(name, fields.get(name)) for fields in made.values())) for name in names]
    return Table(("", *made), tuple(rows))


def _recipe(study: Study, results: Results, recipe: Named) -> Mapping[str, Any]:
    entry = results.cell(Cell(recipe, (), study.alone))
    return entry.recipe if entry else {"dataset": recipe.name, **dict(recipe.options)}


def _text(name: str, value: Any) -> str:
    """None is what a recipe leaves to the data set, or to the number of epochs of the unprotected model."""
    if value is None:
        return "the same" if name == "protected_epochs" else "all" if name.endswith("examples") else "-"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def environment_table(results: Results) -> Table:
    """Versions and machines, a column for each that took part."""
    every = results.environments
    names = list(dict.fromkeys(name for one in every for name in one))
    head = ("", *(f"machine {number}" if len(every) > 1 else "machine" for number, _ in enumerate(every, 1)))
    return Table(head, tuple((name, *(str(one.get(name, "-")) for one in every)) for name in names))
