"""The figure `pareto`: the utility against every other judged metric, and what no other cell surpasses in both."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from guardclash.errors import UserError
from guardclash.judging.stats import Sample
from guardclash.records.cells import Named, braces
from guardclash.reporting.entries import Column, cells_of
from guardclash.reporting.figure_parts.spread import held, within
from guardclash.reporting.figure_parts.style import EDGE, GUIDE, LOOKS, PAGE, QUIET, RARE, plain
from guardclash.reporting.findings import Findings
from guardclash.reporting.tables import percent, utility_head
from guardclash.studies.study import Study

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ACROSS = 3
"""So many panels stand side by side."""
FRONT = "#009E73"
"""Colour of the line through what is not surpassed, and of the rings around it."""
RING: dict[str, Any] = {
    "linestyle": "",
    "marker": "o",
    "markersize": 8.5,
    "markerfacecolor": "none",
    "markeredgecolor": FRONT,
    "markeredgewidth": 1,
}
MARGIN = 0.2
"""Around what is drawn, as a share of it: numbers stand there."""
SIDE = 2.0, 1.75
"""About the width and height of a panel in inches, to keep numbers apart."""
TURNS = 40, 140, 320, 220, 65, 115, 245, 295, 20, 160, 340, 200
SPOTS = [
    (radius * math.cos(math.radians(turn)), radius * math.sin(math.radians(turn)))
    for radius in (7.5, 13, 19, 26)
    for turn in TURNS
]
"""Where a number may stand beside its point, in points of print: not on its bars. The first that is free is taken."""


@dataclass(frozen=True)
class ParetoPoint:
    """A cell."""

    number: int
    """Its place in the list below the panels."""
    useful: Sample
    """Of the task's utility."""
    values: Sample
    useful_interval: tuple[float, float] | None
    """Of its mean; None of a single value."""
    interval: tuple[float, float] | None
    outcome: str
    deployed: bool
    """Whether the model has the mechanism whose metric it is; else the value is a control."""


@dataclass(frozen=True)
class ParetoPanel:
    """A metric on one recipe."""

    title: str
    column: Column
    utility: Column
    points: tuple[ParetoPoint, ...]


def pareto(found: Findings) -> Figure:
    """A panel for every recipe and judged metric but the utility, in it a point for every cell.

    Raises:
        UserError: No cell has both the utility and another judged metric.
    """
    from matplotlib.figure import Figure

    study, columns = found.study, [column for column in found.columns if column.of]
    all_of = [
        _panel(found, recipe, utility, column)
        for recipe in study.recipes
        for utility in found.columns
        if utility.of is None  # only that of the recipe's own task has points
        for column in columns
    ]
    panels = [panel for panel in all_of if panel.points]
    if not panels:
        mend = "It takes the utility and a metric with a criterion, measured on the same models."
        raise UserError("the study has nothing to draw against the utility", where=study.name, mend=mend)
    key = _key(study, panels)
    rows = math.ceil(len(panels) / ACROSS)
    size = PAGE, 0.9 + 2.2 * rows + 0.11 * (key.count("\n") + 1)
    figure = Figure(figsize=size, layout="constrained")
    # At least two columns: a single panel would be as wide as the page.
    grid = figure.subplots(rows, min(ACROSS, max(2, len(panels))), squeeze=False).ravel()
    for panel, axes in zip(panels, grid, strict=False):
        _draw(axes, panel)
    for axes in grid[len(panels) :]:
        axes.set_visible(False)
    head = f"{study.name}: {utility_head(found.results)} against other judged metrics, rule {found.rule}"
    figure.suptitle(plain(head), x=0.005, ha="left", fontsize=7)
    missing = f"\nNot finished: {found.unfinished}." if found.unfinished else ""
    _legend(figure, panels, study.confidence, key + missing)
    return figure


# What is drawn


def _panel(found: Findings, recipe: Named, utility: Column, column: Column) -> ParetoPanel:
    points = []
    for number, cell in enumerate(cells_of(found.study, recipe), 1):  # as in `_key`, on every recipe
        first, entry = found.entry(cell, utility), found.entry(cell, column)
        deployed = any(named.name == column.of for named in cell.combination)
        pairs = [(one, other) for one in first.samples for other in entry.samples if one.n and other.n]  # see `Entry`
        points += [
            ParetoPoint(number, one, other, found.interval(one), found.interval(other), entry.outcome, deployed)
            for one, other in pairs
        ]
    return ParetoPanel(found.study.recipe_label(recipe), column, utility, tuple(points))


def front(panel: ParetoPanel) -> list[tuple[float, float]]:
    """Means that no other cell with the mechanism surpasses in both the utility and the metric, by the utility."""
    better = 1 if panel.column.metric.higher_is_better else -1
    more = 1 if panel.utility.metric.higher_is_better else -1
    means = [(more * point.useful.mean, better * point.values.mean) for point in panel.points if point.deployed]
    # From the most useful cell down, one is surpassed unless its metric beats all that are more useful.
    best, kept = -math.inf, []
    for x, y in sorted(means, reverse=True):
        if y > best:
            kept.append((more * x, better * y))
            best = y
    return kept[::-1]


