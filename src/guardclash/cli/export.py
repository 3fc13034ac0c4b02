"""`guardclash export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from guardclash.cli.console import out, say
from guardclash.cli.options import RUNS, DataPath, Scale, StorePath, StudyPath
from guardclash.errors import UserError
from guardclash.studies.study_file import read_study


def export_records(
    study: StudyPath,
    folder: Annotated[
        Path | None, typer.Argument(help="Where to write; by default where the study keeps its records.")
    ] = None,
    store: StorePath = RUNS,
    scale: Scale = None,
    data_dir: DataPath = None,
) -> None:
    """Writes the record of a study into a folder, to be kept.

    Raw values per seed, plans, pictures, no weights.

    Verdicts and reports follow from it: `guardclash report STUDY --results FOLDER`.
    """
    from guardclash.reporting.export import export
    from guardclash.studies.held import held

    wanted = read_study(study, scale)
    target = folder or (wanted.records / wanted.name if wanted.records else None)
    if target is None:
        mend = 'Give a folder, or name one in the study: records = "../results".'
        raise UserError("no folder to write to", where=study, mend=mend)
    known = held(wanted, store, data_dir, say)
    if known is None:
        raise UserError("no results yet", where=store, mend="Run the study first: guardclash run STUDY.")
    for path in export(known, target):
        out.print(str(path), markup=False, soft_wrap=True)
