"""Charts of lines: one for each seed, or the mean of several seeds in a band, over epochs or whatever was recorded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from guardclash.reporting.page_parts.charts import (
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Axis,
    Chart,
    Label,
    Line,
    Outline,
    Shape,
    ends,
    log_ticks,
    plain,
    short,
    ticks,
)
from guardclash.reporting.page_parts.curves import COLOURS, PLOT, marker

Points = tuple[tuple[float, float], ...]
"""Places (x, y), in the order of x."""
NAME = 52
"""Letters of a name in a legend."""
MARKED = 5
"""Every so many points, a line that stands for several seeds has a marker."""


@dataclass(frozen=True)
class LineChart:
    """A chart of lines with its caption."""

    name: str
    title: str
    chart: Chart


@dataclass(frozen=True)
class Bundle:
    """Lines that share a colour and a name: seeds of one training, or their mean in a band."""

    name: str
    number: int
    """Of its colour and its marker."""
    lines: tuple[Points, ...]
    band: tuple[tuple[float, float, float], ...] | None = None
    """x, and the ends of the band there; None: the lines are seeds."""
    dashed: bool = False


@dataclass(frozen=True)
class Scales:
    """What the axes of a chart of lines show."""

    x_name: str
    log_x: bool = False
    log_y: bool = False
    whole: bool = False
    """Whether x counts something: only whole numbers are named."""
    span: tuple[float, float] | None = None
    """Ends of the y axis where several charts share them; None: its own."""


def span_of(found: Sequence[Bundle], log: bool) -> tuple[float, float]:
    """The ends of a y axis on which all lines and bands can be drawn."""
    values = [y for one in found for line in one.lines for _, y in line]
    values += [end for one in found for _, *both in one.band or () for end in both]
    axis = Axis(min(values), max(values), 0, 1, log)  # for its `step` alone: margins are of logarithms, too
    low, high = ends(map(axis.step, values))
    return (10.0**low, 10.0**high) if log else (low, high)


def lines(found: Sequence[Bundle], scales: Scales) -> tuple[float, tuple[Shape, ...]]:
    """Lines over a number: height and shapes, with a legend below.

    Args:
        found: At least one; two points of all lines differ in x.
        scales: Of logarithms only where all values are above 0.
    """
    xs = [x for one in found for line in one.lines for x, _ in line]
    bottom = TOP + PLOT
    wide = Axis(min(xs), max(xs), LEFT - 34, WIDTH - RIGHT - 10, scales.log_x)
    high = Axis(*(scales.span or span_of(found, scales.log_y)), bottom, TOP, scales.log_y)
    shapes = [*_frame(wide, high, scales)]
    for one in reversed(found):  # the first one on top
        shapes += _bundle(wide, high, one)
    for place, one in enumerate(found):
        shapes += _legend(one, bottom + 48 + 16 * place)
    return bottom + 42 + 16 * len(found), tuple(shapes)


def _frame(wide: Axis, high: Axis, scales: Scales) -> Iterator[Shape]:
    for value, text in (log_ticks if high.log else ticks)(high.low, high.high):
        y = high.place(value)
        yield Line(wide.start - 8, y, wide.end + 8, y, "grid")
        yield Label(wide.start - 13, y + 4, text if len(text) < 7 else f"{value:.3g}", "end", "tick")  # no room
    for value, text in (log_ticks if wide.log else ticks)(wide.low, wide.high, 7):
        if not scales.whole or value == round(value):  # no epoch 2.5
            name = f"{value:g}" if scales.whole else text
            yield Label(wide.place(value), high.start + 14, name, "middle", "tick")
    yield Line(wide.start - 8, high.start, wide.end + 8, high.start, "axis")
    yield Label((wide.start + wide.end) / 2, high.start + 30, scales.x_name, "middle", "name")


def _bundle(wide: Axis, high: Axis, one: Bundle) -> Iterator[Shape]:
    hue, seeds = f"hue-{one.number % COLOURS}", one.band is None
    if one.band:
        there = [(x, last) for x, _, last in one.band]
        back = [(x, first) for x, first, _ in reversed(one.band)]
        yield Outline(_path(wide, high, [*there, *back]) + "z", f"spread {hue}")
    for line in one.lines:
        yield Outline(_path(wide, high, line), f"{'seed' if seeds else 'curve'} {'dashed ' * one.dashed}{hue}")
        for x, y in () if seeds else line[one.number % MARKED :: MARKED]:  # lines that meet show theirs in turn
            yield marker(wide.place(x), high.place(y), one.number)


def _path(wide: Axis, high: Axis, points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{plain(wide.place(x))} {plain(high.place(y))}" for x, y in points)


def _legend(one: Bundle, y: float) -> Iterator[Shape]:
    hue = f"hue-{one.number % COLOURS}"
    yield Line(LEFT - 48, y, LEFT - 20, y, f"curve {'dashed ' * one.dashed}{hue}")
    if one.band is not None:
        yield marker(LEFT - 34, y, one.number)
    yield Label(LEFT - 14, y + 4, short(one.name, NAME), "start", "name")
