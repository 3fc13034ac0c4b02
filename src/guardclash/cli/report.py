"""`guardclash report`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from guardclash.cli.console import print_text, say, write
from guardclash.cli.options import (
    RUNS,
    DataPath,
    Datasets,
    ResultsPath,
    Rule,
    Scale,
    StorePath,
    StudyPath,
    Wide,
    restricted,
    results_of,
    rule_of,
)
from guardclash.errors import UserError
from guardclash.reporting.forms import FORMS, form_asked
from guardclash.studies.study_file import read_study


def report(  # noqa: PLR0913, PLR0917  (options of a command, given by name)
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
    data_dir: DataPath = None,
    wide: Wide = False,
    bib: Annotated[
        Path | None, typer.Option("--bib", help="Also write the sources of the method, for --format tex.")
    ] = None,
) -> None:
    """What is measured so far, in the form that is asked for.

    It works on a half-finished study.
    """
    from guardclash.reporting.findings import find

    chosen = form_asked(form, output)
    if bib is not None and chosen != "tex":
        raise UserError("sources go with LaTeX", where="--bib", got=chosen, allowed="--format tex")
    whole = read_study(study, scale)
    known = results_of(whole, store, results, data_dir)
    found = find(restricted(whole, datasets), known, rule_of(rule))
    if chosen == "text" and output is None:
        print_text(found, wide)
        return
    content = FORMS[chosen](found)
    if output is None:
        sys.stdout.buffer.write(content)  # bytes, as in a file: no encoding of the terminal, no line ends
    else:
        write(content, output, "report")
    if bib is not None:
        from guardclash.reporting.latex_parts.overview import bibliography

        write(bibliography(found).encode(), bib, "bibliography")
    if found.unfinished:
        say(f"note: {found.unfinished}")