def _key(study: Study, panels: Iterable[ParetoPanel]) -> str:
    """The numbers of the points in words."""
    shown = {point.number for panel in panels for point in panel.points}
    labels = []
    for number, cell in enumerate(cells_of(study, study.recipes[0]), 1):
        names = [study.label(named) for named in cell.combination]
        label = braces(names) if len(names) > 1 else names[0] if names else "unprotected"
        # Lines break between cells, not within the label of one.
        whole = plain(f"{number}: {label};").replace(" ", "\N{NO-BREAK SPACE}")
        labels += [whole] if number in shown else []
    return textwrap.fill(" ".join(labels).rstrip(";"), 130, break_on_hyphens=False)


# Drawing


def _draw(axes: Axes, panel: ParetoPanel) -> None:
    metric, utility = panel.column.metric, panel.utility.metric
    axes.set_title(plain(panel.title), pad=3, fontsize=7)
    axes.set_xlabel(plain(f"{utility.symbol} ({_wish(utility.higher_is_better)})"), fontsize=6)
    whose = f" of {panel.column.of}" if panel.column.of else ""
    axes.set_ylabel(plain(f"{metric.symbol}{whose} ({_wish(metric.higher_is_better)})"), fontsize=6)
    axes.grid(color=GUIDE, linewidth=0.4)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=6)
    axes.locator_params(nbins=5)
    line = front(panel)
    xs, ys = [x for x, _ in line], [y for _, y in line]
    # From the worst utility to the best: up to each point, whichever way the axis goes, it is the best there is.
    axes.step(xs, ys, where="pre", color=FRONT, linewidth=1.4, zorder=1.5)
    axes.plot(xs, ys, **RING)
    for point in panel.points:
        _draw_point(axes, point)
    axes.margins(MARGIN)
    if panel.points:
        across = (number for point in panel.points for number in held(point.useful, point.useful_interval))
        up = (number for point in panel.points for number in held(point.values, point.interval))
        axes.set_xlim(within(axes.get_xlim(), across, MARGIN))
        axes.set_ylim(within(axes.get_ylim(), up, MARGIN))
    _draw_numbers(axes, panel.points)


def _wish(higher: bool) -> str:
    return "more is better" if higher else "less is better"


def _draw_point(axes: Axes, point: ParetoPoint) -> None:
    look, x, y = LOOKS[point.outcome], point.useful.mean, point.values.mean
    axes.hlines(y, *(point.useful_interval or (x, x)), color=look.colour, linewidth=0.7, zorder=2)
    axes.vlines(x, *(point.interval or (y, y)), color=look.colour, linewidth=0.7, zorder=2)
    hollow = {} if point.deployed else {"markerfacecolor": "white", "markeredgecolor": look.colour}
    axes.plot(x, y, look.marker, color=look.colour, markersize=look.size, zorder=4, **{**EDGE, **hollow})


def _draw_numbers(axes: Axes, points: Sequence[ParetoPoint]) -> None:
    """Beside the points and apart from each other, as far as there is room; far ones are tied to their points."""
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    width, height = (72 * inches for inches in SIDE)
    # In points of print on a panel of about that size: the layout is not computed before all is drawn.
    places = [
        ((p.useful.mean - left) / (right - left) * width, (p.values.mean - low) / (high - low) * height) for p in points
    ]
    taken = list(places)  # no number on a point
    for point, (x, y) in zip(points, places, strict=True):
        free = (spot for spot in SPOTS if not any(_touch((x + spot[0], y + spot[1]), other) for other in taken))
        spot = next(free, SPOTS[0])  # without room, numbers overlap
        taken.append((x + spot[0], y + spot[1]))
        place: dict[str, Any] = {"textcoords": "offset points", "ha": "center", "va": "center", "zorder": 5}
        tie = {"arrowstyle": "-", "linewidth": 0.3, "color": QUIET, "shrinkA": 2, "shrinkB": 2}
        at = point.useful.mean, point.values.mean
        axes.annotate(str(point.number), at, xytext=spot, fontsize=5.5, arrowprops=tie, **place)


def _touch(number: tuple[float, float], other: tuple[float, float]) -> bool:
    """Two digits are wider than high."""
    return abs(number[0] - other[0]) < 7.5 and abs(number[1] - other[1]) < 6


def _legend(figure: Figure, panels: Sequence[ParetoPanel], confidence: float, key: str) -> None:
    from matplotlib.lines import Line2D

    outcomes = {point.outcome for panel in panels for point in panel.points}
    handles: list[Any] = [
        Line2D([], [], color=FRONT, label="not surpassed", **{**RING, "linestyle": "-", "linewidth": 1.4})
    ]
    for outcome, look in LOOKS.items():
        if outcome in outcomes or outcome not in RARE:
            style: dict[str, Any] = {"color": look.colour, "marker": look.marker, "markersize": look.size, **EDGE}
            handles.append(Line2D([], [], linewidth=0.7, label=outcome or "unprotected or alone", **style))
    look = LOOKS[""]
    style = {"marker": look.marker, "markersize": look.size, "markerfacecolor": "white", "linestyle": ""}
    handles.append(Line2D([], [], label="control: without the mechanism", markeredgecolor=look.colour, **style))
    caption = (
        f"{key}\nPoints are means over seeds; bars: {percent(confidence)} intervals of the means. "
        "Colour and shape: what the rule says of the metric.\n"
        "Line and rings: what no other cell with the mechanism surpasses in both; controls do not count."
    )
    place: dict[str, Any] = {"loc": "outside lower left", "ncols": 4, "frameon": False, "alignment": "left"}
    figure.legend(handles=handles, title=caption, title_fontsize=6, **place)
