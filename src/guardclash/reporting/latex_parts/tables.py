"""Tables of combinations in the layout of the paper's Tables 4 and 5: each mechanism alone, then all together."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from guardclash.judging.criteria import Criterion, Metric
from guardclash.judging.stats import Sample
from guardclash.records.cells import ARROW, Cell, braces
from guardclash.reporting.entries import Column, Entry
from guardclash.reporting.findings import Findings
from guardclash.reporting.latex_parts.layout import heading, paged, row, spanning
from guardclash.reporting.latex_parts.text import escaped, number, prose
from guardclash.reporting.looks import LOOKS
from guardclash.reporting.notes import scales
from guardclash.reporting.reasons import ruling
from guardclash.reporting.tables import limit
from guardclash.reporting.tables import number as decimals
from guardclash.studies.study import Study
from guardclash.studies.verdicts import alone, judged_cells

MARKS = {
    "compatible": r"\gcKept{Green underlined}: no conflict",
    "conflict": r"\gcConflict{red}: conflict",
    "undecided": r"\textsuperscript{?}: undecided",
    "not credible": r"\textsuperscript{$\ddagger$}: not credible, a control makes the same claim",
    "not measured together": r"\textsuperscript{?}: not measured together",
    "ineffective": r"\textsuperscript{$\dagger$}: ineffective already alone",
}
"""By outcome: what the caption says of its mark."""
FRACTION = "A fraction: so many of the seeds are there; until all are, nothing is decided."
NOTHING = "--: not measured."
LABEL, REFERENCE = r"\label{tab:gc-legend}", r"Table~\ref{tab:gc-legend}."
"""Of the table whose caption explains the marks."""
LETTERS, VALUE = 108, 11.5
"""How many letters fit beside each other on a page, and how many a value takes."""


@dataclass(frozen=True)
class Block:
    """Columns that belong together: one mechanism alone, or all together."""

    heading: str
    columns: tuple[Column, ...]
    position: int | None
    """Of the mechanism in the combination; None: together."""


@dataclass(frozen=True)
class Group:
    """The combinations of the same mechanisms, whatever their options: a table of their own."""

    found: Findings
    cells: tuple[Cell, ...]

    def entry(self, cell: Cell, block: Block, column: Column) -> Entry:
        """What stands in a field."""
        if block.position is not None:
            cell = alone(cell, cell.combination[block.position], self.found.study)
        return self.found.entry(cell, column)

    def label(self, cell: Cell) -> str:
        """Of a row; with the number of seeds, where it is not the same for all."""
        study, results = self.found.study, self.found.results
        label = study.recipe_label(cell.recipe)
        if study.start is None:
            return label
        seeds = results.values(cell, None, results.utility(cell).name, study.seeds(cell))
        return f"{label} (n={len(seeds)})"


def combination_tables(found: Findings) -> Iterator[str]:
    """A table environment for every set of mechanisms that a study combines, in its order; the first has the legend."""
    cells, columns = judged_cells(found.study), found.columns
    tables = []
    for ways in dict.fromkeys(map(_ways, cells)):
        group = Group(found, tuple(cell for cell in cells if _ways(cell) == ways))
        names = tuple(named.name for named in group.cells[0].combination)
        blocks = [Block(name, _of(columns, (name,)), position) for position, name in enumerate(names)]
        blocks.append(Block(braces(ways)[1:-1].replace(", ", " + "), _of(columns, names), None))
        longest = max(len(group.label(cell)) for cell in group.cells)
        side_by_side = _packed(blocks, int((LETTERS - longest) / VALUE))
        tables += [(group, ways, some) for some in side_by_side]
    legend = _legend(found, [_entries(group, blocks) for group, _, blocks in tables])
    for place, (group, ways, blocks) in enumerate(tables):
        caption = _caption(group, ways, blocks)
        about = f"{legend} {LABEL}" if place == 0 else "Otherwise as in " + REFERENCE
        yield from _tables(group, f"{caption} {about}", blocks)


def _ways(cell: Cell) -> tuple[str, ...]:
    """The names of its mechanisms; with an arrow those that come later."""
    return tuple(ARROW * bool(named.later) + named.name for named in cell.combination)


def _of(columns: Sequence[Column], names: tuple[str, ...]) -> tuple[Column, ...]:
    return tuple(column for column in columns if column.of is None or column.of in names)


def _packed(blocks: Sequence[Block], width: int) -> list[list[Block]]:
    """All blocks beside each other; where they are wider than a page, each mechanism's beside what becomes of it."""
    if sum(len(block.columns) for block in blocks) <= width:
        return [list(blocks)]
    *own, together = blocks
    kept = (tuple(column for column in together.columns if column in block.columns) for block in own)
    return [[block, replace(together, columns=columns)] for block, columns in zip(own, kept, strict=True)]


