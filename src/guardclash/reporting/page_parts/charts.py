"""Charts as shapes with places, which write themselves: a page has thousands, and a template takes a third longer.

Lengths are in units of the drawing, about a pixel each; y grows downwards.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from markupsafe import Markup, escape

from guardclash.reporting.page_parts.words import shown

WIDTH, LEFT, RIGHT = 380, 84, 14
"""Of a chart, of the room for names at its left, and of what stays free at its right."""
TOP = 18
"""What stays free above."""
TINY = 1e-300
"""What is smaller counts as 0: it has no tenth."""


@dataclass(frozen=True)
class Line:
    """A straight line."""

    x1: float
    y1: float
    x2: float
    y2: float
    look: str

    def svg(self) -> str:
        """As an element."""
        x1, y1, x2, y2 = map(plain, (self.x1, self.y1, self.x2, self.y2))
        return f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" class="{escape(self.look)}"/>'

    @property
    def path(self) -> str:
        """As a part of a path, along an axis by its letter."""
        x1, y1, x2, y2 = map(plain, (self.x1, self.y1, self.x2, self.y2))
        return f"M{x1} {y1}" + (f"V{y2}" if x1 == x2 else f"H{x2}" if y1 == y2 else f"L{x2} {y2}")


@dataclass(frozen=True)
class Box:
    """A filled rectangle."""

    x: float
    y: float
    width: float
    height: float
    look: str

    def svg(self) -> str:
        """As an element."""
        x, y, width, height = map(plain, (self.x, self.y, self.width, self.height))
        return f'<rect x="{x}" y="{y}" width="{width}" height="{height}" class="{escape(self.look)}"/>'


@dataclass(frozen=True)
class Dot:
    """One replicate; `title` is what a pointer over it shows."""

    x: float
    y: float
    title: str
    look: str

    def svg(self) -> str:
        """As an element."""
        x, y, title = plain(self.x), plain(self.y), escape(shown(self.title))
        return f'<circle cx="{x}" cy="{y}"><title>{title}</title></circle>'


@dataclass(frozen=True)
class Outline:
    """A marker or a line through points, as SVG writes paths."""

    path: str
    look: str

    def svg(self) -> str:
        """As an element."""
        return f'<path d="{escape(self.path)}" class="{escape(self.look)}"/>'


@dataclass(frozen=True)
class Label:
    """A text; `anchor` is "start", "middle" or "end"."""

    x: float
    y: float
    text: str
    anchor: str
    look: str

    def svg(self) -> str:
        """As an element."""
        return self.text_only.replace("<text", f'<text class="{escape(_classes(self))}"', 1)

    @property
    def text_only(self) -> str:
        """Without its classes, which an element around it has."""
        return f'<text x="{plain(self.x)}" y="{plain(self.y)}">{escape(shown(self.text))}</text>'


Shape = Line | Box | Dot | Outline | Label


@dataclass(frozen=True)
class Chart:
    """A drawing, and what it must say of itself where it stands alone."""

    name: str
    """Of the file when it is downloaded, behind that of the study and of the part of its page."""
    height: float
    shapes: tuple[Shape, ...]
    head: str
    """Stands above the drawing where that is a file of its own, which the page's script makes."""
    told: str
    """What it shows, for those who do not see it: goes on where the head ends."""
    notes: str
    """Stand below the drawing in a file of its own."""
    width: float = WIDTH

    @property
    def view(self) -> str:
        """The part that a page shows, as an SVG viewBox."""
        return f"0 0 {plain(self.width)} {plain(self.height)}"

    @property
    def letters(self) -> int:
        """Of the head, as scripts count them."""
        return len(self.head.encode("utf-16-le")) // 2

    @property
    def drawn(self) -> Markup:
        """Its shapes; those beside each other that look the same share an element, for a page has ten thousands."""
        runs = ((kind, [*run]) for kind, run in groupby(self.shapes, lambda one: (type(one), _classes(one))))
        return Markup("".join(f"{text}\n" for (_, look), run in runs for text in _run(look, run)))  # each is escaped


def _classes(shape: Shape) -> str:
    return f"{shape.anchor} {shape.look}" if isinstance(shape, Label) else shape.look


