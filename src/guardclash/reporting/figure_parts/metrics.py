"""The figure `metrics`: every seed of every cell by metric, means with intervals, limits and outcomes."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from guardclash.judging.stats import Sample
from guardclash.records.cells import Cell, Named, braces
from guardclash.reporting.entries import Column, Entry, cells_of, mean_interval
from guardclash.reporting.figure_parts.style import BEYOND, EDGE, GUIDE, LOOKS, PAGE, QUIET, RARE, ValueLook, plain
from guardclash.reporting.findings import Findings
from guardclash.reporting.reasons import ruling
from guardclash.reporting.tables import percent
from guardclash.studies.study import Study

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ROW = 0.12
"""Height in inches of a row: a line of small print."""
LONG = 38
"""Letters of a label; longer ones are shortened if they can be, and else broken into lines."""


def metrics(found: Findings) -> Figure:
    """A row of panels for every recipe, a column for every judged metric, in each panel all cells of the study."""
    from matplotlib.figure import Figure

    study, columns = found.study, found.columns
    names = _names(study)
    cells = {recipe: cells_of(study, recipe) for recipe in study.recipes}
    labels = [_label(cell, names) for cell in cells[study.recipes[0]]]
    places, height = _places(cells[study.recipes[0]], labels)
    size = max(PAGE, 2 + 1.2 * len(columns)), 0.8 + len(study.recipes) * (height * ROW + 0.33)
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(len(study.recipes), len(columns), sharex="col", squeeze=False)
    shown: list[Entry] = []
    for column, below in zip(columns, panels.T, strict=True):
        entries = [[found.entry(cell, column) for cell in cells[r]] for r in study.recipes]  # all, to share an axis
        ends = _ends([entry for of_recipe in entries for entry in of_recipe], study.level)
        for axes, of_recipe in zip(below, entries, strict=True):
            _draw(axes, list(zip(places, of_recipe, strict=True)), ends, study.level)
            axes.set_ylim(height, 0)  # rows go down
            axes.set_title(_heading(column, columns), pad=3, fontsize=7)
            shown += of_recipe
    for axes, recipe in zip(panels[:, 0], study.recipes, strict=True):
        axes.set_yticks(places, labels)
        _name_row(axes, study.recipe_label(recipe))
    head = f"{study.name}: {ruling(study)}"
    figure.suptitle(plain(head), x=0.005, ha="left", fontsize=7)
    _legend(figure, shown, _notes(study, shown, _order(study, names)))
    return figure


# Words


def _names(study: Study) -> dict[Named, str]:
    """Labels of mechanisms; where they are long, without the names of options that all variants give: see `_order`."""
    later = (named for combination in study.combinations for named in combination if named.later)
    labels = {named: study.label(named) for named in (*study.mechanisms(), *later)}
    if max(map(len, labels.values())) <= LONG // 2:
        return labels
    return {
        named: ("" if named.later else _shortened(named, _shared(study, named.name))) or label
        for named, label in labels.items()
    }


def _shared(study: Study, name: str) -> list[str]:
    """The options by which variants of a mechanism differ, if every variant gives them all."""
    variants = [dict(named.options) for named in study.mechanisms() if named.name == name]
    options = sorted({option for variant in variants for option in variant})
    differing = [option for option in options if len({repr(variant.get(option)) for variant in variants}) > 1]
    # Where a variant leaves one out, values alone would not tell which options they belong to.
    return differing if all(option in variant for variant in variants for option in differing) else []


def _shortened(named: Named, options: Sequence[str]) -> str:
    start = len(named.name) + 1
    # Of a label with this option only, "name(option=value)", the value.
    values = [named.label({option})[start + len(option) + 1 : -1] for option in options]
    return f"{named.name}({', '.join(values)})" if values else ""


def _order(study: Study, names: Mapping[Named, str]) -> str:
    """What shortened labels leave out."""
    shortened = {named.name for named, name in names.items() if name != study.label(named)}
    return "; ".join(f"{name}({', '.join(_shared(study, name))})" for name in sorted(shortened))


def _label(cell: Cell, names: Mapping[Named, str]) -> str:
    labels = [names[named] for named in cell.combination]
    label = braces(labels) if len(labels) > 1 else labels[0] if labels else "unprotected"
    return textwrap.fill(plain(label), LONG, subsequent_indent="  ")


def _heading(column: Column, columns: Iterable[Column]) -> str:
    alike = [other for other in columns if other.metric.symbol == column.metric.symbol]
    whose = f" ({column.of})" if len(alike) > 1 and column.of else ""
    return textwrap.fill(plain(column.metric.symbol + whose), LONG // 2)


def _notes(study: Study, shown: Sequence[Entry], order: str) -> str:
    there, asked = sum(entry.there for entry in shown), sum(entry.asked for entry in shown)
    unfinished = f"Not finished: {there} of {asked} values are measured; rows say how many of theirs."
    means = f"Markers are means with {percent(study.confidence)} intervals, dots are seeds"
    key = f"{means}; colour and shape: what the rule says of the metric."
    left_out = f"Names of options are left out: {plain(order)}."
    return "\n".join([key] + [left_out] * bool(order) + [unfinished] * (there < asked))


# Drawing


def _places(cells: Sequence[Cell], labels: Sequence[str]) -> tuple[list[float], float]:
    """The middle of every cell's rows, and the height of all, in rows; half a row keeps alone and together apart."""
    places, top, before = [], 0.25, 0
    for cell, label in zip(cells, labels, strict=True):
        kind, lines = min(len(cell.combination), 2), label.count("\n") + 1
        top += 0.5 * (kind != before)
        places.append(top + lines / 2)
        top, before = top + lines, kind
    return places, top + 0.25


