"""How commands speak: results on standard output, words beside them on standard error, files that were asked for."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guardclash.errors import UserError
from guardclash.reporting.screen import Screen
from guardclash.reporting.stacked import NARROW, Terminal
from guardclash.writing import write_whole

if TYPE_CHECKING:
    from guardclash.reporting.findings import Findings

PIPED = not (sys.stdout and sys.stdout.isatty())
out = Terminal(width=140 if PIPED else None)  # a pipe has no width: that of `text.WIDTH`
HUNG_UP = 141
"""The exit code where nobody reads on: what a shell says of other tools that a closed pipe ended (128 + SIGPIPE)."""


def say(message: str) -> None:
    """A word beside the output proper."""
    Screen(stderr=True).print(message, markup=False, soft_wrap=True)


@contextmanager
def streams() -> Iterator[None]:
    """Standard output and error as commands need them, and what was printed written to its end.

    A letter that an encoding lacks is a question mark. Where output cannot be written, the command ends with one
    message and exit code 2; where a pipe was closed, with `HUNG_UP` and without a word, as other tools do.
    """
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")
    both = sys.stdout, sys.stderr  # the command line's parser puts others in their place when a pipe closes
    for stream in both:
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")
    failed: list[OSError] = []
    try:
        yield
    except OSError as error:
        if error.filename is not None:  # of a file; whoever writes one makes a `UserError` of what fails
            raise
        failed.append(error)
    finally:
        failed += [error for error in map(_flushed, both) if error]
        if sys.stdout is not both[0] or any(isinstance(error, BrokenPipeError) for error in failed):
            sys.exit(HUNG_UP)
        if failed:
            with suppress(OSError):  # the words may find no place either
                say(f"error: the output cannot be written: {failed[0].strerror}")
            _flushed(both[1])
            sys.exit(2)


def _flushed(stream: Any) -> OSError | None:
    """Writes what is left of a stream; one that fails is silenced, for Python flushes it once more at the end."""
    try:
        stream.flush()
    except OSError as error:
        with suppress(OSError, ValueError), open(os.devnull, "wb") as nothing:
            os.dup2(nothing.fileno(), stream.fileno())
        return error
    return None


def print_text(found: Findings, wide: bool = False) -> None:
    """Prints the report as text; wide: whole tables, whatever the terminal's width."""
    from guardclash.reporting.text import told

    out.wide = wide
    for part in told(found, narrow=out.width < NARROW and not out.wide):
        out.print(part)


def write(content: bytes, output: Path, what: str) -> None:
    """Writes a file that was asked for, and says so."""
    try:
        write_whole(output, content)
    except OSError as error:
        raise UserError(f"the {what} cannot be written: {error.strerror}", where=output) from error
    say(f"wrote {output}")
