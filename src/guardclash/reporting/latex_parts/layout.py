"""What LaTeX tables share: environments, rows, and where long ones break."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

LINES = 50
"""Rows that fit on a page beside a caption."""


def paged(caption: str, alignment: str, head: Sequence[str], groups: Iterable[Sequence[str]]) -> Iterator[str]:
    """Table environments that fit on a page each; all parts are LaTeX.

    Args:
        caption: Of the first; the others refer to it.
        alignment: A letter for every column, as tabular has it.
        head: Rows above the line, repeated on each page.
        groups: Rows that stay together, with a little space after each group; one that is longer than a page is
            parted.
    """
    pages: list[list[str]] = []
    for group in (part for whole in groups for part in _parted(whole)):
        if not pages or len(pages[-1]) + len(group) > LINES:
            pages.append([])
        pages[-1] += [r"\addlinespace", *group] if pages[-1] else group
    for page, body in enumerate(pages):
        yield _environment("Continued." if page else caption, alignment, [*head, r"\midrule", *body])


def _parted(group: Sequence[str]) -> Iterator[Sequence[str]]:
    yield from (group[start : start + LINES] for start in range(0, len(group), LINES))


def _environment(caption: str, alignment: str, lines: Iterable[str]) -> str:
    parts = [
        r"\begin{table}[!htbp]",
        r"\centering\footnotesize",
        r"\setlength{\tabcolsep}{4pt}\setlength{\belowcaptionskip}{6pt}",
        rf"\caption{{{caption}}}",
        rf"\begin{{tabular}}{{@{{}}{alignment}@{{}}}}",
        *(r"\toprule", *lines, r"\bottomrule"),
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(parts) + "\n"


def row(fields: Iterable[str]) -> str:
    """A row of a table."""
    return " & ".join(fields) + r" \\"


def spanning(columns: int, alignment: str, text: str) -> str:
    """A field over several columns."""
    return rf"\multicolumn{{{columns}}}{{{alignment}}}{{{text}}}"


def heading(columns: int, text: str) -> str:
    """A row that says what the rows below it have in common."""
    return row([spanning(columns, "@{}l@{}", rf"\emph{{{text}}}")])
