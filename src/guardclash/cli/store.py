"""`guardclash store`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from guardclash.cli.console import out
from guardclash.cli.options import RUNS, StorePath
from guardclash.errors import UserError
from guardclash.writing import write_whole

Packed = Annotated[Path, typer.Argument(help="The file, such as results.tar.xz.")]

store = typer.Typer(help="The folder that results are kept in.", no_args_is_help=True, rich_markup_mode=None)


@store.command("check")
def check(
    folder: StorePath = RUNS,
    repair: Annotated[
        bool, typer.Option("--repair", help="Take damaged files away, so that the next run makes them anew.")
    ] = False,
) -> None:
    """Reads every file and checks it; exit code 1 if one is damaged.

    Whether somebody needs it at the moment or not.
    """
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


@store.command("pack")
def pack(file: Packed, folder: StorePath = RUNS) -> None:
    """Writes results into one file, without weights.

    Another machine goes on with them by `store add`.
    """
    from guardclash.studies.carried import packed
    from guardclash.studies.store import Store

    if not folder.is_dir():
        raise UserError("there is no such folder", where="--store", got=str(folder))
    kept = Store(folder)
    content = packed(kept)
    try:
        write_whole(file, content)
    except OSError as error:
        raise UserError(f"the file cannot be written: {error.strerror}", where=file) from error
    for name, why in kept.damaged.items():
        out.print(f"damaged and left out: {folder / name}: {why}", markup=False, soft_wrap=True)
    out.print(f"{file}: {len(content):,} bytes", markup=False, soft_wrap=True)


@store.command("add")
def add(file: Packed, folder: StorePath = RUNS) -> None:
    """Puts packed results into the store.

    What is there already stays. Weights that are needed are trained again.
    """
    from guardclash.studies.carried import add as carried
    from guardclash.studies.store import Store

    found = carried(file, Store(folder))
    out.print(f"{found.trials} trainings and {found.measurements} measurements are new", markup=False)
