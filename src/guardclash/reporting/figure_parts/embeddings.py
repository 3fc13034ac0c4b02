"""The figure `embeddings`: clean images against the marks of a mechanism, in the features of every model with them."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from guardclash.errors import UserError
from guardclash.numerics.scatter import Points, Scatter
from guardclash.records.cells import Cell, Named, braces
from guardclash.records.results import Results
from guardclash.reporting.entries import cells_of
from guardclash.reporting.figure_parts.style import GUIDE, PAGE, QUIET, plain
from guardclash.reporting.findings import Findings
from guardclash.reporting.tables import number
from guardclash.studies.study import Study

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

ACROSS = 4
"""So many panels stand side by side."""
LONG, WIDE = 32, 160
"""Letters of a line below a panel, and across the page."""
ONLY = (("#9a9a9a", "o"),)
CLEAN = (("#56B4E9", "o"), ("#E69F00", "s"), ("#b5b5b5", "."), ("#CC79A7", "P"))
MARKS = (("#0072B2", "^"), ("#D55E00", "v"), ("#009E73", "D"), ("#000000", "X"))
"""Colours, which the colour-blind tell apart, and shapes: of clean images in one group or several, and of marks. Groups
of marks are darker than those of clean images, which they may belong to: in this order they have the same hue."""


@dataclass(frozen=True)
class EmbeddingPanel:
    """A model."""

    title: str
    scatter: Scatter | None
    note: str
    """Beside points the value of the mechanism's metric, else why there are none."""


@dataclass(frozen=True)
class EmbeddingBlock:
    """All models that show the marks of one mechanism on one recipe."""

    title: str
    panels: tuple[EmbeddingPanel, ...]

    @property
    def seen(self) -> tuple[Scatter, ...]:
        """Those that have points."""
        return tuple(panel.scatter for panel in self.panels if panel.scatter)

    @property
    def rows(self) -> int:
        """Of panels."""
        return math.ceil(len(self.panels) / ACROSS)

    @property
    def words(self) -> str:
        """What is written below the panels."""
        lines = [*dict.fromkeys(scatter.caption for scatter in self.seen), "Large: the mean of the points of a group."]
        missing = ", ".join(panel.title for panel in self.panels if not panel.scatter)
        lines += [f"Not there: {missing}."] if missing else []
        return "\n".join(textwrap.fill(plain(line), WIDE) for line in lines)

    @property
    def height(self) -> float:
        """In inches."""
        return 2.15 * self.rows + 0.5 + 0.11 * (self.words.count("\n") + 1)


def embeddings(found: Findings) -> Figure:
    """For every recipe and mechanism with marks: the unprotected model, the mechanism alone, each of its combinations.

    Shown is the first seed of the study.

    Raises:
        UserError: No points are recorded.
    """
    from matplotlib.figure import Figure

    study = found.study
    blocks = [block for block in _blocks(study, found.results) if block.seen]
    if not blocks:
        mend = (
            "Mechanisms that show their marks record them when they are measured, since this version of guardclash. "
            "Measured before? Move the folder `measurements` out of the store and run the study again: its models are "
            "kept, and measured anew."
        )
        raise UserError("no embeddings of marks are recorded", where=study.name, mend=mend)
    heights = [block.height for block in blocks]
    figure = Figure(figsize=(PAGE, 0.25 + sum(heights)), layout="constrained")
    parts = figure.subfigures(len(blocks), 1, squeeze=False, height_ratios=heights)
    for part, block in zip(parts[:, 0], blocks, strict=True):
        # As many columns in every block, so that panels have one size in the whole figure.
        _draw_block(part, block, min(ACROSS, max(len(other.panels) for other in blocks)))
    head = f"{study.name}: marks among clean images in the features of the models of seed {study.first_seed}"
    figure.suptitle(plain(head), x=0.005, ha="left", fontsize=7)
    return figure


# What is drawn


def _blocks(study: Study, results: Results) -> Iterator[EmbeddingBlock]:
    for recipe in study.recipes:
        for of in study.mechanisms():
            cells = [cell for cell in cells_of(study, recipe) if not cell.combination or of in cell.combination]
            panels = tuple(_panel(study, results, cell, of) for cell in cells)
            yield EmbeddingBlock(f"{study.recipe_label(recipe)}, marks of {study.label(of)}", panels)


