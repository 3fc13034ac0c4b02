"""Tables on narrow terminals: one that does not fit is shown row by row, so that no word or number is folded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from guardclash.reporting.screen import Screen
from guardclash.reporting.tables import Plain, plain

NOTHING = ("", "-")
"""What a cell holds that says nothing."""
MOST_LEADING = 3
"""Columns that may be needed to tell rows apart."""
PLACES = {"recipe", "combination", "mechanism", "metric", "name"}
"""Heads of columns whose cells say by themselves what they are."""
NARROW = 120
"""Columns below which nothing is wrapped within a table, and of each metric only what matters most is shown."""
ENDLESS = 100_000


class Terminal(Screen):
    """A console on which tables fit, or are shown row by row.

    Args:
        options: As `rich.console.Console` takes them.
    """

    wide: bool = False
    """Show every table as one, folded where it does not fit."""

    def print(self, *objects: Any, **options: Any) -> None:
        """Prints objects; of groups, each part."""
        parts = objects if self.wide else [part for one in objects for part in self._fitting(one)]
        super().print(*parts, **options)

    def _fitting(self, one: Any) -> Iterator[Any]:
        if isinstance(one, Group):
            for part in one.renderables:
                yield from self._fitting(part)
        elif isinstance(one, Table) and not fits(one, self):
            yield stacked(plain(one), self.width)
        else:
            yield one


def fits(table: Table, console: Console) -> bool:
    """Whether a table can be shown as one: below `NARROW` columns with each cell on one line, else with whole words."""
    needed = Measurement.get(console, console.options.update(max_width=ENDLESS), table)
    return (needed.maximum if console.width < NARROW else needed.minimum) <= console.width


def stacked(table: Plain, columns: int) -> RenderableType:
    """A table row by row: what tells rows apart, and below it every other cell with the head of its column."""
    lead = _leading(table.rows)
    lines = [Text(table.title, style="bold")] if table.title else []
    for row in table.rows:
        lines.append(Text(" ").join(_placed(head, cell) for head, cell in zip(table.columns, row[:lead], strict=False)))
        pieces = [
            piece for head, cell in zip(table.columns[lead:], row[lead:], strict=True) for piece in _told(head, cell)
        ]
        lines += [Text("  ") + line for line in _wrapped(pieces, columns - 2)]
    if table.caption:
        lines.append(Text(table.caption))
    return Group(*lines, Text())


def _leading(rows: Sequence[tuple[Text, ...]]) -> int:
    """How many of the first columns tell rows apart."""
    for count in range(1, MOST_LEADING + 1):
        if len({tuple(cell.plain for cell in row[:count]) for row in rows}) == len(rows):
            return count
    return MOST_LEADING


def _told(head: str, cell: Text) -> Iterator[Text]:
    """What a cell says, each line of it by itself."""
    lines = [line for line in cell.split("\n") if line.plain.strip() not in NOTHING]
    for place, line in enumerate(lines):
        yield Text.assemble((f"{head} ", "dim"), line) if place == 0 and head else line


def _placed(head: str, cell: Text) -> Text:
    """A cell that tells which row it is, on one line."""
    line = Text(" ").join(cell.split("\n"))
    return line if head in PLACES or not head else Text.assemble((f"{head} ", "dim"), line)


def _wrapped(pieces: Iterable[Text], columns: int) -> Iterator[Text]:
    """Lines of pieces with commas between; none is broken, but for one that is longer than a line, between words."""
    line = Text()
    for piece in pieces:
        joined = Text.assemble(line, ", " if line else "", piece)
        if joined.cell_len < columns or not line:  # room for a comma
            line = joined
        else:
            yield from _broken(line + Text(","), columns)
            line = piece
    if line:
        yield from _broken(line, columns)


def _broken(line: Text, columns: int) -> Iterator[Text]:
    if line.cell_len <= columns:
        yield line
        return
    own = Text()
    for word in line.split(" "):
        joined = Text.assemble(own, " " if own else "", word)
        if joined.cell_len > columns and own:
            yield own
            own = word
        else:
            own = joined
    yield own
