"""The figure `matrix`: the verdict on every pair of mechanisms as a heat map, larger combinations below."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from guardclash.errors import UserError
from guardclash.judging.rules import OUTCOMES, Rule
from guardclash.judging.verdict import Verdict
from guardclash.records.cells import braces
from guardclash.reporting import looks
from guardclash.reporting.figure_parts.blocks import HEIGHT, LINE, DrawnCell, DrawnRow, MatrixBlock
from guardclash.reporting.figure_parts.merged import merged
from guardclash.reporting.figure_parts.style import PAGE, QUIET, plain
from guardclash.reporting.findings import Findings
from guardclash.reporting.pairs import NOT_ASKED, Pair
from guardclash.reporting.reasons import ruling

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

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


def matrix(found: Findings, *others: Findings) -> Figure:
    """A matrix of the pairs for every recipe, then a list of the larger combinations with a column for every recipe.

    Of several studies, a triangle of all their pairs for every data set (see `merged`).

    Raises:
        UserError: The study combines nothing.
    """
    from matplotlib.figure import Figure

    whole = merged((found, *others)) if others else (*_pairs(found), _larger(found))
    blocks = [block for block in whole if block.rows]
    if not blocks:
        mend, where = "A combination takes two or more mechanisms.", found.study.name
        raise UserError("the study has no combinations, and so no verdicts to draw", where=where, mend=mend)
    across = max(len(block.heads) for block in blocks)
    cell = min(WIDE, max(NARROW, (PAGE - LABELS - 0.1) / across))
    caption, key = _caption((found, *others), blocks), _counts(blocks, found.rule)
    tops, height = _places(blocks, LINE * (caption.count("\n") + 1) + 0.15)
    size = max(PAGE, LABELS + across * cell + 0.1), height + 0.12 + 0.22 * -(-len(key) // 4)  # rounded up
    figure = Figure(figsize=size)
    # A unit is an inch, from the top left: boxes and print are placed in one measure.
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_xlim(0, size[0])
    axes.set_ylim(size[1], 0)
    axes.text(0.05, 0.06, caption, va="top")
    for block, top in zip(blocks, tops, strict=True):
        _draw_block(axes, block, top, cell, found.rule)
    _draw_key(axes, key, height + 0.04)
    return figure


# What is drawn


def _pairs(found: Findings) -> Iterator[MatrixBlock]:
    study, pairs = found.study, found.pairs
    if pairs is None:
        return
    heads, recipes = tuple(map(study.label, pairs.columns)), tuple(map(study.recipe_label, pairs.recipes))
    places = range(len(recipes))
    side_by_side = 1 < len(recipes) and len(recipes) * len(heads) <= ACROSS  # else a block for each recipe
    for group in [places] if side_by_side else [(place,) for place in places]:
        rows = tuple(
            DrawnRow(
                study.label(row.mechanism),
                tuple(_drawn(found, by_recipe[place]) for by_recipe in row.pairs for place in group),
            )
            for row in pairs.rows
        )
        several = tuple(f"{head} on {recipes[place]}" for head in heads for place in group)
        yield MatrixBlock("pairs" if side_by_side else recipes[group[0]], several if side_by_side else heads, rows)


def _drawn(found: Findings, pair: Pair) -> DrawnCell:
    if not pair.ways:
        return pair.why if pair.why == NOT_ASKED else ""
    return tuple((way.words, found.by_cell[way.cell.key]) for way in pair.ways)


def _larger(found: Findings) -> MatrixBlock:
    study, rows = found.study, []
    for combination in study.combinations:
        if len(combination) > 2:
            cells = [cell for recipe in study.recipes if (cell := study.cell(recipe, combination))]
            drawn = tuple((("", found.by_cell[cell.key]),) for cell in cells)
            rows.append(DrawnRow(braces(map(study.label, combination)), drawn))
    return MatrixBlock(
        "combinations of three or more", tuple(study.recipe_label(recipe) for recipe in study.recipes), tuple(rows)
    )


def _caption(all_found: Sequence[Findings], blocks: Sequence[MatrixBlock]) -> str:
    study = all_found[0].study
    lines = [
        f"{', '.join(found.study.name for found in all_found)}: verdicts by {ruling(study)}",
        "Rows stand first in a pair, columns second. Below a word: what is broken, or how many values are missing.",
    ]
    if len(all_found) == 1 and any(words for words, _ in _shown(blocks)):
        lines.append("At once: both are trained together. a → b: b is trained on the weights that a left.")
    several = len(all_found) > 1
    lines += [
        f"Not finished: {f'{one.study.name}: ' * several}{one.unfinished}." for one in all_found if one.unfinished
    ]
    return "\n".join(map(plain, lines))


def _shown(blocks: Sequence[MatrixBlock]) -> Iterator[tuple[str, Verdict]]:
    """Every verdict that is drawn, with the way in which the pair is trained."""
    for row in (row for block in blocks for row in block.rows):
        yield from (way for cell in row.cells if not isinstance(cell, str) for way in cell)


def _counts(blocks: Sequence[MatrixBlock], rule: Rule) -> list[tuple[CellLook, str]]:
    """Every outcome, and how often it is there."""
    said = [verdict.outcome(rule) for _, verdict in _shown(blocks)]
    gaps = sum(row.cells.count(NOT_ASKED) for block in blocks for row in block.rows)
    key = [(LOOKS[outcome], f"{outcome} ({said.count(outcome)})") for outcome in OUTCOMES]
    return [*key, (NEVER, f"not asked ({gaps})")] if gaps else key


def _places(blocks: Sequence[MatrixBlock], top: float) -> tuple[list[float], float]:
    """Where blocks begin, and where the last ends, in inches from above."""
    tops = []
    for block in blocks:
        tops.append(top)
        top += _head(block) + sum(row.height for row in block.rows) + 0.12
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
    y = start
    for row in block.rows:
        axes.text(LABELS - 0.06, y + row.height / 2, _wrapped(row.label, 27), ha="right", va="center", linespacing=1)
        for column, found in enumerate(row.cells):
            _draw_cell(axes, Place(LABELS + column * cell, y, cell, row.height), found, rule)
        y += row.height


class Place(NamedTuple):
    """A rectangle, in inches."""

    x: float
    y: float
    width: float
    height: float


def _draw_cell(axes: Axes, place: Place, found: DrawnCell, rule: Rule) -> None:
    if isinstance(found, str):
        if found:
            _fill(axes, place, NEVER)
            middle = place.x + place.width / 2, place.y + place.height / 2
            axes.text(*middle, found, ha="center", va="center", color=QUIET, fontsize=6)
        return
    height = place.height / len(found)
    for number, (words, verdict) in enumerate(found):
        _draw_verdict(axes, Place(place.x, place.y + number * height, place.width, height), words, verdict, rule)


def _draw_verdict(axes: Axes, place: Place, words: str, verdict: Verdict, rule: Rule) -> None:
    """The word and what it rests on; above them in which way the pair is trained, where there are several."""
    outcome = verdict.outcome(rule)
    look, note = LOOKS[outcome], _note(verdict, rule, place.width)
    _fill(axes, place, look)
    middle, below = place.x + place.width / 2, place.y + place.height - HEIGHT  # the way stands above
    style: dict[str, Any] = {"ha": "center", "va": "center", "color": look.ink}
    if words:
        axes.text(middle, place.y + LINE * 0.85, _short(words, place.width), fontsize=5.5, **style)
    axes.text(middle, below + HEIGHT * (0.36 if note else 0.5), f"{look.symbol} {outcome}", fontsize=6.5, **style)
    axes.text(middle, below + HEIGHT * 0.74, note, fontsize=5.5, **style)


def _note(verdict: Verdict, rule: Rule, width: float) -> str:
    """The metrics that break; of what is undecided, how much is not measured."""
    symbols = [one.symbol for one in verdict.judgements if one.outcome(rule) == "conflict"]
    if not symbols and verdict.missing and verdict.outcome(rule) == "undecided":
        return f"{len(verdict.missing)} missing"
    return _short(", ".join(symbols), width)


def _short(text: str, width: float) -> str:
    """As much as fits, in small print."""
    letters = int(width * 20)  # about 20 letters of 5.5 points to the inch
    return plain(text if len(text) <= letters else text[: letters - 1] + "…")


def _fill(axes: Axes, place: Place, look: CellLook) -> None:
    from matplotlib.patches import Rectangle

    x, y, width, height = place
    axes.add_patch(Rectangle((x, y), width, height, facecolor=look.fill, edgecolor="white", linewidth=1.2))


def _draw_key(axes: Axes, key: Sequence[tuple[CellLook, str]], top: float) -> None:
    for number, (look, words) in enumerate(key):
        x, y = 0.08 + 1.75 * (number % 4), top + 0.22 * (number // 4)
        _fill(axes, Place(x, y, 0.24, 0.17), look)
        axes.text(x + 0.12, y + 0.085, look.symbol, ha="center", va="center", color=look.ink, fontsize=6.5)
        axes.text(x + 0.3, y + 0.085, words, va="center", fontsize=6.5)
