"""Where text for people goes: consoles on which nothing is taken for a picture or a command, and texts as markup."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from guardclash.words import shown

TAG = re.compile(r"(?<!\\)(\\*)\[(?=([a-z#/@][^[]*?\])?)")
"""A bracket that rich may read, with the backslashes before it; the second group is there if it opens a tag."""


class Screen(Console):
    """A console that shows texts as they are: no `:x:` is made a picture of, no letter without a shape gets out.

    What tables and lines hold is made fit by `literal` where they are made, so that it is laid out as it is shown; this
    is the wall behind it, for all that was forgotten.

    Args:
        options: As `rich.console.Console` takes them.
    """

    def __init__(self, **options: Any):
        super().__init__(**{"emoji": False, "highlight": False, **options})

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """What is printed, piece by piece."""
        for piece in super().render(renderable, options):
            # Control pieces are rich's own: they move the cursor of a view that is kept up to date.
            fit = piece.text if piece.control else shown(piece.text)
            yield piece if fit == piece.text else Segment(fit, piece.style)

    def on_broken_pipe(self) -> None:
        """Leaves it to the command line to end, which knows with which exit code."""
        raise


def literal(text: object) -> str:
    r"""Any text as markup that shows it as it is, letters without a shape of their own as marks.

    Unlike `rich.markup.escape`, backslashes before a bracket and at the end of the text stay as many as they were.

    Example:
        >>> print(literal("[red]x"), literal("{wm}"), literal(chr(27) + "[0m"))
        \[red]x {wm} �[0m
    """
    fit = shown(str(text))
    if "[" not in fit and not fit.endswith("\\"):
        return fit
    marked = TAG.sub(_escaped, fit)
    last = len(marked) - len(marked.rstrip("\\"))
    # A tag may follow, which would take backslashes before it for its own: one that changes nothing gets them.
    return marked + "\\" * last + "[none][/none]" * bool(last)


def _escaped(found: re.Match[str]) -> str:
    """Before a tag each backslash counts half, and one of their own escapes it; elsewhere the last one is lost."""
    before, tag = found[1], found[2]
    return (before * 2 + "\\[") if tag else (before + "\\" * bool(before) + "[")
