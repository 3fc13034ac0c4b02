"""Charts of replicates: a row for each arm, dots for seeds, the mean with its interval, limit and band behind."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from guardclash.judging.stats import Sample
from guardclash.reporting.entries import mean_interval
from guardclash.reporting.page_parts.charts import (
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Axis,
    Box,
    Dot,
    Label,
    Line,
    Outline,
    Shape,
    ends,
    plain,
    ticks,
)

ROW, FOOT = 34, 22
"""Height of a row, and below the last one."""


@dataclass(frozen=True)
class Arm:
    """A row of a strip: replicates with their mean and its interval."""

    name: str
    points: tuple[tuple[str, float], ...]
    """What to call each replicate, and its value."""
    mean: float
    ends: tuple[float, float] | None
    text: str
    """The mean as a text."""
    look: str = "plain"


@dataclass(frozen=True)
class Guide:
    """The limit of a metric and what is allowed around it, in the units of the metric."""

    limit: float
    text: str
    band: tuple[float, float]
    """Shaded; an end may be infinite."""


def arm(name: str, sample: Sample, alpha: float, text: str, look: str = "plain") -> Arm:
    """Replicates as a row, with the interval of their mean at confidence 1 - 2 alpha."""
    seeds = zip(sample.seeds, sample.values, strict=False)
    points = tuple((f"seed {seed}: {value:.6g}", value) for seed, value in seeds)
    return Arm(name, points, sample.mean, mean_interval(sample, alpha), text, look)


def strip(arms: Sequence[Arm], guide: Guide | None, zero: float | None) -> tuple[float, tuple[Shape, ...]]:
    """Rows of replicates over one axis: height and shapes.

    Args:
        arms: From top to bottom; at least one has a value.
        guide: Drawn behind all of them.
        zero: Where a difference is 0, if one of the rows is a difference.
    """
    numbers = [value for one in arms for value in (one.mean, *(value for _, value in one.points))]
    reaching = [end for one in arms for end in one.ends or ()]
    low, high = ends([*numbers, *([guide.limit] if guide else [])], reaching)
    axis, values = Axis(low, high, LEFT, WIDTH - RIGHT), len(arms) - (zero is not None)
    middle = TOP + ROW * values
    bottom = middle if zero is None else middle + FOOT + ROW
    # From back to front, for SVG paints in this order.
    shapes: list[Shape] = [*_band(axis, guide, bottom), *_scale(axis, axis, TOP, middle)]
    if zero is not None:
        # A difference has an axis of its own, with its 0 below the mean alone: both are of one scale.
        own = Axis(low - zero, high - zero, axis.start, axis.end)
        shapes += _scale(axis, own, middle + FOOT, bottom)
    parts = [(TOP, middle)] if zero is None else [(TOP, middle), (middle + FOOT, bottom)]
    if zero is not None:
        shapes += _upright(axis.place(zero), [(TOP + ROW / 2, middle), *parts[1:]], "zero")
    shapes += _limit(axis, guide, parts)
    for number, one in enumerate(arms):
        shapes += _row(axis, one, TOP + ROW * number + FOOT * (number >= values))
    return bottom + FOOT, tuple(shapes)


def _band(axis: Axis, guide: Guide | None, bottom: float) -> Iterator[Shape]:
    if guide:
        first, last = (axis.place(value) for value in guide.band)
        yield Box(first, TOP, last - first, bottom - TOP, "band")


def _limit(axis: Axis, guide: Guide | None, parts: Sequence[tuple[float, float]]) -> Iterator[Shape]:
    if guide:
        for value in guide.band:
            if axis.shows(value) and value != guide.limit:
                yield from _upright(axis.place(value), parts, "edge")
        x = axis.place(guide.limit)
        # Near an edge the text grows inward, or it would be cut off.
        anchor = "start" if x < LEFT + 50 else "end" if x > WIDTH - RIGHT - 50 else "middle"
        yield from _upright(x, [(TOP - 3, parts[0][1]), *parts[1:]], "limit")
        yield Label(x, TOP - 6, guide.text, anchor, "small")


def _upright(x: float, parts: Sequence[tuple[float, float]], look: str) -> Iterator[Shape]:
    """A line down through the rows, but not through the numbers between them."""
    yield from (Line(x, top, x, bottom, look) for top, bottom in parts)


def _scale(axis: Axis, own: Axis, top: float, bottom: float) -> Iterator[Shape]:
    places = [(own.place(value), text) for value, text in ticks(own.low, own.high)]
    yield from (Line(x, top, x, bottom, "grid") for x, _ in places)  # beside each other, they share an element
    yield from (Label(x, bottom + 14, text, "middle", "tick") for x, text in places)
    yield Line(axis.start, bottom, axis.end, bottom, "axis")


def _row(axis: Axis, one: Arm, top: float) -> Iterator[Shape]:
    """Its name and mean at the left, the mean with its interval above the replicates."""
    middle, x = top + ROW / 2, axis.place(one.mean)
    height = middle - 4 if one.points else middle
    yield Label(LEFT - 10, middle - 2, one.name, "end", "name")
    yield Label(LEFT - 10, middle + 11, one.text, "end", "small")
    for number, (title, value) in enumerate(one.points):
        # On three heights in turn, so that equal values do not hide each other.
        yield Dot(axis.place(value), middle + 6 + (number % 3 - 1) * 2.5, title, one.look)
    if one.ends:
        first, last = (axis.place(end) for end in one.ends)
        yield Line(first, height, last, height, f"interval {one.look}")
        for end in one.ends:
            if axis.shows(end):  # an end that is cut off has no cap
                yield Line(axis.place(end), height - 3, axis.place(end), height + 3, f"interval {one.look}")
    yield Outline(f"M{plain(x)} {plain(height - 5)}l4 5l-4 5l-4-5z", f"mean {one.look}")
