"""`guardclash status`."""

from __future__ import annotations

from guardclash.cli.console import out
from guardclash.cli.options import (
    RUNS,
    DataPath,
    Datasets,
    Rule,
    Scale,
    StorePath,
    StudyPath,
    restricted,
    ruled,
    site_of,
)
from guardclash.studies.study_file import read_study


def status(
    study: StudyPath,
    store: StorePath = RUNS,
    data_dir: DataPath = None,
    rule: Rule = None,
    scale: Scale = None,
    datasets: Datasets = None,
) -> None:
    """How far a study is.

    Every cell, what runs and how long it will take, what is decided.
    """
    from guardclash.planning import standing

    wanted = ruled(restricted(read_study(study, scale), datasets), rule)
    for part in standing(wanted, site_of(store, data_dir), wanted.rule):
        out.print(part)
