"""`guardclash list`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from guardclash.cli.console import out


def list_all(
    plugins: Annotated[list[Path] | None, typer.Option("--plugin", help="A file with mechanisms.")] = None,
) -> None:
    """Mechanisms, measures, conditions, suspects and data sets that can be used by name."""
    from guardclash.data.catalog import datasets
    from guardclash.registry import CONDITIONS, MEASURES, SUSPECTS, find_mechanisms
    from guardclash.registry import known as all_of
    from guardclash.reporting.listing import listing
    from guardclash.tasks.catalog import tasks

    files = tuple(path.resolve() for path in plugins or ())
    mechanisms = find_mechanisms(files)
    doors = {"Measures": MEASURES, "Conditions": CONDITIONS, "Suspects": SUSPECTS}
    others = {title: all_of(door, files) for title, door in doors.items()}
    out.print(listing(mechanisms.values(), others, datasets().values(), tasks()))
