"""The figure `distances`: how close suspects' answers are to their victim's, over the number of images compared."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from guardclash.errors import UserError
from guardclash.records.cells import Cell, Named, Suspected, braces
from guardclash.records.results import UNKNOWN, Curve, Results
from guardclash.reporting.claims import ORIGIN
from guardclash.reporting.figure_parts.style import COLOURS, EDGE, GUIDE, MARKERS, PAGE, plain
from guardclash.reporting.findings import Findings
from guardclash.studies.study import Study

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ROWS = {
    "cosine": "1 − cosine similarity",
    "one_minus_l1": "L₁ distance",
    "one_minus_l2": "L₂ distance",
}
"""Drawn is 1 minus the curve, on a logarithmic scale: near models, which matter, would else be one line at the top."""
NEAREST = 1e-5
"""What is nearer than this is drawn here."""
COLUMNS = {
    "members": "images the owner trained on (A)",
    "others": "images the owner lacks (B)",
    "test": "test images",
    "random": "random noise",
}
"""A curve is named by its row and its column: "cosine_members"."""
FIRST = 10
"""Means of fewer images are not drawn, unless there are no more: they say more of chance than of the models."""


@dataclass(frozen=True)
class SuspectLine:
    """A suspect of one victim."""

    suspect: Suspected
    stolen: bool | None
    curves: dict[str, tuple[Curve, ...]]
    """By name, one for each seed that is there."""
    asked: int
    """Seeds planned."""

    @property
    def there(self) -> int:
        """Seeds that every curve has."""
        return min((len(curves) for curves in self.curves.values()), default=0)


@dataclass(frozen=True)
class Grid:
    """What is drawn of one victim."""

    title: str
    lines: tuple[SuspectLine, ...]


def distances(found: Findings) -> Figure:
    """A grid for every victim: a row for each distance, a column for each kind of images, a line for each suspect.

    Raises:
        UserError: There are no such curves.
    """
    from matplotlib.figure import Figure

    study = found.study
    grids = [grid for grid in _grids(study, found.results) if any(line.there for line in grid.lines)]
    if not grids:
        mend = "They come from suspects in a study like studies/model-distances.toml, once it was run."
        raise UserError("the study has no curves of distances", where=study.name, mend=mend)
    figure = Figure(figsize=(PAGE, 0.9 + 3.9 * len(grids)), layout="constrained")
    panels = figure.subplots(len(grids) * len(ROWS), len(COLUMNS), sharex=True, squeeze=False)
    for number, grid in enumerate(grids):
        _draw_grid(panels[number * len(ROWS) : (number + 1) * len(ROWS)], grid, study)
    head = f"{study.name}: how close the answers of suspects are to those of the victim"
    figure.suptitle(plain(head), x=0.005, ha="left", fontsize=7)
    _legend(figure, grids, study)
    return figure


# What is drawn


def _grids(study: Study, results: Results) -> Iterator[Grid]:
    victims: dict[tuple[Named, tuple[Named, ...]], list[Cell]] = {}
    for cell in study.suspect_cells():
        victims.setdefault((cell.recipe, cell.combination), []).append(cell)
    for (recipe, combination), cells in victims.items():
        title = study.recipe_label(recipe)
        if len(study.combinations) > 1:
            title += " " + braces(study.label(named) for named in combination)
        for of in combination:  # mechanisms without such curves give grids of nothing, which are dropped
            yield Grid(title, tuple(_lines(study, results, cells, of)))


def _lines(study: Study, results: Results, cells: Iterable[Cell], of: Named) -> Iterator[SuspectLine]:
    names = [f"{row}_{column}" for row in ROWS for column in COLUMNS]
    for cell in cells:
        if cell.suspect:
            seeds, known = study.seeds(cell), results.cell(cell) or UNKNOWN
            curves = {name: results.curves(cell, of, name, seeds) for name in names}
            yield SuspectLine(cell.suspect, known.stolen, curves, len(seeds))


def band(curves: Iterable[Curve], first: float = FIRST) -> list[tuple[float, float, float, float]]:
    """Curves of several seeds as one: x, and mean, smallest and largest value; from `first` on, if they go so far."""
    values: dict[float, list[float]] = {}
    for curve in curves:
        for x, y in curve:
            values.setdefault(x, []).append(y)
    first = min(first, max(values, default=0))
    return [(x, sum(ys) / len(ys), min(ys), max(ys)) for x, ys in sorted(values.items()) if x >= first]


# Drawing


def _draw_grid(panels: Any, grid: Grid, study: Study) -> None:
    for (row, title), across in zip(ROWS.items(), panels, strict=True):
        for column, axes in zip(COLUMNS, across, strict=True):
            _draw(axes, [(line, line.curves[f"{row}_{column}"]) for line in grid.lines], study)
        _share_ends(across[:-1])  # noise is another world
        across[0].set_ylabel(title)
    for axes, title in zip(panels[0], COLUMNS.values(), strict=True):
        axes.set_title(f"\n{title}", pad=3, fontsize=7)  # the line above is the grid's own title
    for axes in panels[-1]:
        axes.set_xlabel("number of images")
    place: dict[str, Any] = {"xycoords": ("figure fraction", "axes fraction"), "textcoords": "offset points"}
    label = panels[0][0].annotate(plain(grid.title), (0, 1), xytext=(3, 14), **place, weight="bold")
    label.set_in_layout(False)


def _draw(axes: Axes, lines: Sequence[tuple[SuspectLine, tuple[Curve, ...]]], study: Study) -> None:
    from matplotlib.ticker import StrMethodFormatter

    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.minorticks_off()
    axes.grid(color=GUIDE, linewidth=0.4)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=6, labelbottom=True)
    for line, curves in lines:
        points = band(curves)
        if points:
            xs = [x for x, *_ in points]
            # Turned around: the smallest y is the largest distance.
            means, highs, lows = ([max(1 - y, NEAREST) for y in ys] for ys in list(zip(*points, strict=True))[1:])
            look, number = _look(line, study), study.suspects.index(line.suspect)
            axes.fill_between(xs, lows, highs, color=look["color"], alpha=0.15, linewidth=0)
            axes.plot(xs, means, markevery=(number % 5, 5), **look)  # markers of lines that meet stand in turn


def _share_ends(across: Iterable[Axes]) -> None:
    """One scale for several panels, so that kinds of images can be compared."""
    panels = list(across)
    ends = [axes.get_ylim() for axes in panels]
    for axes in panels:
        axes.set_ylim(min(low for low, _ in ends), max(high for _, high in ends))
    for axes in panels[1:]:
        axes.tick_params(labelleft=False)


def _look(line: SuspectLine, study: Study) -> dict[str, Any]:
    """Colour and marker by suspect; lines of innocent ones are dashed."""
    number = study.suspects.index(line.suspect)
    style = (0, (4, 1.5)) if line.stolen is False else "-"
    colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
    return {"color": colour, "marker": marker, "linestyle": style, "linewidth": 1, "markersize": 4, **EDGE}


def _legend(figure: Figure, grids: Sequence[Grid], study: Study) -> None:
    from matplotlib.lines import Line2D

    shown = {line.suspect: line for grid in grids for line in grid.lines if line.there}
    handles = []
    for suspect in study.suspects:
        if line := shown.get(suspect):
            label = f"{study.suspect_label(suspect)} ({ORIGIN[line.stolen]})"
            handles.append(Line2D([], [], label=plain(label), **_look(line, study)))
    figure.legend(
        handles=handles,
        loc="outside lower left",
        ncols=3,
        frameon=False,
        title=_caption(grids, study),
        title_fontsize=6,
        alignment="left",
    )


def _caption(grids: Sequence[Grid], study: Study) -> str:
    lines = [
        f"Each point is a mean of so many first images, from {FIRST} on; lower is nearer. Noise has its own scale.",
        "Lines are means over seeds, bands reach from the smallest to the largest seed. Innocent suspects are dashed.",
    ]
    missing = [
        f"{study.suspect_label(line.suspect)} on {grid.title} ({line.there} of {line.asked} seeds)"
        for grid in grids
        for line in grid.lines
        if line.there < line.asked
    ]
    return "\n".join([*lines, *(f"Not there: {plain(one)}." for one in missing)])
