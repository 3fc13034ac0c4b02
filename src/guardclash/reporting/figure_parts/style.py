"""How figures look: sizes, colours, and shapes for prints without colours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from guardclash.reporting import looks
from guardclash.words import shown

PAGE = 7.2
"""Width in inches of a figure with few columns: that of a page's text."""


@dataclass(frozen=True)
class ValueLook:
    """How values are drawn: in colours that the colour-blind tell apart, and shapes for prints without colours."""

    colour: str
    marker: str
    size: float
    """Of the mean's marker, in points."""


LOOKS = {
    word: ValueLook(look.colour, look.marker, look.size)
    for word, look in looks.LOOKS.items()
    if word not in ("clash", "does not train together")
} | {"": ValueLook("#4d4d4d", "d", 4.2)}
"""By outcome; "" is what is not judged: the unprotected model and mechanisms alone."""
RARE = ("not measured together", "not credible", "ineffective")
"""The legend names them only where they occur."""
QUIET, BEYOND, GUIDE = "#6b6b6b", "#e7e7e7", "#e0e0e0"
"""Colours of notes, of what lies beyond a limit, and of lines that guide the eye."""
EDGE: dict[str, Any] = {"markeredgecolor": "white", "markeredgewidth": 0.4}
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#A6539A", "#E69F00", "#56B4E9", "#000000")
"""The colour-blind tell them apart."""
MARKERS = ("o", "X", "s", "^", "D", "v", "P", "<", "*", ">", "p")
"""Their number and that of colours have no common factor, so that pairs repeat late."""


def plain(text: str) -> str:
    """A text with what has no shape of its own (line ends, control characters) made visible."""
    return shown(text, lines=False)
