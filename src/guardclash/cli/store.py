"""`guardclash store`."""

from __future__ import annotations

from typing import Annotated

import typer

from guardclash.cli.console import out
from guardclash.cli.options import RUNS, StorePath
from guardclash.errors import UserError

store = typer.Typer(help="The folder that results are kept in.", no_args_is_help=True, rich_markup_mode=None)


@store.command("check")
def check(
    folder: StorePath = RUNS,
    repair: Annotated[
        bool, typer.Option("--repair", help="Take damaged files away, so that the next run makes them anew.")
    ] = False,
) -> None:
    """Reads every file and checks it, whether somebody needs it at the moment or not; exit code 1 if one is damaged."""
    from guardclash.studies.inspection import inspected, repaired
    from guardclash.studies.store import Store

    if not folder.is_dir():
        raise UserError("there is no such folder", where="--store", got=str(folder))
    found = inspected(Store(folder))
    for name, why in found.damaged.items():
        out.print(f"damaged: {folder / name}: {why}", markup=False, soft_wrap=True)
    if repair and found.damaged:
        repaired(Store(folder), found)
    word = "taken away" if repair else "damaged"
    out.print(f"{found.files} files checked, {len(found.damaged)} {word}", markup=False)
    if found.damaged and not repair:
        raise typer.Exit(1)


@store.callback()
def group() -> None:
    """Keeps `check` a command of its own though it is the only one."""
