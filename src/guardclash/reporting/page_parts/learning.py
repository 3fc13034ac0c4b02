"""How trainings went: the loss of each stream by epoch, a line for each seed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from guardclash.records.cells import Cell, braces
from guardclash.records.results import UNKNOWN, Results
from guardclash.reporting.page_parts.charts import Chart
from guardclash.reporting.page_parts.lines import Bundle, LineChart, Points, Scales, lines
from guardclash.reporting.page_parts.words import plural, slug, unique
from guardclash.studies.study import Study
from guardclash.studies.verdicts import alone

EPOCHS = 60
"""Points of a line at most: more cannot be told apart in a chart of this width."""


@dataclass(frozen=True)
class Runs:
    """The losses of one training, of all seeds that are there."""

    name: str
    plan: object
    """The same of equal trainings."""
    seeds: tuple[Mapping[str, tuple[float, ...]], ...]

    def of(self, stream: str) -> tuple[Points, ...]:
        """Epoch and loss of a stream, a line for each seed."""
        found = (tuple(enumerate(losses.get(stream, ()), 1)) for losses in self.seeds)
        return tuple(line for line in found if len(line) > 1 and all(math.isfinite(y) for _, y in line))  # not drawable


def learning_charts(study: Study, results: Results, cell: Cell) -> tuple[LineChart, ...]:
    """A chart for every stream of a combination and of what it is compared with; none of records without losses.

    Args:
        study: What was asked.
        results: What is measured so far.
        cell: A combination, held against each mechanism alone, or a mechanism alone, against the unprotected model.
    """
    runs = tuple(_merged(_runs(study, results, cell)))
    streams = list(dict.fromkeys(stream for one in runs for losses in one.seeds for stream in losses))
    place = f"{study.recipe_label(cell.recipe)} {braces(map(study.label, cell.combination))}"
    files = unique(f"loss-{slug(stream)}" for stream in streams)
    drawn = (_chart(stream, runs, place, file) for stream, file in zip(streams, files, strict=True))
    return tuple(one for one in drawn if one)


def _runs(study: Study, results: Results, cell: Cell) -> Iterator[Runs]:
    named = [("together", cell)]
    named += [(f"{study.label(one)} alone", alone(cell, one, study)) for one in cell.combination]
    if len(cell.combination) == 1:
        named = [("protected", cell), ("unprotected", Cell(cell.recipe, (), study.alone))]
    for name, where in named:
        losses = tuple(found for _, found in results.losses(where, study.seeds(where)))
        if losses:
            yield Runs(name, (results.cell(where) or UNKNOWN).plan, losses)


def _merged(found: Iterable[Runs]) -> Iterator[Runs]:
    """Equal trainings as one: where a mechanism changes no training, lines would hide each other."""
    groups: dict[object, list[Runs]] = {}
    for one in found:
        groups.setdefault(one.plan, []).append(one)
    for plan, same in groups.items():
        # Seeds begin with the same one, so the longest list holds those of the others.
        yield Runs(" = ".join(one.name for one in same), plan, max((one.seeds for one in same), key=len))


def _chart(stream: str, runs: Iterable[Runs], place: str, file: str) -> LineChart | None:
    drawn = [(number, one, there) for number, one in enumerate(runs) if (there := one.of(stream))]
    if not drawn:
        return None
    # Solid is what the section is about, dashed what that is compared with.
    bundles = [
        Bundle(f"{one.name} ({plural(len(there), 'seed')})", number, tuple(map(_thin, there)), dashed=number > 0)
        for number, one, there in drawn
    ]
    height, shapes = lines(bundles, Scales("epoch", whole=True))
    head = f"Loss of {stream} by epoch, {place}"
    said = "; ".join(_said(one.name, there) for one, (_, _, there) in zip(bundles, drawn, strict=True))
    longest = max(len(line) for _, _, there in drawn for line in there)
    notes = "Mean training loss of each epoch; lines are seeds."
    notes += f" Of {longest} epochs, {EPOCHS} are drawn." if longest > EPOCHS else ""
    chart = Chart(file, height, shapes, head, f": {said}.", notes)
    return LineChart(f"loss of {stream}", "by epoch", chart)


def _thin(line: Points) -> Points:
    """Points at even distances, the first and the last among them."""
    if len(line) <= EPOCHS:
        return line
    return tuple(line[round(number * (len(line) - 1) / (EPOCHS - 1))] for number in range(EPOCHS))


def _said(name: str, there: tuple[Points, ...]) -> str:
    first, last = (sum(line[end][1] for line in there) / len(there) for end in (0, -1))
    return f"{name} from {first:.3g} to {last:.3g} on average"
