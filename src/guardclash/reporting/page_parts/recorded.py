"""Curves that were recorded of suspects, such as how far their answers are from the victim's over the images asked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from guardclash.records.cells import Cell, Named, braces
from guardclash.records.results import UNKNOWN, Results
from guardclash.reporting.claims import ORIGIN, suspects_of
from guardclash.reporting.figure_parts.distances import COLUMNS, FIRST, NEAREST, ROWS, band
from guardclash.reporting.page_parts.charts import Chart
from guardclash.reporting.page_parts.lines import Bundle, LineChart, Scales, lines, span_of
from guardclash.reporting.page_parts.words import slug, unique
from guardclash.studies.study import Study

DISTANCES = {f"{row}_{column}": (row, column) for row in ROWS for column in COLUMNS}
"""Curves that are drawn as the figure `distances` draws them; others are drawn as they are."""
APART = list(COLUMNS)[-1]
"""The kind of images with a scale of its own: noise is another world."""


@dataclass(frozen=True)
class Recorded:
    """One curve of all suspects of a combination."""

    name: str
    bundles: tuple[Bundle, ...]

    @property
    def distance(self) -> tuple[str, str] | None:
        """What is drawn by logarithms: which distance, over which kind of images; None of any other curve."""
        return DISTANCES.get(self.name)

    @property
    def group(self) -> tuple[str, bool, bool]:
        """Charts of one group share the y axis, so that kinds of images can be compared; whether by logarithms."""
        row, column = self.distance or (self.name, "")
        return row, column == APART, self.distance is not None


def recorded_charts(study: Study, results: Results, cell: Cell) -> tuple[LineChart, ...]:
    """A chart for every curve that was recorded of a combination's suspects, a line for each suspect.

    Args:
        study: What was asked.
        results: What is measured so far.
        cell: The combination on its recipe: the victim.
    """
    place = f"{study.recipe_label(cell.recipe)} {braces(map(study.label, cell.combination))}"
    found = [(of, one) for of in cell.combination for one in _recorded(study, results, cell, of)]
    groups: dict[tuple[str, bool, bool], list[Bundle]] = {}
    for _, one in found:
        groups.setdefault(one.group, []).extend(one.bundles)
    spans = {group: span_of(bundles, log=group[-1]) for group, bundles in groups.items()}
    files = unique(f"{slug(of.name)}-{slug(one.name)}-curve" for of, one in found)
    return tuple(
        _chart(one, spans[one.group], place, study.label(of), file)
        for (of, one), file in zip(found, files, strict=True)
    )


def _recorded(study: Study, results: Results, cell: Cell, of: Named) -> Iterator[Recorded]:
    suspects = suspects_of(study, cell)
    for name in dict.fromkeys(name for one in suspects for name in results.curve_names(one, of, study.seeds(one))):
        bundles = tuple(bundle for one in suspects if (bundle := _bundle(study, results, one, of, name)))
        if bundles:
            yield Recorded(name, bundles)


def _bundle(study: Study, results: Results, suspect: Cell, of: Named, name: str) -> Bundle | None:
    seeds, known = study.seeds(suspect), name in DISTANCES
    curves = results.curves(suspect, of, name, seeds)
    points = band(curves, FIRST if known else float("-inf"))  # of others, x need not count images
    if len(points) < 2 or suspect.suspect is None:
        return None
    stolen = (results.cell(suspect) or UNKNOWN).stolen
    label = f"{study.suspect_label(suspect.suspect)} ({ORIGIN[stolen]})"
    label += f", {len(curves)} of {len(seeds)} seeds" if len(curves) < len(seeds) else ""
    drawn = [(x, *(max(1 - y, NEAREST) if known else y for y in ys)) for x, *ys in points]
    mean = tuple((x, y) for x, y, _, _ in drawn)
    spread = tuple((x, min(both), max(both)) for x, _, *both in drawn)  # 1 - y has turned them around
    return Bundle(label, study.suspects.index(suspect.suspect), (mean,), spread, dashed=stolen is False)


def _chart(one: Recorded, span: tuple[float, float], place: str, of: str, file: str) -> LineChart:
    name, title, x_name = one.name, f"as {of} recorded it", "x"
    if one.distance:
        name, title, x_name = ROWS[one.distance[0]], COLUMNS[one.distance[1]], "number of images"
    xs = [x for bundle in one.bundles for line in bundle.lines for x, _ in line]
    log_x = min(xs) > 0 and max(xs) / min(xs) >= 8
    height, shapes = lines(one.bundles, Scales(x_name, log_x, one.distance is not None, span=span))
    head = f"{name}, {title}: suspects of {place}"
    said = "; ".join(f"{bundle.name} {bundle.lines[0][-1][1]:.3g}" for bundle in one.bundles)
    chart = Chart(file, height, shapes, head, f". At {max(xs):g}: {said}.", _notes(one))
    return LineChart(name, title, chart)


def _notes(one: Recorded) -> str:
    notes = "Lines are means over seeds, bands reach from the smallest to the largest seed. Dashed: innocent suspects."
    if one.distance:
        notes += f" Each point is a mean of so many first images, from {FIRST} on; lower is nearer."
    return notes
