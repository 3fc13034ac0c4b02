"""Charts as shapes with places, which write themselves: a page has thousands, and a template takes a third longer.

Lengths are in units of the drawing, about a pixel each; y grows downwards.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache

from markupsafe import Markup, escape

from guardclash.reporting.page_parts.words import shown

WIDTH, LEFT, RIGHT = 380, 84, 14
"""Of a chart, of the room for names at its left, and of what stays free at its right."""
TOP = 18
"""What stays free above."""
TINY = 1e-300
"""What is smaller counts as 0: it has no tenth."""
LINE = 13
"""Height of a line of text beside a chart that stands alone."""
LETTERS = 54
"""So many fit into such a line."""


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
        return f'<circle cx="{x}" cy="{y}" r="2.4" class="dot {escape(self.look)}"><title>{title}</title></circle>'


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
        looks, text = escape(f"{self.anchor} {self.look}"), escape(shown(self.text))
        return f'<text x="{plain(self.x)}" y="{plain(self.y)}" class="{looks}">{text}</text>'


Shape = Line | Box | Dot | Outline | Label


@dataclass(frozen=True)
class Chart:
    """A drawing, and what it must say of itself where it stands alone."""

    name: str
    """Of the file when it is downloaded, without suffix."""
    height: float
    shapes: tuple[Shape, ...]
    head: tuple[str, ...]
    """Lines above the drawing when it stands alone."""
    notes: tuple[str, ...]
    """Lines below, likewise."""
    title: str
    """What it shows, for those who do not see it."""
    width: float = WIDTH

    @property
    def view(self) -> str:
        """The part that a page shows, as an SVG viewBox."""
        return f"0 0 {plain(self.width)} {plain(self.height)}"

    @property
    def full(self) -> str:
        """With the lines above and below."""
        above, below = LINE * (len(self.head) + 0.5), LINE * (len(self.notes) + 0.5)
        return f"0 {plain(-above)} {plain(self.width)} {plain(self.height + above + below)}"

    @property
    def drawn(self) -> Markup:
        """Its shapes, and the lines around it."""
        return Markup("".join(f"{one.svg()}\n" for one in (*self.shapes, *self.lines)))  # each has escaped its own

    @property
    def lines(self) -> Iterator[Label]:
        """What stands outside of the part that a page shows."""
        for number, text in enumerate(reversed(self.head)):  # the last line is nearest to the drawing
            yield Label(6, -LINE * (number + 0.4), text, "start", "head")
        for number, text in enumerate(self.notes, 1):
            yield Label(6, self.height + LINE * (number - 0.2), text, "start", "note")


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


def wrapped(*texts: str) -> tuple[str, ...]:
    """Texts in lines that fit below or above a chart."""
    return tuple(line for text in texts for line in _lines(text))


@cache  # charts beside each other mostly say the same
def _lines(text: str) -> list[str]:
    return textwrap.wrap(text, LETTERS)
