"""The forms of a report by name, and which one a file's name asks for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from guardclash.errors import UserError, suggestion
from guardclash.reporting.findings import Findings

Form = Callable[[Findings], bytes]
"""From what a study says to the content of a file."""


# Each form is imported when it is asked for: a command starts without what the others need, such as jinja2.
def _text(found: Findings) -> bytes:
    from guardclash.reporting.text import render

    return render(found).encode()


def _json(found: Findings) -> bytes:
    from guardclash.reporting.export import dump, to_json

    return dump(to_json(found)).encode()


def _html(found: Findings) -> bytes:
    from guardclash.reporting.page import render_html

    return render_html(found).encode()


def _tex(found: Findings) -> bytes:
    from guardclash.reporting.latex import render_latex

    return render_latex(found).encode()


def _markdown(found: Findings) -> bytes:
    from guardclash.reporting.markdown import render_markdown

    return render_markdown(found).encode()


def _csv(found: Findings) -> bytes:
    from guardclash.reporting.rows import to_csv

    return to_csv(found).encode()


def _parquet(found: Findings) -> bytes:
    from guardclash.reporting.rows import to_parquet

    return to_parquet(found)


FORMS: dict[str, Form] = {
    "text": _text,
    "json": _json,
    "html": _html,
    "tex": _tex,
    "md": _markdown,
    "csv": _csv,
    "parquet": _parquet,
}
"""By the name that the command line knows."""
SUFFIXES = {f".{name}": name for name in FORMS if name != "text"} | {
    ".htm": "html",
    ".markdown": "md",
    ".pq": "parquet",
}
"""Of files, in lower case. Any other suffix says nothing."""
BINARY = {"parquet"}
"""Not for a terminal."""


def form_asked(name: str | None, output: Path | None) -> str:
    """The form that a report is asked for: by name, else by the suffix of its file, else text.

    Args:
        name: A key of `FORMS`.
        output: The file that is to be written; None: the terminal.

    Raises:
        UserError: There is no such form, name and suffix contradict each other, or it is not for a terminal.
    """
    if name is not None and name not in FORMS:
        raise UserError("no such form of a report", where="--format", got=name, mend=suggestion(name, FORMS))
    meant = SUFFIXES.get(output.suffix.lower()) if output else None
    if name and meant and name != meant:
        mend = "Leave --format away, or give the file another suffix."
        raise UserError(f"the file's name says {meant}, --format says {name}", where=output, mend=mend)
    form = name or meant or "text"
    if form in BINARY and output is None:
        raise UserError(f"{form} is not for a terminal", where="--format", mend=f"Name a file: -o FILE.{form}")
    return form
