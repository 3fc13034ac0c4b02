"""The figure `sweep`: every judged metric over a numeric option that a study gives several values of."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from guardclash.errors import UserError
from guardclash.judging.stats import Sample
from guardclash.records.cells import braces
from guardclash.reporting.entries import Column
from guardclash.reporting.figure_parts.spread import held, within
from guardclash.reporting.figure_parts.style import BEYOND, COLOURS, EDGE, GUIDE, LOOKS, MARKERS, PAGE, QUIET, plain
from guardclash.reporting.findings import Findings
from guardclash.reporting.swept import Series, Sweep, SweptLine
from guardclash.reporting.tables import percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDE = 20
"""An option is drawn on a logarithmic scale if its largest value is so many times its smallest."""
MARGIN = 0.05
"""Around what is drawn, as a share of it."""


@dataclass(frozen=True)
class SweepPanel:
    """A metric."""

    column: Column
    lines: tuple[SweptLine, ...]


@dataclass(frozen=True)
class Strip:
    """A sweep on one recipe: its metrics side by side."""

    title: str
    option: str
    panels: tuple[SweepPanel, ...]


def sweep(found: Findings) -> Figure:
    """A row of panels for every sweep and recipe, a panel for each judged metric.

    Of two options that are swept together, the one with more values is the axis, and the other makes lines. A mechanism
    that is swept alone too has no row of its own where it stands in a combination: it is the second line there.

    Raises:
        UserError: Nothing is swept, or nothing of it is measured.
    """
    from matplotlib.figure import Figure

    study, strips = found.study, list(_strips(found))
    if not strips:
        mend = 'Give a mechanism several values of a number, as in { name = "a", sweep = { option = [1, 2] } }; run it.'
        raise UserError("the study has no measured sweep of a numeric option", where=study.name, mend=mend)
    across = max(len(strip.panels) for strip in strips)
    figure = Figure(figsize=(max(PAGE, 1.9 * across), 0.9 + 1.85 * len(strips)), layout="constrained")
    rows = figure.subplots(len(strips), across, squeeze=False)
    # Over all panels: a label has one colour in the whole figure.
    labels = list(dict.fromkeys(line.label for strip in strips for panel in strip.panels for line in panel.lines))
    for strip, row in zip(strips, rows, strict=True):
        for panel, axes in zip(strip.panels, row, strict=False):
            _draw(axes, panel, strip.option, labels)
        for axes in row[len(strip.panels) :]:
            axes.set_visible(False)
        _name(row[0], strip.title)
    figure.suptitle(plain(f"{study.name}: judged metrics over swept options"), x=0.005, ha="left", fontsize=7)
    _legend(figure, labels, study.confidence, found.unfinished)
    return figure


# What is drawn


def _strips(found: Findings) -> Iterator[Strip]:
    """Those that show a cell which none before them on the same recipe does."""
    seen: dict[str, set[str]] = {}
    for names, sweep in _groups(found):
        series = [one for one in sweep.series if _names(one) == names]
        cells = {cell.key for line in series for _, cell in line.points}
        drawn = seen.setdefault(sweep.recipe, set())
        panels = tuple(_panels(found, sweep, names))
        if panels and not cells <= drawn:
            yield Strip(f"{sweep.recipe} {braces(names)}", sweep.axis.label, panels)
        drawn |= cells  # in place: it is the set in `seen`


def _groups(found: Findings) -> list[tuple[tuple[str, ...], Sweep]]:
    """Which mechanisms of which sweep are drawn in a row; of a recipe the options with most values first."""
    groups: list[tuple[tuple[str, ...], Sweep]] = []
    for sweep in found.sweeps:
        combinations = list(dict.fromkeys(map(_names, sweep.series)))
        together = [names for names in combinations if len(names) > 1]
        groups += [(names, sweep) for names in together or combinations]
    order = list(dict.fromkeys(sweep.recipe for _, sweep in groups))

    def rank(group: tuple[tuple[str, ...], Sweep]) -> tuple[int, int]:
        names, sweep = group
        return order.index(sweep.recipe), -max(len(one.points) for one in sweep.series if _names(one) == names)

    return sorted(groups, key=rank)


def _names(series: Series) -> tuple[str, ...]:
    return tuple(named.name for named in series.points[0][1].combination)


def _panels(found: Findings, sweep: Sweep, names: tuple[str, ...]) -> Iterator[SweepPanel]:
    metrics = {(one.of, one.metric.name): one.lines for one in sweep.metrics}
    for column in found.columns:
        lines = metrics.get((column.of, column.metric.name), ())
        shown = tuple(line for line in lines if line.combination == names)
        if shown:
            yield SweepPanel(column, shown)


# Drawing


def _draw(axes: Axes, panel: SweepPanel, option: str, labels: Sequence[str]) -> None:
    metric = panel.column.metric
    whose = f" of {panel.column.of}" if panel.column.of else ""
    axes.set_title(plain(f"{metric.symbol}{whose}"), pad=3, fontsize=7)
    axes.set_xlabel(plain(option), fontsize=6)
    _scale(axes, panel)
    axes.grid(color=GUIDE, linewidth=0.4)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=6)
    references = {tuple(_path(line)[1]) for line in panel.lines}  # one for all lines is drawn in grey
    for line in panel.lines:
        number = labels.index(line.label)
        colour = COLOURS[number % len(COLOURS)]
        quiet = LOOKS[""].colour if len(references) == 1 else colour
        there, before = _path(line)
        _draw_reference(axes, before, quiet)
        _draw_path(axes, there, {"color": colour, "marker": MARKERS[number % len(MARKERS)]})
    _draw_limits(axes, panel, labels)
    axes.set_ylim(within(axes.get_ylim(), _numbers(panel), MARGIN))  # last: what is drawn moves the ends


def _numbers(panel: SweepPanel) -> Iterator[float]:
    """The values, those they are held against, and limits."""
    for point in (point for line in panel.lines for point in line.points):
        yield from held(point.values, point.interval)
        yield from filter(math.isfinite, held(point.reference, point.reference_interval))  # alone may have no bound
        yield from () if point.limit is None else (point.limit,)


def _scale(axes: Axes, panel: SweepPanel) -> None:
    """Ticks where the values of the option are."""
    options = sorted({point.option for line in panel.lines for point in line.points})
    if options[0] > 0 and options[-1] / options[0] >= WIDE:
        axes.set_xscale("log")
    axes.set_xticks(options, [f"{option:g}" for option in options])
    axes.minorticks_off()  # a logarithmic axis would name its own as well


Point = tuple[float, float, float, float]
"""Option, mean, and the ends of its interval; of a single value the mean itself."""


def _path(line: SweptLine) -> tuple[list[Point], list[Point]]:
    """Of the values, and of what they are held against."""

    def of(option: float, values: Sample, ends: tuple[float, float] | None) -> Point:
        return option, values.mean, *(ends or (values.mean, values.mean))

    return [of(point.option, point.values, point.interval) for point in line.points], [
        of(point.option, point.reference, point.reference_interval)
        for point in line.points
        if math.isfinite(point.reference.mean)
    ]


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
            axes.set_ylim(low, high)  # filling has moved them


def _name(axes: Axes, title: str) -> None:
    """Above the titles of the panels, at the left edge; an empty line of the first title makes room."""
    axes.set_title(f"\n{axes.get_title()}", pad=3, fontsize=7)
    place: dict[str, Any] = {"xycoords": ("figure fraction", "axes fraction"), "textcoords": "offset points"}
    label = axes.annotate(plain(title), (0, 1), xytext=(3, 14), **place, weight="bold", annotation_clip=False)
    label.set_in_layout(False)


def _legend(figure: Figure, labels: Sequence[str], confidence: float, missing: str | None) -> None:
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
        f"Lines are means over seeds; bands and bars: {percent(confidence)} intervals of the means.\n"
        "Dashed: combinations are held against the mechanism alone (the utility against the lowest of all alone), "
        "mechanisms alone against the unprotected model." + (f"\nNot finished: {missing}." if missing else "")
    )
    place: dict[str, Any] = {"loc": "outside lower left", "ncols": 3, "frameon": False, "alignment": "left"}
    figure.legend(handles=handles, title=caption, title_fontsize=6, **place)
