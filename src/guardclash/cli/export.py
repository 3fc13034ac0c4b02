"""`guardclash export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from guardclash.cli.console import out
from guardclash.cli.options import RUNS, Scale, StorePath, StudyPath
from guardclash.errors import UserError
from guardclash.studies.study_file import read_study


def export_records(
    study: StudyPath,
    folder: Annotated[
        Path | None, typer.Argument(help="Where to write; by default where the study keeps its records.")
    ] = None,
    store: StorePath = RUNS,
    scale: Scale = None,
) -> None:
    """Writes the record of a study into a folder: raw values per seed, plans, pictures, no weights; to be kept.

    Verdicts and reports follow from it: `guardclash report STUDY --results FOLDER`.
    """
    from guardclash.records.file import read_results
    from guardclash.reporting.export import export

    wanted = read_study(study, scale)
    target = folder or (wanted.records / wanted.name if wanted.records else None)
    if target is None:
        mend = 'Give a folder, or name one in the study: records = "../results".'
        raise UserError("no folder to write to", where=study, mend=mend)
    own = store / "studies" / f"{wanted.name}.json"
    for path in export(read_results(own), target):
        out.print(str(path), markup=False, soft_wrap=True)
