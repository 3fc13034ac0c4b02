"""How each word of a report looks, in every form: one table. Meaning never goes through a colour.

The colour-blind tell the colours and fills apart, also by their lightness; shapes, symbols and LaTeX commands serve
prints without colours.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class WordLook:
    """Of a word that judges."""

    terminal: str
    """Style of text on a terminal."""
    colour: str
    """Of values in figures."""
    marker: str
    """Of means in figures."""
    size: float
    """Of that marker, in points."""
    ink: str
    """Of the symbol on a field of `fill`."""
    symbol: str
    command: str
    """Around a value in LaTeX."""
    fill: str
    """Of a field in a matrix."""


LOOKS = {
    "compatible": WordLook("green", "#0072B2", "o", 4.2, "white", "✓", r"\gcKept", "#0072B2"),
    "conflict": WordLook("bold red", "#D55E00", "X", 5, "white", "✗", r"\gcConflict", "#D55E00"),
    "does not train together": WordLook("bold red", "#D55E00", "X", 5, "white", "∞", r"\gcConflict", "#D55E00"),
    "not credible": WordLook("red", "#E69F00", "s", 4, "black", "‼", r"\gcNotCredible", "#E69F00"),
    "ineffective": WordLook("cyan", "#000000", "v", 4.8, "white", "∅", r"\gcIneffective", "#4d4d4d"),
    "not measured together": WordLook("yellow", "#882255", "P", 4.4, "black", "–", r"\gcUndecided", "#e3c6dc"),
    "undecided": WordLook("yellow", "#A6539A", "^", 4.8, "black", "?", r"\gcUndecided", "#e3c6dc"),
    "clash": WordLook("magenta", "#000000", "d", 4.2, "white", "⊘", "", "#000000"),
}
"""Of verdicts and judgements, by outcome."""
LIKE = {
    "detected": "compatible",
    "cleared": "compatible",
    "missed": "conflict",
    "removed with the model": "ineffective",
    "false claim": "conflict",
    "mixed": "undecided",
    "claimed": "compatible",
    "not claimed": "undecided",
    "fires": "not credible",
    "harmed": "conflict",
    "unharmed": "compatible",
    "improved": "compatible",
}
"""Words of ownership claims, their controls and side effects, and the outcome that each looks like."""


def look_of(word: str) -> WordLook | None:
    """How a word looks; None of what neither praises nor warns."""
    return LOOKS.get(LIKE.get(word, word))
