"""`guardclash figure`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from guardclash.cli.console import write
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
    results_of,
    rule_of,
)
from guardclash.reporting.figures import FIGURES
from guardclash.studies.study_file import read_study


def figure(  # noqa: PLR0913, PLR0917  (options of a command, given by name)
    name: Annotated[str, typer.Argument(metavar="NAME", help=f"Which figure: {', '.join(FIGURES)}.")],
    study: StudyPath,
    output: Annotated[Path, typer.Option("-o", "--output", help="A file to write: .svg, .pdf or .png.")],
    store: StorePath = RUNS,
    results: ResultsPath = None,
    rule: Rule = None,
    scale: Scale = None,
    datasets: Datasets = None,
    data_dir: DataPath = None,
) -> None:
    """Draws what is measured so far; works on a half-finished study. Needs matplotlib."""
    from guardclash.reporting.figures import draw, figure_named, form_of
    from guardclash.reporting.findings import find

    form, _ = form_of(output), figure_named(name)  # mistakes are told before anything is read
    whole = read_study(study, scale)
    known = results_of(whole, store, results, data_dir)
    found = find(restricted(whole, datasets), known, rule_of(rule))
    write(draw(name, found, form), output, "figure")
