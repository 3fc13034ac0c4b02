"""The figure `sweep`: every judged metric over a numeric option that a study gives several values of."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from guardclash.errors import UserError
from guardclash.judging.criteria import Absolute
from guardclash.judging.rules import Rule
from guardclash.judging.stats import Sample
from guardclash.records.cells import Cell, braces
from guardclash.records.results import Results
from guardclash.reporting.entries import Column, Verdicts, columns_of, judgement_of, limit_of, verdicts_of
from guardclash.reporting.figure_parts.spread import Spread, spread_of
from guardclash.reporting.figure_parts.style import BEYOND, COLOURS, EDGE, GUIDE, LOOKS, MARKERS, PAGE, QUIET, plain
from guardclash.reporting.missing import unfinished
from guardclash.reporting.swept import Series, SweptOption, sweeps_of
from guardclash.studies.study import Study
from guardclash.studies.verdicts import alone, judged_sample

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDE = 20
"""An option is drawn on a logarithmic scale if its largest value is so many times its smallest."""


@dataclass(frozen=True)
class SweepPoint:
    """A metric at one value of the option."""

    option: float
    values: Sample
    reference: Sample
    """Alone, or of the unprotected model."""
    limit: float | None


@dataclass(frozen=True)
class SweepLine:
    """A metric over the option, all else alike."""

    label: str
    points: tuple[SweepPoint, ...]


@dataclass(frozen=True)
class SweepPanel:
    """A metric."""

    column: Column
    lines: tuple[SweepLine, ...]

    @property
    def samples(self) -> list[Sample]:
        """All that is drawn."""
        points = [point for line in self.lines for point in line.points]
        return [one for point in points for one in (point.values, point.reference) if math.isfinite(one.mean)]


@dataclass(frozen=True)
class Strip:
    """A sweep on one recipe: its metrics side by side."""

    title: str
    option: str
    panels: tuple[SweepPanel, ...]


def sweep(study: Study, results: Results, rule: Rule) -> Figure:
    """A row of panels for every sweep and recipe, a panel for each judged metric.

    Of two options that are swept together, the one with more values is the axis, and the other makes lines. A mechanism
    that is swept alone too has no row of its own where it stands in a combination: it is the second line there.

    Args:
        study: What was asked.
        results: What is measured so far.
        rule: Of no effect: limits are the same under every rule.

    Raises:
        UserError: Nothing is swept, or nothing of it is measured.
    """
    from matplotlib.figure import Figure

    strips = list(_strips(study, results))
    if not strips:
        mend = 'Give a mechanism several values of a number, as in { name = "a", sweep = { option = [1, 2] } }; run it.'
        raise UserError("the study has no measured sweep of a numeric option", where=study.name, mend=mend)
    across = max(len(strip.panels) for strip in strips)
    figure = Figure(figsize=(max(PAGE, 1.9 * across), 0.9 + 1.85 * len(strips)), layout="constrained")
    rows = figure.subplots(len(strips), across, squeeze=False)
    spread = spread_of((one for strip in strips for panel in strip.panels for one in panel.samples), study.level)
    labels = list(dict.fromkeys(line.label for strip in strips for panel in strip.panels for line in panel.lines))
    for strip, row in zip(strips, rows, strict=True):
        for panel, axes in zip(strip.panels, row, strict=False):
            _draw(axes, panel, strip.option, spread, labels)
        for axes in row[len(strip.panels) :]:
            axes.set_visible(False)
        _name(row[0], strip.title)
    figure.suptitle(plain(f"{study.name}: judged metrics over swept options"), x=0.005, ha="left", fontsize=7)
    _legend(figure, labels, spread, unfinished(study, results))
    return figure


# What is drawn


def _strips(study: Study, results: Results) -> Iterator[Strip]:
    found, columns = verdicts_of(study, results), columns_of(study, results)
    seen: dict[str, set[str]] = {}
    for recipe, axis, lines in _groups(study):
        cells = {cell.key for line in lines for _, cell in line.points}
        drawn = seen.setdefault(recipe, set())
        panels = tuple(_panels(study, results, found, lines, columns))
        if panels and not cells <= drawn:
            combination = lines[0].points[0][1].combination
            yield Strip(f"{recipe} {braces(named.name for named in combination)}", axis.label, panels)
        drawn |= cells


def _groups(study: Study) -> list[tuple[str, SweptOption, list[Series]]]:
    """Recipe, option and lines of every sweep; of a recipe the options with most values first."""
    groups: list[tuple[str, SweptOption, list[Series]]] = []
    for swept in sweeps_of(study):
        by_names: dict[tuple[str, ...], list[Series]] = {}
        for series in swept.series:
            names = tuple(named.name for named in series.points[0][1].combination)
            by_names.setdefault(names, []).append(series)
        together = [names for names in by_names if len(names) > 1]
        groups += [(swept.recipe, swept.axis, by_names[names]) for names in together or by_names]
    order = list(dict.fromkeys(recipe for recipe, *_ in groups))
    return sorted(groups, key=lambda group: (order.index(group[0]), -max(len(line.points) for line in group[2])))


def _panels(
    study: Study, results: Results, found: Verdicts, lines: Sequence[Series], columns: Sequence[Column]
) -> Iterator[SweepPanel]:
    for column in columns:
        drawn = []
        for series in lines:
            points = (_point(study, results, found, cell, column, option) for option, cell in series.points)
            drawn.append(SweepLine(series.label, tuple(point for point in points if point)))
        there = tuple(line for line in drawn if len(line.points) > 1)
        if there:
            yield SweepPanel(column, there)


def _point(
    study: Study, results: Results, found: Verdicts, cell: Cell, column: Column, option: float
) -> SweepPoint | None:
    own = next((named for named in cell.combination if named.name == column.of), None)
    if column.of is not None and own is None:
        return None
    values = judged_sample(study, results, cell, own, column.metric)
    if not math.isfinite(values.mean):
        return None  # nothing is there yet, or it has no bound
    judgement = judgement_of(study, found, cell, column)
    if judgement:
        limit = limit_of(judgement, -1 if column.metric.higher_is_better else 1)
        return SweepPoint(option, values, judgement.alone, limit)
    criterion = dict(study.criteria).get(column.metric.name, column.metric.criterion)
    unprotected = Cell(cell.recipe, (), study.alone)
    before = alone(cell, own, study) if own and len(cell.combination) > 1 else unprotected
    reference = judged_sample(study, results, before, own, column.metric)
    return SweepPoint(option, values, reference, criterion.threshold if isinstance(criterion, Absolute) else None)


# Drawing


def _draw(axes: Axes, panel: SweepPanel, option: str, spread: Spread, labels: Sequence[str]) -> None:
    metric = panel.column.metric
    whose = f" of {panel.column.of}" if panel.column.of else ""
    axes.set_title(plain(f"{metric.symbol}{whose}"), pad=3, fontsize=7)
    axes.set_xlabel(plain(option), fontsize=6)
    _scale(axes, panel)
    axes.grid(color=GUIDE, linewidth=0.4)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=6)
    references = {tuple(_path(line, spread)[1]) for line in panel.lines}
    for line in panel.lines:
        number = labels.index(line.label)
        colour = COLOURS[number % len(COLOURS)]
        quiet = LOOKS[""].colour if len(references) == 1 else colour
        there, before = _path(line, spread)
        _draw_reference(axes, before, quiet)
        _draw_path(axes, there, {"color": colour, "marker": MARKERS[number % len(MARKERS)]})
    _draw_limits(axes, panel, labels)


def _scale(axes: Axes, panel: SweepPanel) -> None:
    """Ticks where the values of the option are."""
    options = sorted({point.option for line in panel.lines for point in line.points})
    if options[0] > 0 and options[-1] / options[0] >= WIDE:
        axes.set_xscale("log")
    axes.set_xticks(options, [f"{option:g}" for option in options])
    axes.minorticks_off()


def _path(line: SweepLine, spread: Spread) -> tuple[list[tuple[float, ...]], list[tuple[float, ...]]]:
    """Option, mean, and the ends of the band: of the values, and of what they are held against."""

    def of(option: float, values: Sample) -> tuple[float, ...]:
        return option, values.mean, *spread.ends(values)

    references = [of(point.option, point.reference) for point in line.points if math.isfinite(point.reference.mean)]
    return [of(point.option, point.values) for point in line.points], references


def _draw_path(axes: Axes, path: Sequence[tuple[float, ...]], look: dict[str, Any]) -> None:
    if path:
        options, means, lows, highs = zip(*path, strict=True)
        axes.fill_between(options, lows, highs, color=look["color"], alpha=0.15, linewidth=0)
        axes.vlines(options, lows, highs, color=look["color"], linewidth=0.7)
        axes.plot(options, means, **{"linewidth": 1, "markersize": 4, **EDGE, **look})


def _draw_reference(axes: Axes, path: Sequence[tuple[float, ...]], colour: str) -> None:
    """With bars instead of a band, which would look like what lies beyond a limit."""
    if path:
        options, means, lows, highs = zip(*path, strict=True)
        axes.vlines(options, lows, highs, color=colour, linewidth=0.7)
        axes.plot(options, means, color=colour, linestyle=(0, (4, 1.5)), marker="d", linewidth=1, markersize=4, **EDGE)


def _draw_limits(axes: Axes, panel: SweepPanel, labels: Sequence[str]) -> None:
    """What lies beyond is grey where all lines have the same limit."""
    limits = {line.label: [(p.option, p.limit) for p in line.points if p.limit is not None] for line in panel.lines}
    same = len({tuple(limit) for limit in limits.values()}) == 1
    for label, limit in list(limits.items())[: 1 if same else None]:
        if not limit:
            continue
        options, numbers = zip(*limit, strict=True)
        colour = QUIET if same else COLOURS[labels.index(label) % len(COLOURS)]
        axes.plot(options, numbers, color=colour, linewidth=1, linestyle=(0, (1, 1)), zorder=1.5)
        if same:
            low, high = axes.get_ylim()
            far = low if panel.column.metric.higher_is_better else high
            axes.fill_between(options, numbers, far, color=BEYOND, zorder=0.4)  # below the bands
            axes.set_ylim(low, high)


def _name(axes: Axes, title: str) -> None:
    """Above the titles of the panels, at the left edge; an empty line of the first title makes room."""
    axes.set_title(f"\n{axes.get_title()}", pad=3, fontsize=7)
    place: dict[str, Any] = {"xycoords": ("figure fraction", "axes fraction"), "textcoords": "offset points"}
    label = axes.annotate(plain(title), (0, 1), xytext=(3, 14), **place, weight="bold", annotation_clip=False)
    label.set_in_layout(False)


def _legend(figure: Figure, labels: Sequence[str], spread: Spread, missing: str | None) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = []
    for number, label in enumerate(labels):
        colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
        handles.append(Line2D([], [], label=plain(label), color=colour, marker=marker, markersize=4, **EDGE))
    quiet: dict[str, Any] = {"color": LOOKS[""].colour, "linewidth": 1}
    handles += [
        Line2D(
            [], [], label="what it is held against", linestyle=(0, (4, 1.5)), marker="d", markersize=4, **quiet, **EDGE
        ),
        Line2D([], [], label="limit", linestyle=(0, (1, 1)), color=QUIET, linewidth=1),
        Patch(facecolor=BEYOND, edgecolor="none", label="beyond the limit"),
    ]
    caption = (
        f"Lines are means over seeds; bands and bars: {spread.words}.\n"
        "Dashed: combinations are held against the mechanism alone (accuracy against the lowest of all alone), "
        "mechanisms alone against the unprotected model." + (f"\nNot finished: {missing}." if missing else "")
    )
    place: dict[str, Any] = {"loc": "outside lower left", "ncols": 3, "frameon": False, "alignment": "left"}
    figure.legend(handles=handles, title=caption, title_fontsize=6, **place)
