"""The figure `matrix`: the verdict on every pair of mechanisms as a heat map, larger combinations below."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from guardclash.errors import UserError
from guardclash.judging.rules import OUTCOMES, Rule
from guardclash.judging.verdict import Verdict
from guardclash.records.cells import Cell, Named, braces
from guardclash.records.results import Results
from guardclash.reporting import looks
from guardclash.reporting.entries import Verdicts, verdicts_of
from guardclash.reporting.figure_parts.style import PAGE, QUIET, plain
from guardclash.reporting.missing import unfinished
from guardclash.reporting.pairs import asked_of, in_order, sides
from guardclash.reporting.reasons import ruling
from guardclash.studies.study import Study

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HEIGHT, LINE = 0.34, 0.12
"""Inches of a cell, and of a line of print."""
NARROW, WIDE = 0.95, 1.3
"""Inches across a cell: as narrow as words allow, and as wide as few columns are drawn."""
ACROSS = 5
"""So many cells may stand side by side; where they are more, every recipe has a matrix of its own."""
LABELS = 1.5
"""Inches across the labels of rows."""


@dataclass(frozen=True)
class CellLook:
    """How an outcome is filled, and its symbol, for those who see no colours."""

    fill: str
    ink: str
    symbol: str


LOOKS = {word: CellLook(look.fill, look.ink, look.symbol) for word, look in looks.LOOKS.items()}
"""By outcome. The colour-blind tell fills apart, also by their lightness."""
NEVER = CellLook("#f4f4f4", QUIET, "·")
"""Of pairs that the study does not ask for."""


@dataclass(frozen=True)
class DrawnRow:
    """Cells beside a label; each holds the verdicts to be drawn in it, or why there are none."""

    label: str
    cells: tuple[tuple[Verdict, ...] | str, ...]


@dataclass(frozen=True)
class MatrixBlock:
    """Rows below column heads, on one recipe or with recipes side by side."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[DrawnRow, ...]


