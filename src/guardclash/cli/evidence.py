"""`guardclash evidence`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from guardclash.cli.console import out
from guardclash.cli.options import RUNS, DataPath, StorePath, StudyPath, site_of
from guardclash.studies.study_file import read_study


def evidence(
    study: StudyPath,
    folder: Annotated[Path, typer.Argument(help="Where to write the pictures.")],
    store: StorePath = RUNS,
    data_dir: DataPath = None,
    seed: Annotated[int, typer.Option(help="The replicate whose secrets are drawn.", min=0)] = 0,
) -> None:
    """Writes pictures of what mechanisms put into the training.

    Such as trigger images, and pairs of clean and marked images.
    """
    from guardclash.studies.evidence import keep_evidence

    for path, picture in keep_evidence(read_study(study), site_of(store, data_dir), folder, seed):
        out.print(f"{path}: {picture.caption}", soft_wrap=True, markup=False)
