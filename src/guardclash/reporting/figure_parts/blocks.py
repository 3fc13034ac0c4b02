"""What a matrix of verdicts is made of: rows of cells below heads of columns."""

from __future__ import annotations

from dataclasses import dataclass

from guardclash.judging.verdict import Verdict

HEIGHT, LINE = 0.34, 0.12
"""Inches of a verdict, and of a line of print."""

DrawnCell = tuple[tuple[str, Verdict], ...] | str
"""Verdicts, from top to bottom, each with the way in which the pair is trained; or why there are none."""


@dataclass(frozen=True)
class DrawnRow:
    """Cells beside a label."""

    label: str
    cells: tuple[DrawnCell, ...]

    @property
    def height(self) -> float:
        """In inches."""
        ways = [cell for cell in self.cells if not isinstance(cell, str) and any(words for words, _ in cell)]
        return max((len(cell) for cell in ways), default=1) * (HEIGHT + LINE * bool(ways))


@dataclass(frozen=True)
class MatrixBlock:
    """Rows below column heads, on one recipe or with recipes side by side."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[DrawnRow, ...]