def _ends(entries: Iterable[Entry], level: float) -> tuple[float, float]:
    """The ends of an axis: all values and limits, and wide intervals as far as a third of what they span."""
    drawn = list(entries)
    numbers = [number for entry in drawn for number in entry.numbers] or [0.0, 1.0]
    low, high = min(numbers), max(numbers)
    span = high - low or abs(high) or 1.0
    reach = [end for entry in drawn for one in entry.samples for end in mean_interval(one, level) or ()]
    low, high = max(min([low, *reach]), low - span / 3), min(max([high, *reach]), high + span / 3)
    return low - 0.05 * span, high + 0.05 * span


def _draw(axes: Axes, rows: Sequence[tuple[float, Entry]], ends: tuple[float, float], level: float) -> None:
    axes.set_xlim(ends)
    axes.locator_params(axis="x", nbins=5)
    axes.set_yticks([])
    axes.grid(axis="x", color=GUIDE, linewidth=0.4)
    axes.set_axisbelow(True)
    axes.hlines([place for place, _ in rows], *ends, color=GUIDE, linewidth=0.4, zorder=0.6)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelbottom=True, labelsize=6)
    for place, entry in rows:
        _draw_limit(axes, place, entry, ends)
        _draw_note(axes, place, entry, sum(ends) / 2)
    for outcome, look in LOOKS.items():
        # Outcome by outcome, because one call draws in one colour and shape.
        drawn = [(place, one) for place, entry in rows if entry.outcome == outcome for one in entry.samples if one.n]
        _draw_samples(axes, drawn, look, level)


def _draw_samples(axes: Axes, drawn: Sequence[tuple[float, Sample]], look: ValueLook, level: float) -> None:
    """Of all rows at once, which keeps files small. Means stand a little above the middle of a row, seeds below."""
    seeds = [(value, place + 0.26) for place, one in drawn for value in one.values]
    means = [(one.mean, place - 0.14) for place, one in drawn]
    intervals = [(place - 0.14, *ends) for place, one in drawn if (ends := mean_interval(one, level))]
    axes.plot(*_split(seeds), ".", color=look.colour, markersize=2.6, markeredgewidth=0, zorder=2)
    rows, lows, highs = _split(intervals, 3)
    axes.hlines(rows, lows, highs, color=look.colour, linewidth=1, zorder=3)
    axes.plot(*_split(means), look.marker, color=look.colour, markersize=look.size, zorder=4, **EDGE)


def _draw_limit(axes: Axes, place: float, entry: Entry, ends: tuple[float, float]) -> None:
    if entry.limit is not None:
        edge = ends[0] if entry.bad < 0 else ends[1]
        axes.barh(place, edge - entry.limit, 1, entry.limit, color=BEYOND, zorder=0.5)
        axes.plot((entry.limit,) * 2, (place - 0.5, place + 0.5), color=QUIET, linewidth=0.9, zorder=1.5)


def _draw_note(axes: Axes, place: float, entry: Entry, middle: float) -> None:
    """At the side where no values are."""
    if entry.note:
        left = any(one.mean > middle for one in entry.samples)
        x, side = (0.01, "left") if left else (0.99, "right")
        spot: dict[str, Any] = {"ha": side, "va": "bottom", "transform": axes.get_yaxis_transform()}
        axes.text(x, place, entry.note, fontsize=5.5, color=QUIET, **spot)


def _split(rows: Sequence[tuple[float, ...]], width: int = 2) -> list[list[float]]:
    return [[row[number] for row in rows] for number in range(width)]


def _name_row(axes: Axes, label: str) -> None:
    """Above the labels of the cells, at the left edge; the layout need not make room, as titles stand beside it."""
    coords = ("figure fraction", "axes fraction")
    place: dict[str, Any] = {"xycoords": coords, "xytext": (3, 3), "textcoords": "offset points"}
    axes.annotate(plain(label), (0, 1), **place, weight="bold", annotation_clip=False).set_in_layout(False)


def _legend(figure: Figure, shown: Sequence[Entry], notes: str) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    counts = Counter(entry.outcome for entry in shown if entry.limit is not None or entry.outcome)
    handles: list[Any] = []
    for outcome, look in LOOKS.items():
        if outcome in RARE and not counts[outcome]:
            continue
        words = f"{outcome} ({counts[outcome]})" if outcome else "unprotected or alone"
        style = {"color": look.colour, "marker": look.marker, "markersize": look.size, **EDGE}
        handles.append(Line2D([], [], linewidth=1, label=words, **style))
    handles.append(Line2D([], [], linestyle="", marker=".", markersize=3, color=LOOKS[""].colour, label="one seed"))
    handles.append(Patch(facecolor=BEYOND, edgecolor="none", label="beyond the limit"))
    figure.legend(
        handles=handles,
        loc="outside lower left",
        ncols=6,
        frameon=False,
        title=notes,
        title_fontsize=6,
        alignment="left",
    )
