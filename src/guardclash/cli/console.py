"""How commands speak: results on standard output, words beside them on standard error, files that were asked for."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from guardclash.errors import UserError

if TYPE_CHECKING:
    from guardclash.reporting.findings import Findings

out = Console(width=None if sys.stdout.isatty() else 140, highlight=False)  # a pipe has no width: that of `text.WIDTH`


def say(message: str) -> None:
    """A word beside the output proper."""
    Console(stderr=True).print(message, markup=False, highlight=False, soft_wrap=True)


def print_text(found: Findings) -> None:
    """Prints the report as text."""
    from guardclash.reporting.text import told

    for part in told(found):
        out.print(part)


def write(content: bytes, output: Path, what: str) -> None:
    """Writes a file that was asked for, and says so."""
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_bytes(content)
    except OSError as error:
        raise UserError(f"the {what} cannot be written: {error.strerror}", where=output) from error
    say(f"wrote {output}")