def _run(look: str, run: Sequence[Shape]) -> Iterator[str]:
    """Elements of shapes of one kind and look."""
    if isinstance(run[0], Line) and len(run) > 1:
        yield Outline("".join(one.path for one in run if isinstance(one, Line)), look).svg()
    elif isinstance(run[0], Dot):
        yield f'<g class="dot {escape(look)}">{"".join(one.svg() for one in run)}</g>'
    elif isinstance(run[0], Label) and len(run) > 1:
        yield f'<g class="{escape(look)}">{"".join(one.text_only for one in run if isinstance(one, Label))}</g>'
    else:
        yield from (one.svg() for one in run)


@dataclass(frozen=True)
class Axis:
    """From values to places: linear, or by logarithms."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def step(self, value: float) -> float:
        """What the axis is linear in: the value, or its logarithm to base 10."""
        return math.log10(value) if self.log else float(value)

    def place(self, value: float) -> float:
        """Where a value is drawn; what lies beyond an end, at that end."""
        low, high = self.step(self.low), self.step(self.high)
        share = (self.step(min(max(value, self.low), self.high)) - low) / (high - low)
        return self.start + share * (self.end - self.start)

    def shows(self, value: float) -> bool:
        """Whether a value lies between the ends."""
        return self.low <= value <= self.high


def plain(number: float) -> str:
    """A place as short as it can be told apart.

    Example:
        >>> plain(12.0), plain(3.14159), plain(-0.01)
        ('12', '3.1', '0')
    """
    text = f"{number:.1f}".removesuffix(".0")
    return "0" if text == "-0" else text


def ticks(low: float, high: float, most: int = 5) -> tuple[tuple[float, str], ...]:
    """Round numbers between two ends, with their texts: at most `most`, at steps of 1, 2 or 5 times a power of ten.

    Example:
        >>> [text for _, text in ticks(0.31, 1.02)]
        ['0.4', '0.6', '0.8', '1.0']
    """
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    # So many steps hold one tick more, at worst. A span is `most` to 10 times `most` powers, so that one factor fits.
    step = next(power * factor for factor in (1, 2, 5, 10, 20) if (high - low) / (power * factor) <= most - 0.5)
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))  # of a power of ten, log10 may be a little too small
    # Rounding must not take away a tick that lies on an end.
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return tuple((n * step, f"{n * step:.{decimals}f}") for n in range(first, last + 1))


def log_ticks(low: float, high: float, most: int = 8) -> tuple[tuple[float, str], ...]:
    """As `ticks`, of an axis by logarithms: powers of ten, with their double and fivefold where these are few.

    Example:
        >>> [text for _, text in log_ticks(8, 1200)]
        ['10', '20', '50', '100', '200', '500', '1000']
    """
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps, factors in ((1, (1, 2, 5)), (1, (1,)), (2, (1,)), (4, (1,)), (25, (1,))):
        numbers = [factor * 10.0**power for power in powers if power % steps == 0 for factor in factors]
        found = [number for number in numbers if low <= number <= high]
        if len(found) <= most:
            # A single tick would tell no scale.
            return tuple((number, f"{number:g}") for number in found) if len(found) > 1 else ticks(low, high, most)
    return ticks(low, high, most)


def ends(values: Iterable[float], reaching: Iterable[float] = ()) -> tuple[float, float]:
    """The ends of an axis: all values, and what else is drawn as far as a third of what they span beyond them."""
    numbers = sorted(values)
    size, span = max(abs(numbers[0]), abs(numbers[-1])), numbers[-1] - numbers[0]
    if span <= max(1e-9 * size, TINY):  # all equal, but for rounding
        span = size if size > TINY else 1.0
    low, high = numbers[0] - span / 3, numbers[-1] + span / 3
    inside = [*numbers, *(min(max(value, low), high) for value in reaching)]
    return min(inside) - 0.06 * span, max(inside) + 0.06 * span  # dots at an end are drawn whole


def short(text: str, letters: int) -> str:
    """A text that fits, with an ellipsis for what is left out."""
    return text if len(text) <= letters else f"{text[: letters - 1]}…"
