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
    results_path,
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
    """What is measured so far beside the published numbers that the study names, and whether conclusions agree.

    No data are read: --data-dir is taken only so that the options of a run fit here as well.
    """
    from guardclash.records.file import read_results
    from guardclash.records.results import Results
    from guardclash.reporting.compare import compare_tables
    from guardclash.reporting.findings import find
    from guardclash.reporting.reference import reference_of

    wanted = restricted(read_study(study, scale), datasets)
    reference, path = reference_of(wanted), results_path(wanted, store, results)
    # Published numbers can be looked at before anything is run; a file that was named must be there.
    known = read_results(path) if results or path.is_file() else Results()
    for part in compare_tables(find(wanted, known, rule_of(rule)), reference):
        out.print(part)
