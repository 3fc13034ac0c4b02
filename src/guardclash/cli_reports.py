"""The commands that read results: report, figure, compare, export."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from guardclash.cli_data import DataPath, out
from guardclash.cli_options import (
    RUNS,
    Datasets,
    ResultsPath,
    Rule,
    Scale,
    StorePath,
    StudyPath,
    print_text,
    restricted,
    results_of,
    results_path,
    rule_of,
    say,
    write,
)
from guardclash.errors import UserError
from guardclash.reporting.figures import FIGURES
from guardclash.reporting.forms import FORMS, form_asked
from guardclash.studies.study_file import read_study


def report(
    study: StudyPath,
    store: StorePath = RUNS,
    results: ResultsPath = None,
    rule: Rule = None,
    form: Annotated[
        str | None,
        typer.Option("--format", help=f"{', '.join(FORMS)}; by default what the file's suffix says, else text."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="A file to write instead of the terminal.")
    ] = None,
    scale: Scale = None,
    datasets: Datasets = None,
) -> None:
    """What is measured so far, in the form that is asked for; works on a half-finished study."""
    from guardclash.reporting.findings import find

    chosen = form_asked(form, output)
    wanted = restricted(read_study(study, scale), datasets)
    found = find(wanted, results_of(wanted, store, results), rule_of(rule))
    if chosen == "text" and output is None:
        print_text(found)
        return
    content = FORMS[chosen](found)
    if output is None:
        sys.stdout.buffer.write(content)
    else:
        write(content, output, "report")
    if found.unfinished:
        say(f"note: {found.unfinished}")


def figure(
    name: Annotated[str, typer.Argument(metavar="NAME", help=f"Which figure: {', '.join(FIGURES)}.")],
    study: StudyPath,
    output: Annotated[Path, typer.Option("-o", "--output", help="A file to write: .svg, .pdf or .png.")],
    store: StorePath = RUNS,
    results: ResultsPath = None,
    rule: Rule = None,
    scale: Scale = None,
    datasets: Datasets = None,
) -> None:
    """Draws what is measured so far; works on a half-finished study. Needs matplotlib."""
    from guardclash.reporting.figures import draw, figure_named, form_of
    from guardclash.reporting.findings import find

    form, _ = form_of(output), figure_named(name)
    wanted = restricted(read_study(study, scale), datasets)
    found = find(wanted, results_of(wanted, store, results), rule_of(rule))
    write(draw(name, found, form), output, "figure")


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
    known = read_results(path) if results or path.is_file() else Results()
    for part in compare_tables(find(wanted, known, rule_of(rule)), reference):
        out.print(part)


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
        out.print(str(path))
