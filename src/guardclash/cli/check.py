"""`guardclash check`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from guardclash.cli.console import out, say
from guardclash.cli.options import DataPath, Datasets, Scale, StudyPath, restricted, site_of
from guardclash.errors import UserError
from guardclash.studies.study_file import read_study


def check(study: StudyPath, data_dir: DataPath = None, scale: Scale = None, datasets: Datasets = None) -> None:
    """Tries every part of a study on few examples.

    One step of each training and every measurement: mistakes are told in seconds.
    """
    from guardclash.studies.dry_run import check_study

    dry = check_study(restricted(read_study(study, scale), datasets), site_of(Path(), data_dir))
    refuse(dry)
    out.print(str(dry), markup=False, soft_wrap=True)


def refuse(dry: Any) -> None:
    """Ends the command where a dry run found mistakes: each in a line, and exit code 2.

    Raises:
        UserError: There is a single one.
        typer.Exit: There are several.
    """
    for mistake in dry.mistakes:
        if len(dry.mistakes) == 1:
            raise UserError(str(mistake))
        say(f"error: {mistake}")
    if dry.mistakes:
        raise typer.Exit(2)
