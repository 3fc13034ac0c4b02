"""What the tables of the text report share: places, numbers, limits and outcomes as text."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from guardclash.judging.criteria import Absolute, Floor, MaxGrowth, Metric
from guardclash.judging.judgement import Judgement
from guardclash.judging.stats import Sample
from guardclash.records.cells import Cell, braces
from guardclash.records.results import Results
from guardclash.reporting.looks import look_of
from guardclash.reporting.screen import literal
from guardclash.studies.study import Study


def place(study: Study, cell: Cell) -> str:
    """Recipe and combination, and which suspect of it."""
    return f"{study.recipe_label(cell.recipe)} {models_of(study, cell)}"


def models_of(study: Study, cell: Cell) -> str:
    """The combination, and which suspect of it."""
    suspect = f"{study.suspect_label(cell.suspect)} of " if cell.suspect else ""
    return suspect + braces(study.label(named) for named in cell.combination)


def number(metric: Metric, value: float | None) -> str:
    """A value of a metric at its own number of decimals."""
    if value is None:
        return "-"
    if value == math.inf:
        return "∞"
    text = f"{value:.{metric.decimals}f}"
    return text if float(text) else text.lstrip("-")  # never "-0.00"


def p_value(value: float | None) -> str:
    """A p-value to two significant digits."""
    return "-" if value is None else "<1e-99" if value < 1e-99 else f"{value:.2g}"


def summary(metric: Metric, values: Sample) -> str:
    """Mean, standard deviation and count."""
    if not values.n:
        return "-"
    spread = f"±{values.std:.{metric.decimals}f}" if math.isfinite(values.std) else ""
    return f"{number(metric, values.mean)}{spread} (n={values.n})"


def duration(seconds: float) -> str:
    """A time for people.

    Example:
        >>> duration(0), duration(3.21), duration(59.7), duration(75), duration(7260)
        ('0 s', '3.2 s', '1 min 0 s', '1 min 15 s', '2 h 1 min')
    """
    if seconds < 9.95:  # what is more rounds to 10
        return f"{round(seconds, 1):g} s"
    minutes, rest = divmod(round(seconds), 60)  # rounded before, so that there is no "60 s"
    if not minutes:
        return f"{rest} s"
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60:,} h {minutes % 60} min"


def percent(share: float) -> str:
    """A share or a confidence as people write it.

    Example:
        >>> percent(0.9), percent(0.975)
        ('90 %', '97.5 %')
    """
    return f"{100 * share:.3g} %"


def failing(judgement: Judgement) -> str:
    """How many seeds together break the criterion by themselves, such as "1 of 10"; "-" where that says nothing."""
    if judgement.unseen is None or not judgement.alone.n:
        return "-"
    return f"{judgement.failing} of {judgement.together.n}"


def bound(criterion: Absolute) -> str:
    """A fixed bound, and on which side of it values are wanted."""
    return f"{'≥' if isinstance(criterion, Floor) else '≤'} {criterion.threshold:g}"


def limit(metric: Metric) -> str:
    """What a metric's criterion demands."""
    criterion = metric.criterion
    if criterion is None:
        return "-"
    if isinstance(criterion, Absolute):
        return bound(criterion)
    if isinstance(criterion, MaxGrowth):
        return f"× {criterion.factor:g}"
    return f"{'drop' if metric.higher_is_better else 'rise'} {criterion.threshold:g}"


def utility_head(results: Results) -> str:
    """The head of a column of what every model is judged by."""
    found = results.utilities
    return found[0].symbol if len(found) == 1 else "utility"


def styled(outcome: str) -> str:
    """An outcome in its colour."""
    look = look_of(outcome)
    return f"[{look.terminal}]{outcome}[/]" if look else outcome


def titled(title: str, *columns: str) -> Table:
    """An empty table; the title is markup, columns are plain text."""
    made = Table(title=title, title_justify="left", caption_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        made.add_column(literal(column), overflow="fold")  # an ellipsis would hide what was measured
    return made


@dataclass(frozen=True)
class Plain:
    """What a table says, for forms other than the terminal's."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Text, ...], ...]
    """A cell may have several lines, and parts with a style."""
    ends: tuple[bool, ...]
    """Whether a section ends after a row."""
    caption: str


def plain(table: Table) -> Plain:
    """The texts of a table of the text report."""
    cells = [[_text(cell) for cell in column.cells] for column in table.columns]
    return Plain(
        title=_text(table.title).plain,
        columns=tuple(_text(column.header).plain for column in table.columns),
        rows=tuple(zip(*cells, strict=True)),
        ends=tuple(row.end_section for row in table.rows),
        caption=_text(table.caption).plain,
    )


def _text(markup: Any) -> Text:
    return Text.from_markup(markup or "", emoji=False)  # else ":x:" in a name becomes a picture
