"""`guardclash plan`."""

from __future__ import annotations

from typing import Annotated

import typer

from guardclash.cli.console import out
from guardclash.cli.options import (
    RUNS,
    DataPath,
    Datasets,
    Scale,
    StorePath,
    StudyPath,
    Wide,
    Workers,
    cores,
    restricted,
    site_of,
)
from guardclash.studies.study_file import read_study


def plan(
    study: StudyPath,
    store: StorePath = RUNS,
    data_dir: DataPath = None,
    workers: Workers = None,
    full: Annotated[bool, typer.Option("--full", help="Print every plan with all its parts.")] = False,
    scale: Scale = None,
    datasets: Datasets = None,
    wide: Wide = False,
) -> None:
    """What a run would train, what is shared, how long it would take.

    It trains nothing.
    """
    from guardclash.planning import planned

    out.wide = wide
    wanted = restricted(read_study(study, scale), datasets)
    for part in planned(wanted, site_of(store, data_dir), cores() if workers is None else max(workers, 1), full):
        out.print(part)
