"""Charts of curves: means with intervals over a number that a study sweeps."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from guardclash.reporting.page_parts.charts import (
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Axis,
    Label,
    Line,
    Outline,
    Shape,
    ends,
    plain,
    ticks,
)


@dataclass(frozen=True)
class Curve:
    """A line through means, with the interval of each."""

    name: str
    points: tuple[tuple[float, float, tuple[float, float] | None], ...]
    """Place on the x axis, mean, and its interval, in the order of x."""


MARKERS = (
    "M{x} {y}m-3.5 0a3.5 3.5 0 1 0 7 0a3.5 3.5 0 1 0-7 0z",
    "M{x} {y}m-3.2-3.2h6.4v6.4h-6.4z",
    "M{x} {y}m0-4.4l4.2 7.2h-8.4z",
    "M{x} {y}m0-4.8l4 4.8l-4 4.8l-4-4.8z",
    "M{x} {y}m0 4.4l4.2-7.2h-8.4z",
)
"""Circle, square, triangle, diamond, triangle upside down; their number and that of colours have no common factor."""
COLOURS = 6
"""Of curves in the style sheet: hue-0, hue-1, ..."""
PLOT = 150
"""Height of the part in which curves are drawn."""


def curves(found: Sequence[Curve], x_name: str, bound: tuple[float, str] | None) -> tuple[float, tuple[Shape, ...]]:
    """Curves over a number: height and shapes, with a legend below.

    Args:
        found: At least one, with at least two points.
        x_name: What the x axis shows.
        bound: A fixed bound and its text.
    """
    xs = sorted({x for curve in found for x, _, _ in curve.points})
    means = [mean for curve in found for _, mean, _ in curve.points]
    reaching = [end for curve in found for _, _, both in curve.points for end in both or ()]
    low, high = ends([*means, *([bound[0]] if bound else [])], reaching)
    bottom = TOP + PLOT
    wide = Axis(xs[0], xs[-1], LEFT - 34, WIDTH - RIGHT - 10, log=xs[0] > 0 and xs[-1] / xs[0] >= 8)
    high_low = Axis(low, high, bottom, TOP)
    shapes: list[Shape] = [*_frame(wide, high_low, xs, bottom), *_bound(high_low, bound)]
    for number, curve in enumerate(found):
        beside = 3.0 * (number - (len(found) - 1) / 2)  # equal means must not hide each other
        shapes += _curve(wide, high_low, curve, number, min(max(beside, -8.0), 8.0))  # still near their option
        shapes += _legend(curve.name, number, bottom + 48 + 16 * number)
    shapes.append(Label((wide.start + wide.end) / 2, bottom + 30, x_name, "middle", "name"))
    return bottom + 42 + 16 * len(found), tuple(shapes)


def _frame(wide: Axis, high: Axis, xs: Sequence[float], bottom: float) -> Iterator[Shape]:
    for value, text in ticks(high.low, high.high):
        y = high.place(value)
        yield Line(wide.start - 8, y, wide.end + 8, y, "grid")
        yield Label(wide.start - 13, y + 4, text, "end", "tick")
    taken = -math.inf
    for x in xs:
        if wide.place(x) - taken >= 26:  # names must not touch
            taken = wide.place(x)
            yield Label(taken, bottom + 14, f"{x:g}", "middle", "tick")
    yield Line(wide.start - 8, bottom, wide.end + 8, bottom, "axis")


def _bound(high: Axis, bound: tuple[float, str] | None) -> Iterator[Shape]:
    if bound:
        y = high.place(bound[0])
        yield Line(LEFT - 42, y, WIDTH - RIGHT, y, "limit")
        yield Label(WIDTH - RIGHT, y - 4, bound[1], "end", "small")


def _curve(wide: Axis, high: Axis, curve: Curve, number: int, beside: float) -> Iterator[Shape]:
    look = f"hue-{number % COLOURS}"
    places = [(wide.place(x) + beside, high.place(mean)) for x, mean, _ in curve.points]
    yield Outline("M" + "L".join(f"{plain(x)} {plain(y)}" for x, y in places), f"curve {look}")
    for (x, y), (_, _, both) in zip(places, curve.points, strict=True):
        if both:
            yield Line(x, high.place(both[0]), x, high.place(both[1]), f"interval {look}")
        yield marker(x, y, number)


def marker(x: float, y: float, number: int) -> Outline:
    """The marker of a curve by its number, at a place."""
    return Outline(MARKERS[number % len(MARKERS)].format(x=plain(x), y=plain(y)), f"mean hue-{number % COLOURS}")


def _legend(name: str, number: int, y: float) -> Iterator[Shape]:
    yield Line(LEFT - 42, y, LEFT - 22, y, f"curve hue-{number % COLOURS}")
    yield marker(LEFT - 32, y, number)
    yield Label(LEFT - 16, y + 4, name, "start", "name")