def _tables(group: Group, caption: str, blocks: Sequence[Block]) -> Iterator[str]:
    # Columns count from 1, and the first one names the row.
    starts = [2 + sum(len(before.columns) for before in blocks[:i]) for i in range(len(blocks))]
    ends = [start + len(block.columns) - 1 for start, block in zip(starts, blocks, strict=True)]
    heads = [spanning(len(block.columns), "c", escaped(block.heading)) for block in blocks]
    arms = [spanning(len(block.columns), "c", "together" if block.position is None else "alone") for block in blocks]
    symbols = [prose(column.metric.symbol) for block in blocks for column in block.columns]
    rules = "".join(rf"\cmidrule(lr){{{start}-{end}}}" for start, end in zip(starts, ends, strict=True))
    head = [row(["Data set", *heads]), row(["", *arms]), rules, row(["", *symbols])]
    lines = _rows(group, blocks, 1 + len(symbols))
    return paged(caption, "l" + "r" * len(symbols), head, lines)


def _rows(group: Group, blocks: Sequence[Block], width: int) -> Iterator[list[str]]:
    """Rows by data set; where a study varies the options, a heading for each variant."""
    variants = dict.fromkeys(cell.combination for cell in group.cells)
    for variant in variants:
        label = escaped(braces(map(group.found.study.label, variant)))
        told = len(variants) > 1 or any(named.later and named.later.epochs for named in variant)
        yield [
            *([heading(width, label)] if told else []),
            *(
                row([escaped(group.label(cell)), *_fields(group, cell, blocks)])
                for cell in group.cells
                if cell.combination == variant
            ),
        ]


def _fields(group: Group, cell: Cell, blocks: Sequence[Block]) -> Iterator[str]:
    for block in blocks:
        entries = [(column, group.entry(cell, block, column)) for column in block.columns]
        if all(entry.clash for _, entry in entries):
            yield spanning(len(entries), "c", r"\emph{clash}")
        else:
            yield from (_field(column, entry) for column, entry in entries)


def _field(column: Column, entry: Entry) -> str:
    """A value with its mark."""
    value = (
        r"$\infty$" if entry.unbounded else measured(column.metric, next(iter(entry.samples), Sample()), entry.asked)
    )
    judged = entry.outcome and entry.there >= entry.asked  # no mark before all seeds are there
    return f"{LOOKS[entry.outcome].command}{{{value}}}" if judged else value


def measured(metric: Metric, sample: Sample, asked: int) -> str:
    """Mean and standard deviation; with how many seeds they rest on, as long as some are missing."""
    if not sample.n:
        return "--"
    std = f"{sample.std:.{metric.decimals}f}" if sample.n > 1 else ""
    value = r"$\infty$" if sample.mean == math.inf else number(decimals(metric, sample.mean), std)
    return rf"{value}\gcSeeds{{{sample.n}/{asked}}}" if sample.n < asked else value


def _entries(group: Group, blocks: Sequence[Block]) -> list[Entry]:
    return [group.entry(cell, block, column) for cell in group.cells for block in blocks for column in block.columns]


def _caption(group: Group, ways: tuple[str, ...], blocks: Sequence[Block]) -> str:
    """What the table is of, and the limits of its metrics."""
    columns = dict.fromkeys(column for block in blocks for column in block.columns)
    limits = ", ".join(_limit(group.found.study, column.metric) for column in columns)
    return rf"\textbf{{{escaped(braces(ways))}}}. Limits: {limits}."


def _legend(found: Findings, tables: Sequence[Sequence[Entry]]) -> str:
    """What is the same for all tables: seeds, rule, marks, scales."""
    study, entries = found.study, [entry for table in tables for entry in table]
    outcomes = {entry.outcome for entry in entries if entry.there == entry.asked}
    meanings = "; ".join(meaning for outcome, meaning in MARKS.items() if outcome in outcomes)
    parts = [
        rf"Mean $\pm$ standard deviation over {_seeds(study)}, from seed {study.first_seed}; {escaped(ruling(study))}.",
        f"{meanings}." if meanings else "",
        FRACTION if any(0 < entry.there < entry.asked for entry in entries) else "",
        NOTHING if any(not (entry.there or entry.clash or entry.unbounded) for entry in entries) else "",
        r"\emph{clash}: cannot be built together." if any(entry.clash for entry in entries) else "",
        *map(escaped, scales(study, found.results, study.recipes)),
    ]
    return " ".join(filter(None, parts))


def _seeds(study: Study) -> str:
    if study.start is None:
        return f"{study.alone} seeds alone, {study.together} together"
    return f"{study.start} to {study.together} seeds, added while a verdict is undecided (n: together)"


def criterion_of(study: Study, metric: Metric) -> Criterion | None:
    """What the study demands of a metric, else what the metric itself does."""
    return dict(study.criteria).get(metric.name, metric.criterion)


def _limit(study: Study, metric: Metric) -> str:
    return f"{prose(metric.symbol)} {prose(limit(replace(metric, criterion=criterion_of(study, metric))))}"
