"""`guardclash compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from guardclash.cli.console import out
from guardclash.cli.options import (
    RUNS,
    DataPath,
    Datasets,
    ResultsPath,
    Rule,
    Scale,
    StorePath,
    StudyPath,
    restricted,
    results_there,
    rule_of,
)
from guardclash.studies.study_file import read_study


def compare(
    study: StudyPath,
    store: StorePath = RUNS,
    results: ResultsPath = None,
    rule: Rule = None,
    scale: Scale = None,
    datasets: Datasets = None,
    data_dir: DataPath = None,
    before: Annotated[
        Path | None, typer.Option(help="An earlier results.json of the study: print what is judged otherwise now.")
    ] = None,
) -> None:
    """What is measured so far, beside published or earlier numbers.

    Published ones are those that the study names, with whether conclusions
    agree; earlier ones those of a results file, with what changed.
    """
    from guardclash.records.file import read_results
    from guardclash.records.results import Results
    from guardclash.reporting.changes import changes
    from guardclash.reporting.compare import compare_tables
    from guardclash.reporting.findings import find
    from guardclash.reporting.reference import reference_of

    whole = read_study(study, scale)
    wanted = restricted(whole, datasets)
    # Published numbers can be looked at before anything is run.
    known = results_there(whole, store, results, data_dir) or Results()
    if before is not None:
        earlier, now = (find(wanted, one, rule_of(rule)) for one in (read_results(before), known))
        out.print(str(changes(earlier, now)), markup=False, highlight=False)
        return
    for part in compare_tables(find(wanted, known, rule_of(rule)), reference_of(wanted)):
        out.print(part)