def _panel(study: Study, results: Results, cell: Cell, of: Named) -> EmbeddingPanel:
    names = [study.label(named) for named in cell.combination]
    title = braces(names) if len(names) > 1 else names[0] if names else "unprotected"
    scatter = results.scatter(cell, of, study.first_seed)
    return EmbeddingPanel(title, scatter, _note(study, results, cell, of, scatter is not None))


def _note(study: Study, results: Results, cell: Cell, of: Named, seen: bool) -> str:
    known = results.cell(cell)
    if known and known.clash:
        return "clash: cannot be built"
    measured = range(study.first_seed, study.first_seed + 1)
    metrics = [metric for metric in results.metrics(cell, of) if results.values(cell, of, metric.name, measured)]
    if not metrics:
        return "" if seen else "not measured yet"
    if not seen:
        return "no points recorded"
    judged = next((metric for metric in metrics if metric.criterion), metrics[0])
    return f"{judged.symbol} {number(judged, results.values(cell, of, judged.name, measured)[0])}"


def _looks(block: EmbeddingBlock) -> dict[str, dict[str, Any]]:
    """How each group is drawn, by its name: clean images small and light, marks larger, dark and above them."""
    clean = dict.fromkeys(name for scatter in block.seen for name in scatter.clean)
    marks = dict.fromkeys(name for scatter in block.seen for name in scatter.marks)
    styles: dict[str, dict[str, Any]] = {}
    for names, looks, size, above in ((clean, CLEAN if len(clean) > 1 else ONLY, 3, 2), (marks, MARKS, 3.8, 3)):
        for place, name in enumerate(names):
            colour, marker = looks[place % len(looks)]
            edge = {"markeredgecolor": "white", "markeredgewidth": 0.25}
            styles[name] = {"color": colour, "marker": marker, "markersize": size, "zorder": above, **edge}
    return styles


# Drawing


def _draw_block(part: SubFigure, block: EmbeddingBlock, across: int) -> None:
    panels = part.subplots(block.rows, across, squeeze=False).ravel()
    looks = _looks(block)
    for axes, panel in zip(panels, block.panels, strict=False):
        _draw(axes, panel, looks)
    for axes in panels[len(block.panels) :]:
        axes.set_visible(False)
    part.suptitle(plain(block.title), x=0.005, ha="left", fontsize=7, weight="bold")
    _legend(part, block, looks)


def _draw(axes: Axes, panel: EmbeddingPanel, looks: Mapping[str, Mapping[str, Any]]) -> None:
    title = textwrap.fill(plain(panel.title), LONG)
    axes.spines[["top", "right"]].set_visible(False)
    if panel.scatter is None:
        axes.set_title(title, pad=3, fontsize=6.5)
        axes.text(0.5, 0.5, panel.note, ha="center", color=QUIET, fontsize=6, transform=axes.transAxes)
        axes.set_xticks([])
        axes.set_yticks([])
        return
    axes.set_title(f"{title}\n{plain(panel.note)}".strip(), pad=3, fontsize=6.5)
    axes.tick_params(labelsize=5.5)
    axes.locator_params(nbins=5)
    for line in (axes.axhline, axes.axvline):
        line(0, color=GUIDE, linewidth=0.8, zorder=1)
    x, y = (textwrap.fill(plain(name), LONG) for name in panel.scatter.axes)
    axes.set_xlabel(x, fontsize=5.5)
    axes.set_ylabel(y, fontsize=5.5)
    for name, points in (*panel.scatter.clean.items(), *panel.scatter.marks.items()):
        xs, ys = zip(*points, strict=True)
        axes.plot(xs, ys, linestyle="", alpha=0.8, **looks[name])
        axes.plot(*_middle(points), linestyle="", **{**looks[name], "markersize": 7, "zorder": 4})


def _middle(points: Points) -> tuple[float, float]:
    return sum(x for x, _ in points) / len(points), sum(y for _, y in points) / len(points)


def _legend(part: SubFigure, block: EmbeddingBlock, looks: Mapping[str, Mapping[str, Any]]) -> None:
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], linestyle="", label=plain(name), **look) for name, look in looks.items()]
    part.legend(
        handles=handles,
        loc="outside lower left",
        ncols=5,
        frameon=False,
        fontsize=6,
        title=block.words,
        title_fontsize=6,
        alignment="left",
    )
