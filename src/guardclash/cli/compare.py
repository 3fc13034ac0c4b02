"""`guardclash compare`."""

from __future__ import annotations

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
) -> None:
    """What is measured so far, beside published numbers.

    Those that the study names, and whether conclusions agree.
    """
    from guardclash.records.results import Results
    from guardclash.reporting.compare import compare_tables
    from guardclash.reporting.findings import find
    from guardclash.reporting.reference import reference_of

    whole = read_study(study, scale)
    wanted = restricted(whole, datasets)
    reference = reference_of(wanted)
    # Published numbers can be looked at before anything is run.
    known = results_there(whole, store, results, data_dir) or Results()
    for part in compare_tables(find(wanted, known, rule_of(rule)), reference):
        out.print(part)