def matrix(study: Study, results: Results, rule: Rule) -> Figure:
    """A matrix of the pairs for every recipe, then a list of the larger combinations with a column for every recipe.

    Args:
        study: What was asked.
        results: What is measured so far.
        rule: Whose outcomes are shown.

    Raises:
        UserError: The study combines nothing.
    """
    from matplotlib.figure import Figure

    blocks = [block for block in (*_pairs(study, results), _larger(study, results)) if block.rows]
    if not blocks:
        mend = "A combination takes two or more mechanisms."
        raise UserError("the study has no combinations, and so no verdicts to draw", where=study.name, mend=mend)
    across = max(len(block.heads) for block in blocks)
    cell = min(WIDE, max(NARROW, (PAGE - LABELS - 0.1) / across))
    caption, key = _caption(study, results, rule), _counts(blocks, rule)
    tops, height = _places(blocks, LINE * (caption.count("\n") + 1) + 0.15)
    size = max(PAGE, LABELS + across * cell + 0.1), height + 0.12 + 0.22 * -(-len(key) // 4)
    figure = Figure(figsize=size)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_xlim(0, size[0])
    axes.set_ylim(size[1], 0)
    axes.text(0.05, 0.06, caption, va="top")
    for block, top in zip(blocks, tops, strict=True):
        _draw_block(axes, block, top, cell, rule)
    _draw_key(axes, key, height + 0.04)
    return figure


# What is drawn


def _pairs(study: Study, results: Results) -> Iterator[MatrixBlock]:
    found, order, (rows, columns) = verdicts_of(study, results), in_order(study), sides(study)
    heads = tuple(study.label(column) for column in columns)
    places = study.recipes
    side_by_side = 1 < len(places) and len(places) * len(columns) <= ACROSS
    for group in [places] if side_by_side else [(place,) for place in places]:
        lines = []
        for row in rows:
            cells = (_slot(study, found, place, order, row, column) for column in columns for place in group)
            lines.append(DrawnRow(study.label(row), tuple(cells)))
        several = tuple(f"{head} on {study.recipe_label(place)}" for head in heads for place in group)
        yield MatrixBlock(
            "pairs" if side_by_side else study.recipe_label(group[0]), several if side_by_side else heads, tuple(lines)
        )


def _slot(
    study: Study, found: Verdicts, place: Named, order: Sequence[Named], row: Named, column: Named
) -> tuple[Verdict, ...] | str:
    """Verdicts of a pair: at once, and in each order that is asked for."""
    if row.name == column.name or order.index(row) > order.index(column):
        return ""
    cells = (Cell(place, combination, 0) for combination in asked_of(study, row, column))
    return tuple(found[cell.key] for cell in cells) or "not asked"


def _larger(study: Study, results: Results) -> MatrixBlock:
    found = verdicts_of(study, results)
    places = tuple(study.recipe_label(recipe) for recipe in study.recipes)
    rows = []
    for combination in study.combinations:
        labels = tuple(study.label(named) for named in combination)
        if len(labels) > 2:
            cells = (Cell(recipe, combination, 0) for recipe in study.recipes)
            rows.append(DrawnRow(braces(labels), tuple((found[cell.key],) for cell in cells)))
    return MatrixBlock("combinations of three or more", places, tuple(rows))


def _caption(study: Study, results: Results, rule: Rule) -> str:
    lines = [
        f"{study.name}: verdicts by {ruling(study)}",
        "Rows stand first in a pair, columns second. Below a word: what is broken, or how many values are missing.",
    ]
    missing = unfinished(study, results)
    return "\n".join(map(plain, lines + [f"Not finished: {missing}."] * bool(missing)))


def _counts(blocks: Sequence[MatrixBlock], rule: Rule) -> list[tuple[CellLook, str]]:
    """Every outcome, and how often it is there."""
    cells = [cell for block in blocks for row in block.rows for cell in row.cells]
    said = [verdict.outcome(rule) for cell in cells if not isinstance(cell, str) for verdict in cell]
    gaps = cells.count("not asked")
    key = [(LOOKS[outcome], f"{outcome} ({said.count(outcome)})") for outcome in OUTCOMES]
    return [*key, (NEVER, f"not asked ({gaps})")] if gaps else key


def _places(blocks: Sequence[MatrixBlock], top: float) -> tuple[list[float], float]:
    """Where blocks begin, and where the last ends, in inches from above."""
    tops = []
    for block in blocks:
        tops.append(top)
        top += _head(block) + HEIGHT * len(block.rows) + 0.12
    return tops, top


def _head(block: MatrixBlock) -> float:
    """Height of the title and the heads of columns."""
    return LINE * (1.6 + max(_wrapped(head, 17).count("\n") + 1 for head in block.heads))


def _wrapped(label: str, letters: int) -> str:
    """In at most three lines, which is what fits beside a cell; what is left out ends in "…"."""
    lines = textwrap.wrap(plain(label), letters)
    return "\n".join([*lines[:2], lines[2][: letters - 1] + "…"] if len(lines) > 3 else lines)


# Drawing


def _draw_block(axes: Axes, block: MatrixBlock, top: float, cell: float, rule: Rule) -> None:
    axes.text(0.05, top + 0.02, plain(block.title), weight="bold", va="top")
    start = top + _head(block)
    for number, head in enumerate(block.heads):
        spot: dict[str, Any] = {"ha": "center", "va": "bottom", "linespacing": 1}
        axes.text(LABELS + (number + 0.5) * cell, start - 0.03, _wrapped(head, 17), **spot)
    for number, row in enumerate(block.rows):
        y = start + number * HEIGHT
        axes.text(LABELS - 0.06, y + HEIGHT / 2, _wrapped(row.label, 27), ha="right", va="center", linespacing=1)
        for column, found in enumerate(row.cells):
            _draw_cell(axes, (LABELS + column * cell, y, cell), found, rule)


def _draw_cell(axes: Axes, place: tuple[float, float, float], found: tuple[Verdict, ...] | str, rule: Rule) -> None:
    x, y, width = place
    if isinstance(found, str):
        if found:
            _fill(axes, place, NEVER)
            axes.text(x + width / 2, y + HEIGHT / 2, found, ha="center", va="center", color=QUIET, fontsize=6)
        return
    part = width / len(found)
    for number, verdict in enumerate(found):
        outcome = verdict.outcome(rule)
        look, note = LOOKS[outcome], _note(verdict, rule, part)
        _fill(axes, (x + number * part, y, part), look)
        middle = x + (number + 0.5) * part
        word = f"{look.symbol} {outcome}"
        style: dict[str, Any] = {"ha": "center", "va": "center", "color": look.ink}
        axes.text(middle, y + HEIGHT * (0.36 if note else 0.5), word, fontsize=6.5 if len(found) == 1 else 4.5, **style)
        axes.text(middle, y + HEIGHT * 0.74, note, fontsize=5.5 if len(found) == 1 else 4, **style)


def _note(verdict: Verdict, rule: Rule, width: float) -> str:
    """The metrics that break; of what is undecided, how much is not measured."""
    symbols = [one.symbol for one in verdict.judgements if one.outcome(rule) == "conflict"]
    if not symbols and verdict.missing and verdict.outcome(rule) == "undecided":
        return f"{len(verdict.missing)} missing"
    letters = int(width * 20)
    text = plain(", ".join(symbols))
    return text if len(text) <= letters else text[: letters - 1] + "…"


def _fill(axes: Axes, place: tuple[float, float, float], look: CellLook, height: float = HEIGHT) -> None:
    from matplotlib.patches import Rectangle

    x, y, width = place
    axes.add_patch(Rectangle((x, y), width, height, facecolor=look.fill, edgecolor="white", linewidth=1.2))


def _draw_key(axes: Axes, key: Sequence[tuple[CellLook, str]], top: float) -> None:
    for number, (look, words) in enumerate(key):
        x, y = 0.08 + 1.75 * (number % 4), top + 0.22 * (number // 4)
        _fill(axes, (x, y, 0.24), look, 0.17)
        axes.text(x + 0.12, y + 0.085, look.symbol, ha="center", va="center", color=look.ink, fontsize=6.5)
        axes.text(x + 0.3, y + 0.085, words, va="center", fontsize=6.5)
