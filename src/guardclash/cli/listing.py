"""`guardclash list`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from guardclash.cli.console import out

RECORDED = Path("studies")
"""Where a clone, or whoever keeps studies as it does, has those with records."""


def list_all(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Tell all about one of them.")] = None,
    plugins: Annotated[list[Path] | None, typer.Option("--plugin", help="A file with mechanisms.")] = None,
) -> None:
    """What studies can name, or all about one of these.

    Mechanisms, measures, conditions, suspects and data sets; with a name, its options, metrics and an example.
    """
    from guardclash.data.catalog import datasets
    from guardclash.registry import CONDITIONS, MEASURES, SUSPECTS, find_mechanisms
    from guardclash.registry import known as all_of
    from guardclash.reporting.card import card
    from guardclash.reporting.listing import listing
    from guardclash.tasks.catalog import tasks

    files = tuple(path.resolve() for path in plugins or ())
    mechanisms = find_mechanisms(files)
    doors = {"Measures": MEASURES, "Conditions": CONDITIONS, "Suspects": SUSPECTS}
    others = {title: all_of(door, files) for title, door in doors.items()}
    if name is not None:
        for part in card(name, {"Mechanisms": mechanisms, **others}):
            out.print(part)
        if name in mechanisms:
            # Times on record were taken beside other work; `plan` times a training on this machine.
            out.print("\nWhat it costs in time, guardclash plan STUDY says of your data and machine.", markup=False)
            if RECORDED.is_dir():
                _company(name)
        return
    out.print(listing(mechanisms.values(), others, datasets().values(), tasks()))


def _company(name: str) -> None:
    """What is on record of a mechanism in the company of others."""
    from guardclash.reporting.atlas import beside, sights_of

    found = beside(sights_of([RECORDED]), name)
    if found:
        out.print(f"\nOn record in {RECORDED}/ beside others (guardclash atlas):", markup=False)
    for other, words in found.items():
        said = ", ".join(f"{count} {word}" for word, count in words.items())
        out.print(f"  {other}: {said}", markup=False, highlight=False)
